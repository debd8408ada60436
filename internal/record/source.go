package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
)

const (
	batchRecords = 8192    // decisions that one transaction brings, or what one group holds more
	batchBytes   = 4 << 20 // the same in bytes
)

// source is one part of a spool that is being shipped: what this process
// writes, or what another left.
type source struct {
	folder string
	chain  uuid.UUID
	spool  uuid.UUID
	live   *Spool   // nil: nobody writes to it any more
	left   left     // of what others left: what the depth still counts
	held   *os.File // the lock of another spool's folder, with its last part

	reader  *reader
	ahead   *group // read, and does not follow what the batch holds
	batch   batch
	damages int

	known  bool // last and head are where the chain stands in Postgres
	last   uint64
	head   hash
	closed bool // another chain goes on from it

	counted  uint64 // up to which number the depth was lowered
	fellBack bool   // the files were read again, and nothing was found to fill the gap
}

// read begins to read the files of s.
func (s *source) read(damage func(damaged)) {
	s.reader = &reader{folder: s.folder, damage: damage}
	if s.live != nil {
		s.reader.limit = s.live.written
	}
}

// again reads the files once more from their beginning.
func (s *source) again(damage func(damaged)) {
	s.reader.close()
	s.batch.clear()
	s.ahead, s.damages, s.fellBack = nil, 0, true
	s.read(damage)
}

// batch is what the next transaction brings: decisions without a gap between
// them. Its bodies are copies.
type batch struct {
	first    uint64
	bodies   []byte
	ends     []int // of each body, in bodies
	settings []settingsText
	bytes    int64 // what it took in the files
}

func (b *batch) len() uint64 { return uint64(len(b.ends)) }

func (b *batch) body(i int) []byte {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.bodies[start:b.ends[i]]
}

func (b *batch) clear() {
	*b = batch{bodies: b.bodies[:0], ends: b.ends[:0]}
}

// fill reads groups into the batch until it holds so many decisions or is full,
// a gap follows, or there is nothing more for now.
func (s *source) fill(most uint64) error {
	for s.batch.len() < most && len(s.batch.bodies) < batchBytes {
		g := s.ahead
		if g == nil {
			next, err := s.reader.next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read the spool: %w", err)
			}
			g = &next
		}
		if g.kind == groupDecisions && s.batch.len() > 0 && g.first != s.batch.first+s.batch.len() {
			s.ahead = g // its payload stays: nothing is read until it was taken
			return nil
		}
		s.ahead = nil
		s.take(*g)
	}
	return nil
}

func (s *source) take(g group) {
	b := &s.batch
	b.bytes += g.size()
	switch g.kind {
	case groupSettings:
		for _, record := range g.records() {
			if len(record) > digestSize {
				b.settings = append(b.settings, settingsText{settingsDigest(record[:digestSize]), bytes.Clone(record[digestSize:])})
			}
		}
	case groupDecisions:
		if b.len() == 0 {
			b.first = g.first
		}
		for _, record := range g.records() {
			b.bodies = append(b.bodies, record...)
			b.ends = append(b.ends, len(b.bodies))
		}
	}
}

// shipped drops segments that hold nothing but what is in Postgres.
func (s *source) shipped() error {
	segments, err := segmentsOf(s.folder)
	if err != nil {
		return err
	}
	for i := range segments {
		if i+1 >= len(segments) || segments[i+1].first > s.last+1 || segments[i].first >= s.reader.first {
			return nil
		}
		if err := os.Remove(segments[i].path); err != nil {
			return err
		}
	}
	return nil
}
