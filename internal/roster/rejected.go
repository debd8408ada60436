package roster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFaults is how many faults a Rejected lists; the others are counted.
const maxFaults = 100

// Fault says what is wrong with one row. It names no person: ids and lines
// lead to the row.
type Fault struct {
	File   string `json:"file"`
	Line   int    `json:"line"`             // where the row begins, from 1
	Column string `json:"column,omitempty"` // "" when the whole row is wrong
	Why    string `json:"why"`
}

func (f Fault) String() string {
	if f.Column == "" {
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Why)
	}
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Column, f.Why)
}

// Rejected means that rows are wrong and that nothing was imported.
type Rejected struct {
	Faults []Fault `json:"faults"` // the first, in the order of the files
	Count  int     `json:"count"`  // of all
}

// Error lists the faults, one a line.
func (r *Rejected) Error() string {
	var b strings.Builder
	b.WriteString("nothing was imported, ")
	if r.Count == 1 {
		b.WriteString("1 thing is wrong:")
	} else {
		fmt.Fprintf(&b, "%d things are wrong:", r.Count)
	}
	for _, f := range r.Faults {
		b.WriteString("\n  " + f.String())
	}
	if more := r.Count - len(r.Faults); more > 0 {
		fmt.Fprintf(&b, "\n  and %d more", more)
	}
	return b.String()
}

// faults gathers what is wrong, in the order in which the files are read.
type faults struct {
	files []string // their names; a place names one by its index
	kept  []placed
	count int
}

// placed is a fault whose file is still an index, so that it can be sorted.
type placed struct {
	file, line  int
	column, why string
}

func (f *faults) add(file, line int, column, why string) {
	f.count++
	if len(f.kept) < maxFaults {
		f.kept = append(f.kept, placed{file, line, column, why})
	}
}

// rejected is nil while nothing is wrong.
func (f *faults) rejected() error {
	if f.count == 0 {
		return nil
	}
	slices.SortStableFunc(f.kept, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	r := &Rejected{Count: f.count}
	for _, p := range f.kept[:min(len(f.kept), maxFaults)] {
		r.Faults = append(r.Faults, Fault{File: f.files[p.file], Line: p.line, Column: p.column, Why: p.why})
	}
	return r
}
