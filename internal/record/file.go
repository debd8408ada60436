package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/uuid"
)

// The folder of a spool:
//
//	lock                     held by the process that writes here
//	spool                    the id of the spool: its chains go on from each other
//	000001-<chain>/          what one process wrote, in the order of the starts
//	  0000000000000001.seg   a segment, named after its first sequence number, in hex
//	  mark                   how far it was synced: less than that is a loss
const (
	lockName = "lock"
	idName   = "spool"
	markName = "mark"
	segment  = ".seg"
)

// file is what the spool needs of a segment; tests put failing ones in its place.
type file interface {
	WriteAt(b []byte, at int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// createFile makes a segment. What was written to it is the kernel's, and
// survives the death of the process.
func createFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return newSegment(f)
}

// ErrHeld is a folder that another process writes to.
var ErrHeld = errors.New("another process writes to it")

// lockFolder holds folder for this process until the file is closed, or until
// the process ends, however it ends.
func lockFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrHeld
		}
		return nil, err
	}
	return f, nil
}

// spoolID reads the id of the spool in folder, and makes it the first time.
func spoolID(folder string) (uuid.UUID, error) {
	path := filepath.Join(folder, idName)
	text, err := os.ReadFile(path)
	if err == nil {
		id, err := uuid.Parse(strings.TrimSpace(string(text)))
		if err != nil {
			return uuid.UUID{}, fmt.Errorf("%s: %w", path, err)
		}
		return id, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return uuid.UUID{}, err
	}
	id := uuid.New()
	if err := replaceFile(path, []byte(id.String()+"\n")); err != nil {
		return uuid.UUID{}, err
	}
	return id, nil
}

// replaceFile writes a small file whole or not at all, and syncs it.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes names in folder durable.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// partName is a folder's name for what one process wrote.
type partName struct {
	number int
	chain  uuid.UUID
}

func (p partName) String() string { return fmt.Sprintf("%06d-%s", p.number, p.chain) }

// partsOf lists what processes wrote to folder, oldest first.
func partsOf(folder string) ([]partName, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var parts []partName
	for _, entry := range entries {
		number, chain, ok := strings.Cut(entry.Name(), "-")
		if !ok || !entry.IsDir() {
			continue
		}
		n, err := strconv.Atoi(number)
		id, err2 := uuid.Parse(chain)
		if err == nil && err2 == nil {
			parts = append(parts, partName{n, id})
		}
	}
	slices.SortFunc(parts, func(a, b partName) int { return a.number - b.number })
	return parts, nil
}

// segmentFile is one segment on disk.
type segmentFile struct {
	path  string
	first uint64
}

func segmentPath(folder string, first uint64) string {
	return filepath.Join(folder, fmt.Sprintf("%016x%s", first, segment))
}

// segmentsOf lists the segments of a part, in order.
func segmentsOf(folder string) ([]segmentFile, error) {
	entries, err := os.ReadDir(folder) // by name, which is by number
	if err != nil {
		return nil, err
	}
	var segments []segmentFile
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), segment)
		if !ok {
			continue
		}
		first, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: not a segment's name", filepath.Join(folder, entry.Name()))
		}
		segments = append(segments, segmentFile{filepath.Join(folder, entry.Name()), first})
	}
	return segments, nil
}
