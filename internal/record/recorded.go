package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// File reads the decisions of a binary export, or of a segment of a spool, for
// a replay: many at a time.
type File struct {
	file   *os.File
	reader *Reader
	query  Query
	left   int // how many may still be taken; -1: any
	done   atomic.Int64
	total  int64

	mu    sync.Mutex
	texts map[settingsDigest][]byte
}

// OpenFile begins to read the decisions of a file that fit q, of them the
// first if limit is not 0. Limit and After of q are not looked at.
func OpenFile(name string, q Query, limit int) (*File, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	f := &File{file: file, query: q, left: -1, texts: map[settingsDigest][]byte{}}
	if limit > 0 {
		f.left = limit
	}
	info, err := file.Stat()
	if err == nil {
		f.total = info.Size()
		f.reader, err = NewReader(&counted{file, &f.done})
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w; 'chartgate record export decisions --binary' writes one", name, err)
	}
	f.reader.keep = f.keep
	return f, nil
}

func (f *File) keep(digest settingsDigest, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.texts[digest] = bytes.Clone(text)
}

// Next fills b with the next decisions; io.EOF when there are no more.
func (f *File) Next(ctx context.Context, b *Bodies) error {
	b.clear()
	for !b.full() && f.left != 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.reader.unread.left == 0 {
			err := f.reader.nextGroup()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.file.Name(), err)
			}
		}
		if err := f.take(b); err != nil {
			return fmt.Errorf("%s: %w", f.file.Name(), err)
		}
	}
	if b.Len() == 0 {
		return io.EOF
	}
	return nil
}

// take moves decisions from the group at hand to b.
func (f *File) take(b *Bodies) error {
	unread := &f.reader.unread
	all := f.query.anything()
	for unread.left > 0 && !b.full() && f.left != 0 {
		body, ok := unread.next()
		if !ok {
			return errDamage
		}
		if !all {
			var v View
			if err := v.Read(body); err != nil {
				return err
			}
			if !f.query.fits(&v) {
				continue
			}
		}
		b.add(body)
		if f.left > 0 {
			f.left--
		}
	}
	return nil
}

// Settings returns the JSON of the settings of a digest, nil where the file
// does not hold it. It may be called beside Next.
func (f *File) Settings(_ context.Context, digest []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.texts[settingsDigest(digest)], nil
}

// Progress says how many bytes were read, of how many.
func (f *File) Progress() (done, total int64) { return f.done.Load(), f.total }

// Close closes the file.
func (f *File) Close() { f.file.Close() }

// counted counts what is read.
type counted struct {
	from io.Reader
	n    *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// anything reports that every decision fits q.
func (q *Query) anything() bool {
	return q.Practices == nil && q.Practice == "" && q.Client == "" && q.User == "" && q.Action == "" && q.Code == "" && q.Release == "" &&
		q.From.IsZero() && q.To.IsZero()
}

// fits reports whether v is one of those that q asks for: what decisionFilter
// says of rows.
func (q *Query) fits(v *View) bool {
	is := func(asked string, b []byte) bool { return asked == "" || asked == string(b) }
	if !is(q.Practice, v.Practice) || !is(q.Client, v.Client()) || !is(q.User, v.SubjectID) || !is(q.Action, v.Action) || !is(q.Release, v.Release) {
		return false
	}
	if q.Practices != nil && !slices.Contains(q.Practices, string(v.Practice)) {
		return false
	}
	if at := moment(v.At); !q.From.IsZero() && at.Before(q.From) || !q.To.IsZero() && !at.Before(q.To) {
		return false
	}
	if is(q.Code, v.Code) {
		return true
	}
	for basis := range v.Bases.All() {
		if string(basis) == q.Code {
			return true
		}
	}
	return false
}
