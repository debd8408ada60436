package roster

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
)

// stage copies a file into the staging table of its kind and notes every row
// that is wrong in itself. A row whose key can be read is staged without its
// wrong cells, so that rows which name it are not reported as well. It reports
// whether the file could be read to its end.
func (l *loader) stage(ctx context.Context, number int, f File) (bool, error) {
	open, err := f.Open()
	if err != nil {
		return false, err
	}
	defer open.Close()
	input := &counted{Reader: open}
	step := Progress{Step: "read " + f.Name}
	if info, err := open.Stat(); err == nil {
		step.Total = info.Size()
	}
	s := &source{ctx: ctx, kind: f.kind, file: number, n: l.staged[f.kind.name], faults: &l.faults, values: make([]any, 3+len(f.kind.columns))}
	s.progress = func(rows int64, over bool) {
		step.Done, step.Rows, step.Over = input.bytes, rows, over
		l.progress(step)
	}
	if f.ndjson {
		s.reader = newNDJSON(input, f.kind)
	} else if s.reader, err = newCSV(input, f.kind); err != nil {
		return false, l.unreadable(number, f, err)
	}
	_, err = l.tx.CopyFrom(ctx, pgx.Identifier{f.kind.staging}, f.kind.stagingColumns(), s)
	l.staged[f.kind.name] = s.n
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Name, err)
	}
	s.progress(s.rows, true)
	if s.cut != nil {
		return false, l.unreadable(number, f, s.cut)
	}
	return true, nil
}

// unreadable notes why a file cannot be read on; other errors are returned.
func (l *loader) unreadable(number int, f File, err error) error {
	var bad *badFile
	var row *badRow
	switch {
	case errors.As(err, &bad):
		for _, b := range bad.why {
			l.faults.add(number, b.line, b.column, b.why)
		}
		return nil
	case errors.As(err, &row): // the header is no row of CSV
		l.faults.add(number, row.line, row.column, row.why)
		return nil
	}
	return fmt.Errorf("%s: %w", f.Name, err)
}

// source feeds COPY with the rows of one file.
type source struct {
	ctx      context.Context
	reader   rowReader
	kind     *kind
	file     int
	n        int64 // number of the last staged row of this kind, over all files
	rows     int64 // read from this file
	faults   *faults
	values   []any
	progress func(rows int64, over bool)
	cut      *badFile // why it could not be read to its end
	err      error    // why it cannot be imported at all
}

// progressEvery is how many rows lie between two reports.
const progressEvery = 10_000

// Next implements pgx.CopyFromSource.
func (s *source) Next() bool {
	for {
		cells, line, err := s.reader.next()
		var bad *badRow
		switch {
		case err == io.EOF:
			return false
		case errors.As(err, &s.cut):
			return false
		case errors.As(err, &bad):
			s.rows++
			s.faults.add(s.file, bad.line, bad.column, bad.why)
			continue
		case err != nil:
			s.err = err
			return false
		}
		if s.rows++; s.rows%progressEvery == 0 {
			if s.err = s.ctx.Err(); s.err != nil {
				return false
			}
			s.progress(s.rows, false)
		}
		if s.take(cells, line) {
			return true
		}
	}
}

// take reads the cells of a row into values. It reports false when the key of
// the row is wrong.
func (s *source) take(cells []cell, line int) bool {
	known := true
	for i := range s.kind.columns {
		c := &s.kind.columns[i]
		v, err := c.value(cells[i])
		if err != nil {
			s.faults.add(s.file, line, c.name, err.Error())
			known = known && i >= s.kind.keys
		}
		s.values[3+i] = v
	}
	if !known {
		return false
	}
	s.n++
	s.values[0], s.values[1], s.values[2] = s.n, s.file, line
	return true
}

// Values implements pgx.CopyFromSource.
func (s *source) Values() ([]any, error) { return s.values, nil }

// Err implements pgx.CopyFromSource.
func (s *source) Err() error { return s.err }
