package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// progressBar draws how far something is, with the time that it will still take:
// as a bar on a terminal, and as a line now and then elsewhere.
type progressBar struct {
	out      *os.File
	what     string
	began    time.Time
	terminal bool
	said     time.Time
}

func newProgressBar(out *os.File, what string) *progressBar {
	return &progressBar{out: out, what: what, began: time.Now(), said: time.Now(), terminal: term.IsTerminal(int(out.Fd()))}
}

func (p *progressBar) elapsed() time.Duration { return time.Since(p.began) }

func (p *progressBar) tell(done, total int64) {
	if !p.terminal && time.Since(p.said) < 5*time.Second {
		return
	}
	p.said = time.Now()
	line := fmt.Sprintf("%s: %d", p.what, done)
	if total > 0 && done > 0 {
		part := min(float64(done)/float64(total), 1)
		left := time.Duration(float64(p.elapsed()) * (1 - part) / part).Round(time.Second)
		full := int(30 * part)
		line = fmt.Sprintf("%s [%s%s] %3.0f%%, %v left", p.what, strings.Repeat("#", full), strings.Repeat(".", 30-full), 100*part, left)
	}
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K", line)
		return
	}
	fmt.Fprintln(p.out, line)
}

func (p *progressBar) clear() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
