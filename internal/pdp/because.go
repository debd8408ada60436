package pdp

import (
	"regexp"
	"strings"
	"time"

	"chartgate/internal/authz"
)

// Display holds facts that are shown and never decided on, by the name that a
// text gives them: one of Displayed.
type Display map[string]string

// Displayed are the names of such facts, and what they are.
var Displayed = map[string]string{
	"grant.granted_by": "who gave the grant",
	"grant.reason":     "the reason that was given with it",
}

var (
	aside       = regexp.MustCompile(`\[[^\[\]]*\]`)
	placeholder = regexp.MustCompile(`\{[a-z_.]+\}`)
)

// Sentences says why, in plain English: one sentence for each rule that held,
// in its own words and with the facts that mattered. A policy without such
// words gives its sentence for administrators.
func (x Explanation) Sentences(display Display) []string {
	verdict := "denied: "
	if x.Decision.Allow {
		verdict = "allowed: "
	}
	out := []string{}
	for _, text := range x.because {
		out = append(out, verdict+x.fill(text, display))
	}
	if len(out) == 0 && x.Decision.ReasonAdmin != "" {
		out = append(out, x.Decision.ReasonAdmin)
	}
	return out
}

// fill puts facts in the place of {name}. A part in [brackets] is left out
// where one of its facts is not known; elsewhere such a fact is "unknown".
func (x Explanation) fill(text string, display Display) string {
	known := true
	put := func(name string) string {
		name = strings.Trim(name, "{}")
		if s := display[name]; s != "" {
			return s
		}
		s := x.fact(name)
		if s == "" {
			known = false
			return "unknown"
		}
		return s
	}
	text = aside.ReplaceAllStringFunc(text, func(part string) string {
		known = true
		if filled := placeholder.ReplaceAllStringFunc(part[1:len(part)-1], put); known {
			return filled
		}
		return ""
	})
	return placeholder.ReplaceAllStringFunc(text, put)
}

// fact is the text of a place of the facts document, "" where there is none.
func (x Explanation) fact(path string) string {
	var at any = x.document
	for name := range strings.SplitSeq(path, ".") {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	s, _ := at.(string)
	if t, err := time.Parse(authz.TimeLayout, s); err == nil {
		return dayOf(t)
	}
	return s
}

// dayOf writes a time for people: as a day where it is midnight, "" for no end.
func dayOf(t time.Time) string {
	t = t.UTC()
	switch {
	case authz.FormatTime(t) == authz.FormatTime(authz.NoEnd):
		return ""
	case t.Equal(t.Truncate(24 * time.Hour)):
		return t.Format(time.DateOnly)
	}
	return t.Format("2006-01-02 15:04 UTC")
}
