package release

import (
	"fmt"
	"io"
	"strings"
)

// Report is what a check found. The same policies give the same report, so that
// it can be the evidence of a release: it holds no times and no places outside
// the policies.
type Report struct {
	OK       bool   `json:"ok"`       // every step was done, and found nothing
	Revision string `json:"revision"` // of the bundle that these policies make; "" where they make none
	Steps    []Step `json:"steps"`
}

// Step is one thing that was looked at.
type Step struct {
	Name     string    `json:"name"`
	OK       bool      `json:"ok"`
	Skipped  string    `json:"skipped,omitempty"` // the step whose findings keep this one from being done
	Findings []Finding `json:"findings"`
	More     int       `json:"more,omitempty"` // findings that are not listed
	Detail   string    `json:"detail,omitempty"`
}

// Finding is something in the policies that is to be put right.
type Finding struct {
	File    string `json:"file"` // within the policies
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`  // in characters, from 1; 0 where it is about the whole line
	Excerpt string `json:"excerpt,omitempty"` // the line
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"` // what to do
	Rule    string `json:"rule,omitempty"` // the id of the rule that it is about
}

// maxFindings is how many findings of one step a report lists.
const maxFindings = 20

// Findings returns the findings of all steps.
func (r *Report) Findings() []Finding {
	var all []Finding
	for _, s := range r.Steps {
		all = append(all, s.Findings...)
	}
	return all
}

// Count returns how many findings there are, also those that are not listed.
func (r *Report) Count() int {
	n := 0
	for _, s := range r.Steps {
		n += len(s.Findings) + s.More
	}
	return n
}

// Place writes where a finding is, the way compilers do.
func (f Finding) Place() string {
	switch {
	case f.Line == 0:
		return f.File
	case f.Column == 0:
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// String writes a finding in one line.
func (f Finding) String() string {
	said := f.Place() + ": " + f.Text
	if f.Hint != "" {
		said += "; " + f.Hint
	}
	return said
}

// Write writes a finding with the line that it is about, the place in it
// marked, and what to do.
func (f Finding) Write(w io.Writer, indent string) {
	fmt.Fprintf(w, "%s%s: %s\n", indent, f.Place(), f.Text)
	if strings.TrimSpace(f.Excerpt) != "" {
		number := fmt.Sprintf("%4d | ", f.Line)
		fmt.Fprintf(w, "%s%s%s\n", indent, number, strings.ReplaceAll(f.Excerpt, "\t", "    "))
		if f.Column > 0 {
			fmt.Fprintf(w, "%s%s%s^\n", indent, strings.Repeat(" ", len(number)-2)+"| ", blanks(f.Excerpt, f.Column-1))
		}
	}
	if f.Hint != "" {
		fmt.Fprintf(w, "%s%s%s\n", indent, "     = ", f.Hint)
	}
}

// blanks is as wide as the first n characters of a line when it is written.
func blanks(line string, n int) string {
	var out strings.Builder
	for i, r := range []rune(line) {
		switch {
		case i >= n:
			return out.String()
		case r == '\t':
			out.WriteString("    ")
		default:
			out.WriteByte(' ')
		}
	}
	return out.String()
}

// Write writes the step: one line where nothing was found.
func (s Step) Write(w io.Writer) {
	switch {
	case s.Skipped != "":
		fmt.Fprintf(w, "skip  %-13s %s found something\n", s.Name, s.Skipped)
		return
	case s.OK:
		fmt.Fprintf(w, "ok    %-13s %s\n", s.Name, s.Detail)
		return
	}
	fmt.Fprintf(w, "FAIL  %-13s %s\n", s.Name, s.Detail)
	for _, f := range s.Findings {
		f.Write(w, "      ")
	}
	if s.More > 0 {
		fmt.Fprintf(w, "      and %d more\n", s.More)
	}
}

// Changes returns the findings that after has and before does not, and the
// other way round. That a line moved is no change. before may be nil.
func Changes(before, after *Report) (added, gone []Finding) {
	left := map[string]int{}
	var was []Finding
	if before != nil {
		was = before.Findings()
	}
	for _, f := range was {
		left[f.File+"\n"+f.Text]++
	}
	for _, f := range after.Findings() {
		if key := f.File + "\n" + f.Text; left[key] > 0 {
			left[key]--
		} else {
			added = append(added, f)
		}
	}
	for _, f := range was {
		if key := f.File + "\n" + f.Text; left[key] > 0 {
			left[key]--
			gone = append(gone, f)
		}
	}
	return added, gone
}
