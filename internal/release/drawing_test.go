package release

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The drawing in README.md shows the table of transitions, line by line.
func TestTheDrawingIsTheTable(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	name := func(s string) State {
		if s == "[*]" {
			return StateAbsent
		}
		return State(s)
	}
	type line struct {
		from, to State
		verb     Verb
	}
	drawn := map[line]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  (\S+) --> (\S+): (.+)$`).FindAllStringSubmatch(string(text), -1) {
		for verb := range strings.SplitSeq(m[3], ", ") {
			verb, _, _ = strings.Cut(verb, " (")
			drawn[line{name(m[1]), name(m[2]), Verb(verb)}] = true
		}
	}
	for _, tr := range Transitions {
		l := line{tr.From, tr.To, tr.Verb}
		if !drawn[l] {
			t.Errorf("%s --> %s: %s is not drawn", tr.From, tr.To, tr.Verb)
		}
		delete(drawn, l)
	}
	for l := range drawn {
		t.Errorf("%s --> %s: %s is drawn, and not in the table", l.from, l.to, l.verb)
	}
}
