package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	probeName   = "probe" // a file that is there for a moment, to see whether one can be written
	probeSize   = 64 << 10
	usualRecord = 4 << 10 // what must fit for the spool to be called open
)

// Check says why nothing can be recorded, or nil. Readiness asks it. Where a
// group could not be written, as on a full disk, it tries the disk itself: who
// is not ready is asked nothing, and would never find out.
func (s *Spool) Check() error {
	s.mu.Lock()
	err := s.refusal(usualRecord)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	short := s.short.Load()
	if short == nil {
		return nil
	}
	if err := s.probe(); err != nil {
		return fmt.Errorf("a decision could not be written: %w", errors.Join(*short, err))
	}
	s.short.CompareAndSwap(short, nil)
	return nil
}

// noRoom notes that a group could not be written, and returns err.
func (s *Spool) noRoom(err error) error {
	s.short.Store(&err)
	return err
}

// probe writes a file of the size of a group, and takes it away.
func (s *Spool) probe() error {
	path := filepath.Join(s.folder, probeName)
	f, err := s.options.create(path)
	if err != nil {
		return err
	}
	n, err := f.WriteAt(make([]byte, probeSize), 0)
	if err == nil && n < probeSize {
		err = fmt.Errorf("wrote %d of %d bytes", n, probeSize)
	}
	return errors.Join(err, f.Close(), os.Remove(path))
}
