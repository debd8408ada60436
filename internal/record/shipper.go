package record

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	gatherTime  = 20 * time.Millisecond // how long a small batch waits for more
	shipTimeout = 30 * time.Second      // of one transaction
	lastTimeout = 5 * time.Second       // for what is left when the service stops
	longestWait = 5 * time.Second       // between tries when Postgres cannot be had
	adoptEvery  = time.Minute
)

// Shipper brings a spool's decisions to Postgres: in order, each once, what
// earlier processes left first. It computes the links of the chains, off the
// way of any request.
type Shipper struct {
	spool   *Spool
	pool    *pgxpool.Pool
	log     *slog.Logger
	sources []*source // the one that this process writes is the last
	adopted time.Time // when orphans were last looked for
	linker  linker
	copier  copier
	view    View
	load    load
	failing bool
}

// NewShipper returns a Shipper of spool. The role of pool needs no more than
// what the migrations give the sidecar.
func NewShipper(spool *Spool, pool *pgxpool.Pool) *Shipper {
	s := &Shipper{spool: spool, pool: pool, log: spool.options.Log}
	for _, p := range spool.old {
		s.sources = append(s.sources, s.oldSource(p))
	}
	own := &source{folder: spool.part, chain: spool.chain, spool: spool.id, live: spool}
	own.read(s.damaged(own))
	s.sources = append(s.sources, own)
	return s
}

func (s *Shipper) oldSource(p oldPart) *source {
	src := &source{folder: p.folder, chain: p.chain, spool: p.spool, left: p.left}
	src.read(s.damaged(src))
	return src
}

func (s *Shipper) damaged(src *source) func(damaged) {
	return func(d damaged) {
		src.damages++
		s.log.Error("the record's spool is damaged", "file", d.path, "offset", d.offset, "bytes", d.size)
	}
}

// written is up to where whole groups stand.
func (s *Spool) written() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tail
}

