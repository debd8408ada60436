package roster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// ndjsonReader reads one JSON object a line, strictly: member names exactly as
// the columns, each at most once.
type ndjsonReader struct {
	kind  *kind
	lines *bufio.Reader
	line  int
	cells []cell
}

func newNDJSON(r io.Reader, k *kind) *ndjsonReader {
	return &ndjsonReader{kind: k, lines: bufio.NewReaderSize(r, maxRow), cells: make([]cell, len(k.columns))}
}

func (n *ndjsonReader) next() ([]cell, int, error) {
	for {
		text, err := n.lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, 0, &badFile{[]badRow{{line: n.line + 1, why: tooLong}}}
		}
		if err != nil && err != io.EOF {
			return nil, 0, err
		}
		if err == io.EOF && len(text) == 0 {
			return nil, 0, io.EOF
		}
		n.line++
		if n.line == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		clear(n.cells)
		if bad := n.object(text); bad != nil {
			bad.line = n.line
			return nil, 0, bad
		}
		return n.cells, n.line, nil
	}
}

// object reads the object of one line into cells.
func (n *ndjsonReader) object(text []byte) *badRow {
	if !utf8.Valid(text) {
		return &badRow{why: "is not UTF-8"}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	broken := &badRow{why: "must be one JSON object"}
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return broken
	}
	// Go reads half of a surrogate pair as U+FFFD: a text that changes while it
	// is read must not pass for what was sent.
	whole := bytes.ContainsRune(text, utf8.RuneError) || bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`))
	for decoder.More() {
		token, err := decoder.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return broken
		}
		i := n.kind.index(name)
		if i < 0 {
			return &badRow{column: name, why: "is no column of " + n.kind.name + "; there are " + n.kind.names()}
		}
		if n.cells[i].said {
			return &badRow{column: name, why: "stands twice"}
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return broken
		}
		said := n.kind.columns[i].cell(raw)
		if !whole && strings.ContainsRune(said.text, utf8.RuneError) {
			said.err = errors.New("holds half of a surrogate pair")
		}
		n.cells[i] = said
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return broken
	}
	if _, err := decoder.Token(); err != io.EOF {
		return broken
	}
	return nil
}

// cell reads a JSON value of the column's form; null is a blank cell.
func (c *column) cell(raw json.RawMessage) cell {
	said := cell{said: true}
	if string(raw) == "null" {
		return said
	}
	switch c.form {
	case formFlag:
		said.text = string(raw)
		if said.text != "true" && said.text != "false" {
			said.err = errors.New("must be true or false")
		}
	case formList:
		said.list = []string{}
		if json.Unmarshal(raw, &said.list) != nil {
			said.err = errors.New("must be a list of texts")
		}
	case formObject:
		said.text = string(raw)
	default:
		if json.Unmarshal(raw, &said.text) != nil {
			said.err = errors.New("must be a text")
		}
	}
	return said
}
