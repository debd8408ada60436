package record

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
)

// windowSize is how much of a segment is mapped at a time.
const windowSize = 2 << 20

// createFile makes a segment that is written through memory: what was copied
// there is the kernel's, and survives the death of the process, without a call
// for each group. Its room on the disk is taken beforehand, since a full disk
// could not be told of later. Where a file system knows neither, and where there
// is no room for a whole window any more, it is written as other files are.
func createFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &mappedFile{File: f}, nil
}

// mappedFile is a file with a window of it in memory. Behind what was written
// stand zeros, until it is closed.
type mappedFile struct {
	*os.File
	window []byte
	from   int64 // where in the file the window begins
	end    int64 // of what was written
	plain  bool  // this file system maps no files, or takes no room beforehand
}

func (m *mappedFile) WriteAt(b []byte, at int64) (n int, err error) {
	if m.reach(at, int64(len(b))) && m.copy(b, at) {
		n = len(b)
	} else if n, err = m.File.WriteAt(b, at); err != nil {
		err = errors.Join(err, m.unmap())
	}
	m.end = max(m.end, at+int64(n))
	return n, err
}

// copy copies b to its place in the window. A page that cannot be had, as on a
// disk that fails, is a signal; it is taken for a report that nothing was written.
func (m *mappedFile) copy(b []byte, at int64) (done bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			done, m.plain = false, true
		}
	}()
	copy(m.window[at-m.from:], b)
	return true
}

// reach makes the window hold size bytes from at on, if it can.
func (m *mappedFile) reach(at, size int64) bool {
	if m.from <= at && at+size <= m.from+int64(len(m.window)) {
		return true
	}
	if m.plain || m.unmap() != nil {
		return false
	}
	page := int64(os.Getpagesize())
	from := at / page * page
	length := (max(windowSize, at+size-from) + page - 1) / page * page
	err := again(func() error { return syscall.Fallocate(int(m.Fd()), 0, from, length) })
	if err != nil {
		m.plain = errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS)
		_ = m.File.Truncate(max(m.end, at)) // what it took is given back: there is little left
		return false
	}
	window, err := syscall.Mmap(int(m.Fd()), from, int(length), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		m.plain = true
		return false
	}
	m.window, m.from = window, from
	return true
}

func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (m *mappedFile) unmap() error {
	if m.window == nil {
		return nil
	}
	window := m.window
	m.window = nil
	if err := syscall.Munmap(window); err != nil {
		return fmt.Errorf("unmap: %w", err)
	}
	return nil
}

// Truncate cuts the file. What is mapped must be within it.
func (m *mappedFile) Truncate(size int64) error {
	if err := m.unmap(); err != nil {
		return err
	}
	m.end = size
	return m.File.Truncate(size)
}

// Close gives back the room that was not used.
func (m *mappedFile) Close() error {
	return errors.Join(m.Truncate(m.end), m.File.Close())
}
