package roster

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxRow is the longest row, in bytes. It bounds what a quote that is never
// closed can take into memory.
const maxRow = 1 << 20

// rowReader reads a file row by row. The cells are those of the kind's columns
// and are valid until the next call. io.EOF ends it; a *badRow is one row that
// cannot be read, after which reading goes on.
type rowReader interface {
	next() (cells []cell, line int, err error)
}

// badRow is a row that cannot be read.
type badRow struct {
	line        int
	column, why string
}

func (b *badRow) Error() string { return b.why }

// badFile says why a file cannot be read on: its header, or a row without end.
type badFile struct{ why []badRow }

func (b *badFile) Error() string { return b.why[0].why }

type csvReader struct {
	csv   *csv.Reader
	limit *limited
	into  []int // for each field the index of its column
	line  int   // of the last row
	cells []cell
}

// newCSV reads the header.
func newCSV(r io.Reader, k *kind) (*csvReader, error) {
	limit := &limited{reader: r, left: maxRow}
	buffered := bufio.NewReader(limit)
	if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = buffered.Discard(3) // they were peeked
	}
	c := &csvReader{csv: csv.NewReader(buffered), limit: limit, cells: make([]cell, len(k.columns))}
	c.csv.ReuseRecord = true
	header, err := c.csv.Read()
	if err == io.EOF {
		return nil, &badFile{[]badRow{{line: 1, why: "is empty; the first line must name the columns: " + k.names()}}}
	}
	if err != nil {
		return nil, c.read(err)
	}
	line, _ := c.csv.FieldPos(0)
	var bad []badRow
	seen := make([]bool, len(k.columns))
	for _, name := range header {
		name = strings.TrimSpace(name)
		i := k.index(name)
		switch {
		case i < 0:
			bad = append(bad, badRow{line, name, "is no column of " + k.name + "; there are " + k.names()})
			continue
		case seen[i]:
			bad = append(bad, badRow{line, name, "stands twice"})
		}
		seen[i] = true
		c.into = append(c.into, i)
	}
	for i := range k.columns {
		if k.columns[i].required && !seen[i] {
			bad = append(bad, badRow{line, k.columns[i].name, "this column is missing"})
		}
	}
	if bad != nil {
		return nil, &badFile{bad}
	}
	return c, nil
}

func (c *csvReader) next() ([]cell, int, error) {
	c.limit.left = maxRow
	fields, err := c.csv.Read()
	if err != nil {
		return nil, 0, c.read(err)
	}
	c.line, _ = c.csv.FieldPos(0)
	for i, text := range fields {
		c.cells[c.into[i]] = cell{said: true, text: text}
	}
	return c.cells, c.line, nil
}

// read tells a row that cannot be read from a file that cannot.
func (c *csvReader) read(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, errTooLong):
		return &badFile{[]badRow{{line: c.line + 1, why: tooLong}}}
	case !errors.As(err, &parse):
		return err
	case errors.Is(err, csv.ErrFieldCount):
		return &badRow{line: parse.StartLine, why: fmt.Sprintf("must have %d fields, as the header", len(c.into))}
	case errors.Is(err, csv.ErrBareQuote):
		return &badRow{line: parse.Line, why: `has a " within a field; such a field must stand in quotes, with the quote doubled`}
	}
	return &badRow{line: parse.StartLine, why: `has a quote that is not closed, or goes on after it`}
}

var (
	tooLong    = fmt.Sprintf("this row is longer than %d bytes; is a quote never closed?", maxRow)
	errTooLong = errors.New(tooLong)
)

// limited is a reader that fails once more than left bytes are read.
type limited struct {
	reader io.Reader
	left   int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.reader.Read(p)
	l.left -= n
	return n, err
}
