package release

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

// TestEveryAnswerHasItsSentences: whatever a case answers, rules of the policy
// say why in their own words, and every placeholder in them is a fact that
// there is. Every text of the policy is heard.
func TestEveryAnswerHasItsSentences(t *testing.T) {
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	e := engine(t)
	display := pdp.Display{"grant.granted_by": "admin-1", "grant.reason": "coverage"}
	leftover := regexp.MustCompile(`[{}\[\]]`)
	heard := map[string]bool{}
	asked := map[string]bool{}
	for _, c := range cases {
		if like := likeness(c); asked[like] || c.Odd {
			continue
		} else {
			asked[like] = true
		}
		x, err := e.ExplainDocument(t.Context(), c.Document)
		if err != nil {
			t.Fatalf("%s: %v", c.Title, err)
		}
		sentences := x.Sentences(display)
		prefix := "denied: "
		if x.Decision.Allow {
			prefix = "allowed: "
		}
		if len(sentences) == 0 || x.Decision.Allow && len(sentences) < len(x.Decision.Bases) {
			t.Errorf("%s:%d: %s: %d sentences for %s %v", c.File, c.Line, c.Title, len(sentences), x.Decision.Code, x.Decision.Bases)
		}
		for _, s := range sentences {
			if !strings.HasPrefix(s, prefix) || leftover.MatchString(s) || strings.Contains(s, "unknown ") && x.Decision.Code != authz.CodeUnknownAction {
				t.Errorf("%s:%d: %s: %q", c.File, c.Line, c.Title, s)
			}
			heard[x.Decision.Code] = true
		}
	}
	for _, code := range append(engineOrder(t, "bases"), engineOrder(t, "denials")...) {
		if !heard[code] {
			t.Errorf("no case hears the sentences of %s", code)
		}
	}
}

func engineOrder(t *testing.T, of string) []string {
	t.Helper()
	v, _, err := engine(t).Query(t.Context(), "data.tables.order."+of, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, one := range v.([]any) {
		out = append(out, one.(string))
	}
	return out
}
