package record

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Sample is an ordinary decision, the i-th.
var Sample = sample

// AdoptAfter is how long an orphan must rest.
func (o Options) AdoptAfter(d time.Duration) Options { o.adoptAfter = d; return o }

// Found makes s find its process so busy, for a moment.
func (s *Shipper) Found(busy float64) { s.load = load{at: time.Now().Add(time.Minute), busy: busy} }

// Faults makes the files of a spool fail.
type Faults struct {
	mu       sync.Mutex
	Room     int64 // bytes that still fit; -1: any
	Sync     error
	Truncate error
}

// Now changes how they fail.
func (f *Faults) Now(change func(*Faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// WithFaults lets the files of o fail as f says.
func (o Options) WithFaults(f *Faults) Options {
	o.create = func(path string) (file, error) {
		real, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		return &faulty{real, f}, err
	}
	return o
}

type faulty struct {
	*os.File
	faults *Faults
}

// WriteAt writes what fits, as a disk that runs full does.
func (f *faulty) WriteAt(b []byte, at int64) (int, error) {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	whole := len(b)
	if f.faults.Room >= 0 && int64(len(b)) > f.faults.Room {
		b = b[:f.faults.Room]
	}
	n, err := f.File.WriteAt(b, at)
	if f.faults.Room >= 0 {
		f.faults.Room -= int64(n)
	}
	if err == nil && n < whole {
		err = syscall.ENOSPC
	}
	return n, err
}

func (f *faulty) Sync() error {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	return errors.Join(f.faults.Sync, f.File.Sync())
}

func (f *faulty) Truncate(size int64) error {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	if f.faults.Truncate != nil {
		return f.faults.Truncate
	}
	return f.File.Truncate(size)
}

// VerifyAfter runs statements in a transaction, verifies what it sees, and
// takes them back.
func VerifyAfter(ctx context.Context, pool *pgxpool.Pool, statements []string) (Report, error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return Report{}, fmt.Errorf("%s: %w", statement, err)
		}
	}
	v := &verifier{tx: tx}
	err = v.all(ctx, nil)
	return v.report, err
}