// Run ships until ctx ends, and then what is left, for a few seconds: what does
// not get through stays in the spool for the next process. It returns nil.
func (s *Shipper) Run(ctx context.Context) error {
	defer s.release()
	wait := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		more, err := s.round(ctx)
		took := time.Since(began)
		switch {
		case err != nil && ctx.Err() == nil:
			s.spool.stats.ShipFailures.Add(1)
			if !s.failing {
				s.log.Error("decisions wait in the spool: they cannot be brought to Postgres", "error", err)
			}
			s.failing = true
			wait = min(max(2*wait, 100*time.Millisecond), longestWait)
			pause(ctx, wait, nil)
		case err == nil:
			if s.failing {
				s.log.Info("decisions are brought to Postgres again")
			}
			s.failing, wait = false, 0
			if !more {
				pause(ctx, adoptEvery, s.spool.wake)
				pause(ctx, gatherTime, nil)
			}
			s.giveWay(ctx, took)
		}
	}
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer stop()
	if err := s.Drain(last); err != nil {
		s.log.Warn("decisions stay in the spool until the next start", "records", s.spool.stats.DepthRecords.Load(), "error", err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// Drain ships until there is nothing left, or until something fails. Run must
// not be running.
func (s *Shipper) Drain(ctx context.Context) error {
	for {
		more, err := s.round(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// round ships one batch. It reports whether there may be more at once.
func (s *Shipper) round(ctx context.Context) (more bool, err error) {
	if err := s.adopt(); err != nil {
		return false, err
	}
	src := s.sources[0]
	most := s.most()
	if err := src.fill(most); err != nil {
		return false, err
	}
	stats := &s.spool.stats
	if src.batch.len() == 0 {
		if src.live != nil {
			stats.DepthBytes.Add(-src.batch.bytes)
			src.batch.clear()
			stats.oldest.Store(0)
			return false, nil
		}
		return true, s.finish(ctx, src)
	}
	stats.oldest.Store(int64(binary.LittleEndian.Uint64(src.batch.body(0)[20:])))
	err = s.ship(ctx, src)
	if errors.Is(err, errFellBack) {
		src.again(s.damaged(src))
		return true, nil
	}
	if err != nil {
		src.known = false // it may have been committed all the same: it is looked up
		return false, err
	}
	n := src.batch.len()
	if last := src.batch.first + n - 1; last > src.counted {
		s.counted(src, int64(last-max(src.counted, src.batch.first-1)), src.batch.bytes)
		src.counted = last
	}
	src.batch.clear()
	return n >= most/2 || src.ahead != nil || len(s.sources) > 1, src.shipped()
}

// counted takes what was shipped off the depth.
func (s *Shipper) counted(src *source, records, size int64) {
	if src.live == nil {
		records, size = min(records, src.left.records), min(size, src.left.bytes)
		src.left.records -= records
		src.left.bytes -= size
	}
	s.spool.stats.DepthRecords.Add(-records)
	s.spool.stats.DepthBytes.Add(-size)
}

// finish ends the shipping of what another process left: its tail must be what
// was certainly synced, else that is a gap.
func (s *Shipper) finish(ctx context.Context, src *source) error {
	if mark := readMark(src.folder); mark > 0 {
		if err := s.know(ctx, src); err != nil {
			return err
		}
		if mark > src.last {
			if src.closed {
				return s.outlived(src)
			}
			if err := s.gap(ctx, src, mark); err != nil {
				src.known = false
				return err
			}
		}
	}
	if src.damages == 0 {
		if err := os.RemoveAll(src.folder); err != nil {
			return err
		}
	} else if err := setAside(src.folder); err != nil { // what is damaged is kept, to be looked at
		return err
	}
	s.drop(src)
	return nil
}

func (s *Shipper) drop(src *source) {
	s.counted(src, src.left.records, src.left.bytes)
	src.reader.close()
	if src.held != nil {
		src.held.Close()
	}
	s.sources = s.sources[1:]
}

// setAside renames a part so that no later process ships it again.
func setAside(folder string) error {
	return os.Rename(folder, filepath.Join(filepath.Dir(folder), "damaged-"+filepath.Base(folder)))
}

// know asks Postgres where the chain of src stands, and opens it if it is new.
func (s *Shipper) know(ctx context.Context, src *source) error {
	if src.known {
		return nil
	}
	var head []byte
	if err := s.pool.QueryRow(ctx, openChain, src.chain, src.spool).Scan(&src.last, &head, &src.closed); err != nil {
		return fmt.Errorf("open chain %s: %w", src.chain, err)
	}
	src.known, src.head = true, hash(head)
	return nil
}

// outlived ends the shipping of a chain that another one goes on from already:
// the folder was copied, or brought back. Nothing may be added to it.
func (s *Shipper) outlived(src *source) error {
	err := fmt.Errorf("chain %s of %s was closed by a later one: was the folder copied?", src.chain, src.folder)
	if src.live != nil {
		return s.spool.fail(err)
	}
	s.log.Error("what a process left cannot be shipped, and is set aside", "error", err)
	if err := setAside(src.folder); err != nil {
		return err
	}
	s.drop(src)
	return err
}

// ship brings the batch of src to Postgres. COPY and the move of the chain's
// head are one transaction: both happen once, or neither does.
func (s *Shipper) ship(ctx context.Context, src *source) error {
	ctx, stop := context.WithTimeout(ctx, shipTimeout)
	defer stop()
	if err := s.know(ctx, src); err != nil {
		return err
	}
	b := &src.batch
	if b.first+b.len()-1 <= src.last {
		return nil // an earlier try, or an earlier process, brought it
	}
	if src.closed {
		return s.outlived(src)
	}
	if b.first > src.last+1 {
		if !src.fellBack {
			return errFellBack
		}
		if err := s.gap(ctx, src, b.first-1); err != nil {
			return err
		}
	}
	last, head, err := s.rows(src)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// The head first: it makes a second shipper of this chain wait here.
		if _, err := tx.Exec(ctx, shipChain, src.chain, src.last, last, head[:]); err != nil {
			return err
		}
		if err := putSettings(ctx, tx, b.settings); err != nil {
			return err
		}
		_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(s.copier.b), copyDecisions)
		return err
	})
	if err != nil {
		// pgx may still be reading the rows of a COPY whose connection broke:
		// the next one gets a buffer of its own.
		s.copier = copier{}
		return fmt.Errorf("ship to chain %s: %w", src.chain, err)
	}
	s.spool.stats.Shipped.Add(int64(last - src.last))
	s.spool.stats.Batches.Add(1)
	src.last, src.head, src.fellBack = last, head, false
	return nil
}

// errFellBack is a chain that ends in Postgres before what is at hand: Postgres
// was brought back to an earlier moment, or entries are lost. What the files
// still hold is read again; only what is not there either is a gap.
var errFellBack = errors.New("the chain ends before what is at hand")

// rows writes what is not in Postgres yet as rows of COPY, and returns where
// the chain will stand.
func (s *Shipper) rows(src *source) (last uint64, head hash, err error) {
	b := &src.batch
	head = src.head
	s.copier.begin()
	for i := range b.ends {
		seq, body := b.first+uint64(i), b.body(i)
		if seq <= src.last {
			continue
		}
		if err := s.view.Read(body); err != nil {
			return 0, head, fmt.Errorf("decision %d of chain %s: %w", seq, src.chain, err)
		}
		head = s.linker.next(head, seq, linkDecision, body)
		s.copier.row(src.chain, seq, &head, &s.view, body)
	}
	s.copier.end()
	return b.first + b.len() - 1, head, nil
}

func putSettings(ctx context.Context, tx pgx.Tx, settings []settingsText) error {
	if len(settings) == 0 {
		return nil
	}
	digests, texts := make([][]byte, len(settings)), make([][]byte, len(settings))
	for i := range settings {
		digests[i], texts[i] = settings[i].digest[:], settings[i].text
	}
	_, err := tx.Exec(ctx, insertSettings, digests, texts)
	return err
}

// gap puts on record that entries are lost: the chain goes on behind them.
func (s *Shipper) gap(ctx context.Context, src *source, last uint64) error {
	lost := last - src.last
	s.log.Error("decisions are lost: they were recorded, and can be found no more", "chain", src.chain, "first", src.last+1, "last", last)
	var head []byte
	if err := s.pool.QueryRow(ctx, gapChain, src.chain, src.last, last).Scan(&head); err != nil {
		return fmt.Errorf("record the gap in chain %s: %w", src.chain, err)
	}
	s.spool.stats.Lost.Add(int64(lost))
	src.last, src.head = last, hash(head)
	return nil
}

func (s *Shipper) release() {
	for _, src := range s.sources {
		src.reader.close()
		if src.held != nil {
			src.held.Close()
		}
	}
}
