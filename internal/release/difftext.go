package release

import (
	"fmt"
	"io"
	"strings"
)

// Write writes the difference for a terminal: the sentences, then the rows of
// the matrices in which a cell changed; with all, every row.
func (d *Difference) Write(w io.Writer, all bool) {
	fmt.Fprintf(w, "from %s\nto   %s\n%d actions compared, in every situation. Requests are sound (nothing missing or odd) unless a line says otherwise.\n", d.From, d.To, d.Compared)
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n%s (%d)\n", title, len(lines))
			for _, line := range lines {
				fmt.Fprintf(w, "  %s\n", line)
			}
		}
	}
	sentences := func(all []Sentence) []string {
		var out []string
		for _, s := range all {
			out = append(out, s.Text)
		}
		return out
	}
	var open, texts []string
	for _, o := range d.Undecided {
		open = append(open, o.String())
	}
	for _, t := range d.Texts {
		texts = append(texts, fmt.Sprintf("%s: %q, before %q", t.Code, t.After, t.Before))
	}
	list("UNDECIDED: of this nothing is said, and it cannot be approved", open)
	list("Actions that there are no more", d.OnlyFrom)
	list("New actions", d.OnlyTo)
	list("Who may do what", sentences(d.Access))
	list("The answer stays, what is said beside it changes", sentences(d.Wording))
	list("Sentences", texts)
	for _, m := range d.Matrices {
		m.write(w, all)
	}
	if d.Equal {
		fmt.Fprintln(w, "\nproved equal: no situation changes")
	}
}

// write draws the matrix: Y is an allowance, - a denial, ? no answer; "-Y" says
// that the cell changed from - to Y, "Y*" that what is said beside it did.
func (m *Matrix) write(w io.Writer, all bool) {
	var rows []Row
	for _, row := range m.Rows {
		if all || row.changed() {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return
	}
	title := "the settings compared"
	if m.Preset != "" {
		title = "preset " + m.Preset
	}
	fmt.Fprintf(w, "\nIn situations that people know, %s (changed cells: before and after)\n", title)
	width := 0
	for _, row := range rows {
		width = max(width, len(row.title()))
	}
	line := func(title string, cell func(i int) string) {
		var b strings.Builder
		fmt.Fprintf(&b, "  %-*s", width, title)
		for i, c := range m.Columns {
			fmt.Fprintf(&b, " %-*s", len(c.Name), cell(i))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	line("", func(i int) string { return m.Columns[i].Name })
	for _, row := range rows {
		line(row.title(), func(i int) string { return row.Cells[i].mark() })
	}
	for i, c := range m.Columns {
		for _, row := range rows {
			if row.Cells[i].Changed {
				fmt.Fprintf(w, "  %s: %s\n", c.Name, c.Title)
				break
			}
		}
	}
}

func (r Row) title() string {
	if r.On == "" {
		return r.Action
	}
	return r.Action + " (" + r.On + ")"
}

func (r Row) changed() bool {
	for _, c := range r.Cells {
		if c.Changed {
			return true
		}
	}
	return false
}

func (c Cell) mark() string {
	short := func(s string) string {
		if s == "" {
			return ""
		}
		return s[:1]
	}
	before, after := short(c.Before), short(c.After)
	switch {
	case !c.Changed:
		return after
	case before == after:
		return after + "*"
	}
	return before + after
}
