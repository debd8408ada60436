package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// adopt takes up spools beside this one that nobody writes to any more.
func (s *Shipper) adopt() error {
	root := s.spool.options.Orphans
	if root == "" || time.Since(s.adopted) < adoptEvery {
		return nil
	}
	s.adopted = time.Now()
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("look for orphaned spools: %w", err)
	}
	for _, entry := range entries {
		folder := filepath.Join(root, entry.Name())
		if same(folder, s.spool.folder) || !rests(folder, s.spool.options.adoptAfter) {
			continue
		}
		if err := s.adoptOne(folder); err != nil && !errors.Is(err, ErrHeld) {
			return fmt.Errorf("take up the orphaned spool %s: %w", folder, err)
		}
	}
	return nil
}

func (s *Shipper) adoptOne(folder string) error {
	lock, err := lockFolder(folder)
	if err != nil {
		return err
	}
	id, err := spoolID(folder)
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	parts, err := oldParts(folder, id, s.log)
	if err != nil || len(parts) == 0 {
		return errors.Join(err, lock.Close())
	}
	var found []*source
	for _, p := range parts {
		s.spool.stats.DepthRecords.Add(p.left.records)
		s.spool.stats.DepthBytes.Add(p.left.bytes)
		found = append(found, s.oldSource(p))
	}
	found[len(found)-1].held = lock
	s.log.Info("an orphaned spool is shipped", "folder", folder)
	s.sources = append(found, s.sources...)
	return nil
}

func same(a, b string) bool {
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, two)
}

// rests reports whether folder is a spool whose files nobody has touched for
// that long.
func rests(folder string, long time.Duration) bool {
	if _, err := os.Stat(filepath.Join(folder, idName)); err != nil {
		return false
	}
	rests := true
	err := filepath.WalkDir(folder, func(_ string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && time.Since(info.ModTime()) < long {
			rests = false
		}
		return err
	})
	return err == nil && rests
}
