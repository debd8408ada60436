package roster

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	barWidth = 30
	redraw   = 100 * time.Millisecond
)

// PrintProgress returns a function for Options.Progress that draws a bar on
// out if that is a terminal, and else writes one plain line for each step that
// is done.
func PrintProgress(out *os.File) func(Progress) {
	if !term.IsTerminal(int(out.Fd())) {
		return func(p Progress) {
			if p.Over {
				fmt.Fprintln(out, p.line())
			}
		}
	}
	var drawn time.Time
	return func(p Progress) {
		if p.Over {
			fmt.Fprintf(out, "\r\x1b[K%s\n", p.line())
			return
		}
		if now := time.Now(); now.Sub(drawn) >= redraw {
			drawn = now
			fmt.Fprintf(out, "\r\x1b[K%s", p.bar())
		}
	}
}

// line tells a step that is done.
func (p Progress) line() string {
	if p.Rows == 0 {
		return p.Step + ": done"
	}
	return fmt.Sprintf("%s: %d rows", p.Step, p.Rows)
}

// bar shows how far a step is.
func (p Progress) bar() string {
	if p.Total <= 0 {
		return fmt.Sprintf("%s: %d rows", p.Step, p.Rows)
	}
	part := min(float64(p.Done)/float64(p.Total), 1)
	full := int(part * barWidth)
	return fmt.Sprintf("%-20s [%s%s] %3.0f%%  %d rows", p.Step, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*part, p.Rows)
}
