//go:build linux && (amd64 || arm64)

package record

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// quickFile is a segment that is written without telling Go's scheduler, as long
// as that is quick: what goes to the page cache takes a microsecond, and telling
// wakes the scheduler's watchdog each time that all was idle before. Once a write
// took long, as on a disk that cannot keep up, the scheduler is told of the next,
// so that others go on meanwhile. One goroutine writes at a time.
type quickFile struct {
	*os.File
	raw   syscall.RawConn
	quick time.Duration // how long a write may take
	slow  bool          // the last one took longer

	write func(fd uintptr) bool // writes what follows
	b     []byte
	at    int64
	n     int // of b that were written
}

func newSegment(f *os.File) (file, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &quickFile{File: f, raw: raw, quick: time.Millisecond}
	q.write = q.writeTo
	return q, nil
}

// WriteAt is that of os.File.
func (f *quickFile) WriteAt(b []byte, at int64) (n int, err error) {
	began := time.Now()
	if len(b) > 0 && !f.slow {
		f.b, f.at, f.n = b, at, 0
		_ = f.raw.Write(f.write)
		f.b, n = nil, f.n
	}
	if n < len(b) { // a signal came between, or it says why
		var more int
		more, err = f.File.WriteAt(b[n:], at+int64(n))
		n += more
	}
	f.slow = time.Since(began) > f.quick
	return n, err
}

func (f *quickFile) writeTo(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_PWRITE64, fd, uintptr(unsafe.Pointer(&f.b[0])), uintptr(len(f.b)), uintptr(f.at), 0, 0)
	if errno == 0 {
		f.n = int(n)
	}
	return true
}
