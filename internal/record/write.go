package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"
)

// lead writes g when its turn has come, and tells all that joined it.
func (s *Spool) lead(g *pending) error {
	s.writing.Lock()
	s.mu.Lock()
	s.open = nil // nobody joins any more
	s.mu.Unlock()
	g.err = s.write(g)
	s.writing.Unlock()
	if cap(g.b) <= 1<<20 {
		s.mu.Lock()
		s.spare = g.b
		s.mu.Unlock()
	}
	if g.done != nil {
		close(g.done)
	}
	return g.err
}

// write appends g to the files, all of it or nothing. The caller holds writing.
func (s *Spool) write(g *pending) error {
	if err := s.failure(); err != nil {
		return err
	}
	if s.at.offset > segmentSize && s.at.offset+int64(len(g.b)) > s.options.SegmentBytes {
		if err := s.roll(); err != nil {
			return s.noRoom(err)
		}
	}
	sealGroup(g.b, groupDecisions, g.count, s.next)
	b, added := s.withSettings(g)
	if err := s.put(b); err != nil {
		return s.noRoom(err)
	}
	for _, text := range added {
		s.known[text.digest] = true
	}
	s.next += uint64(g.count)
	s.stats.wrote(g.count, int64(len(b)))
	if s.options.SyncInterval == 0 {
		if err := s.sync(s.file); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.tail = s.at
	s.mu.Unlock()
	if s.options.SyncInterval == 0 {
		s.putMark(s.at, s.next-1)
	}
	if len(s.wake) == 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// withSettings puts settings that this segment does not hold yet before g.
func (s *Spool) withSettings(g *pending) (b []byte, added []settingsText) {
	for _, text := range g.settings {
		if !s.known[text.digest] {
			added = append(added, text)
		}
	}
	if added == nil {
		return g.b, nil
	}
	return append(settingsGroup(added, s.next), g.b...), added
}

// settingsGroup is a group that holds settings, before the decision next.
func settingsGroup(list []settingsText, next uint64) []byte {
	b := make([]byte, groupSize, 4<<10)
	for _, text := range list {
		b, _ = appendRecord(b, func(b []byte) ([]byte, error) { return append(append(b, text.digest[:]...), text.text...), nil })
	}
	sealGroup(b, groupSettings, uint32(len(list)), next)
	return b
}

// put appends b to the segment. A write that fell short, as on a full disk, is
// taken back at once; if that fails nothing may be written behind it, ever.
func (s *Spool) put(b []byte) error {
	n, err := s.file.WriteAt(b, s.at.offset)
	if err == nil && n == len(b) {
		s.at.offset += int64(n)
		return nil
	}
	if err == nil {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(b))
	}
	if back := s.file.Truncate(s.at.offset); back != nil {
		return s.fail(fmt.Errorf("a torn group could not be taken back: %w", errors.Join(back, err)))
	}
	return err
}

// roll begins a new segment. The full one is synced before or soon after it.
func (s *Spool) roll() error {
	path := segmentPath(s.part, s.next)
	f, err := s.options.create(path)
	if err != nil {
		return err
	}
	head := segmentHead{s.id, s.chain, s.next}.append(nil)
	if n, err := f.WriteAt(head, 0); err != nil || n < len(head) {
		if err == nil {
			err = fmt.Errorf("wrote %d of %d bytes", n, len(head))
		}
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	if s.options.SyncInterval == 0 && s.file != nil {
		err := errors.Join(s.file.Close(), s.sync(f), syncFolder(s.part))
		if err != nil {
			return s.fail(err)
		}
	} else if s.file != nil {
		s.mu.Lock()
		s.rolled = append(s.rolled, s.file)
		s.mu.Unlock()
	}
	s.file, s.known = f, map[settingsDigest]bool{}
	s.at = position{s.next, segmentSize}
	return nil
}

// sync brings f to the disk. After a failure nobody knows what is on it, and
// a second try would lie: the spool takes nothing any more.
func (s *Spool) sync(f file) error {
	s.stats.Syncs.Add(1)
	if err := f.Sync(); err != nil {
		return s.fail(fmt.Errorf("sync: %w", err))
	}
	return nil
}

// syncEvery brings what was written to the disk, until the spool is closed.
func (s *Spool) syncEvery() {
	tick := time.NewTicker(s.options.SyncInterval)
	defer tick.Stop()
	var done position
	for {
		select {
		case <-tick.C:
		case <-s.ended:
			return
		}
		s.writing.Lock() // these belong together
		f, tail, last := s.file, s.at, s.next-1
		s.mu.Lock()
		rolled := s.rolled
		s.rolled = nil
		s.mu.Unlock()
		s.writing.Unlock()
		if tail == done || s.syncUpTo(rolled, f, tail, last) != nil {
			continue
		}
		done = tail
	}
}

// syncUpTo syncs the full segments and f, which holds everything up to tail, and
// then notes that.
func (s *Spool) syncUpTo(rolled []file, f file, tail position, last uint64) error {
	if err := s.failure(); err != nil {
		return err
	}
	for _, full := range rolled {
		if err := s.sync(full); err != nil {
			return err
		}
		if err := full.Close(); err != nil {
			return s.fail(err)
		}
	}
	if len(rolled) > 0 {
		if err := syncFolder(s.part); err != nil {
			return s.fail(err)
		}
	}
	if err := s.sync(f); err != nil {
		return err
	}
	s.putMark(tail, last)
	return nil
}

// markSize is the size of the mark: segment, offset, last sequence number, checksum.
const markSize = 28

// putMark notes what has certainly reached the disk. The note only tells a cut
// tail from one that was never written, so its own loss is none.
func (s *Spool) putMark(tail position, last uint64) {
	var b [markSize]byte
	binary.LittleEndian.PutUint64(b[0:], tail.first)
	binary.LittleEndian.PutUint64(b[8:], uint64(tail.offset))
	binary.LittleEndian.PutUint64(b[16:], last)
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
	if _, err := s.mark.WriteAt(b[:], 0); err != nil {
		s.options.Log.Warn("the spool's mark could not be written", "error", err)
	}
}

func (s *Spool) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// fail closes the spool for good: every Record is refused until a new process
// has opened and repaired the folder.
func (s *Spool) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("the spool is closed after a fault: %w", err)
		s.options.Log.Error("the record's spool failed; nothing is decided any more", "folder", s.folder, "error", err)
	}
	return s.failed
}

// errClosed is what Record says after Close.
var errClosed = errors.New("the spool is closed")

// Close refuses what comes, waits for what is being written, marks the chain as
// ended in order, and gives the folder free. What is not yet in Postgres is
// shipped by the next process.
func (s *Spool) Close() error {
	s.mu.Lock()
	failed, closed := s.failed, s.closed
	if failed == nil {
		s.failed = errClosed
	}
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	close(s.ended)
	s.syncer.Wait()
	s.writing.Lock() // what joined before is refused by write
	defer s.writing.Unlock()
	var err error
	if failed == nil {
		end := make([]byte, groupSize)
		sealGroup(end, groupEnd, 0, s.next)
		err = s.put(end)
		for _, f := range append(s.rolled, s.file) {
			err = errors.Join(err, f.Sync())
		}
		s.putMark(s.at, s.next-1)
	}
	for _, f := range append(s.rolled, s.file) {
		err = errors.Join(err, f.Close())
	}
	return errors.Join(err, s.mark.Close(), s.lock.Close())
}
