package release

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Why is one case looked into: what was known, what came out, the rules that
// held, and what keeps the nearest rule from holding.
type Why struct {
	Case   Case
	Result Result
	Held   []*ast.Rule // of rules/, in the order of files
	Miss   *Miss       // of a refusal: the nearest rule of a basis, or why a denial holds

	sentences []string        // why, in the words of the rules
	settings  map[string]bool // that some rule reads
}

// Miss is a rule that does not hold.
type Miss struct {
	Rule  *ast.Rule
	Fails []Condition
	Of    int // conditions that it has
}

// Condition is one that stands in the way: it does not hold, or it is one of a
// denial and holds.
type Condition struct {
	At    *ast.Location
	Text  string
	Holds bool
	Facts []string  // those that it reads, with their values
	Miss  *Miss     // what the rule misses that it asks for, where it asks for one
	By    *ast.Rule // the rule that holds and should not, where it asks that one does not
}

// FindCases returns the cases that somebody names: by number (the first is 1),
// or by words, each of which is a file, a file and line, or a part of what is
// asked.
func FindCases(cases []Case, which string) []Case {
	if n, err := strconv.Atoi(which); err == nil {
		if n < 1 || n > len(cases) {
			return nil
		}
		return cases[n-1 : n]
	}
	var found []Case
	for _, c := range cases {
		place := fmt.Sprintf("%s:%d", path.Base(c.File), c.Line)
		if !slices.ContainsFunc(strings.Fields(which), func(word string) bool {
			base := path.Base(strings.TrimSuffix(word, ":"))
			return base != place && base != path.Base(c.File) && !strings.Contains(c.Title, word)
		}) {
			found = append(found, c)
		}
	}
	return found
}

// ExplainCase looks into a case. The policies must compile.
func ExplainCase(ctx context.Context, policies fs.FS, c Case) (*Why, error) {
	bundle, err := pdp.ReadFolder(policies)
	if err != nil {
		return nil, err
	}
	engine, err := pdp.NewEngine(ctx, bundle, pdp.DecisionPath)
	if err != nil {
		return nil, err
	}
	w := &Why{Case: c, Result: c.run(ctx, engine)}
	input, err := ast.InterfaceToValue(c.Document)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	q := &questioner{ctx: ctx, bundle: bundle, engine: engine, input: input}
	w.settings = q.settings()
	if said, err := engine.ExplainDocument(ctx, c.Document); err == nil { // without a decision there is nothing to say
		w.sentences = said.Sentences(nil)
	}
	if w.Held, err = q.held(); err != nil {
		return nil, err
	}
	if w.Result.Err != nil || w.Result.Got.Allow {
		return w, nil
	}
	w.Miss = q.refusal(w.Result.Got.Code)
	return w, q.err
}

// Write writes everything for people to read.
func (w *Why) Write(out io.Writer) {
	c := w.Case
	fmt.Fprintf(out, "%s:%d: %s\n\nknown:\n", c.File, c.Line, c.Title)
	for _, table := range []string{"subject", "member", "action", "resource", "client", "grant", "portal", "context", "settings"} {
		members := asMap(c.Document[table])
		if members == nil {
			fmt.Fprintf(out, "  %-9s none\n", table)
			continue
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if table == "settings" && !w.settings[name] {
				continue
			}
			parts = append(parts, name+" "+short(members[name]))
		}
		fmt.Fprintf(out, "  %-9s %s\n", table, strings.Join(parts, ", "))
	}
	if w.Result.Err != nil {
		fmt.Fprintf(out, "\nno decision: %v\n", w.Result.Err)
		return
	}
	fmt.Fprintf(out, "\ndecided: %s\nwanted:  %s\n", expected(w.Result.Got), c.Want)
	for _, sentence := range w.sentences {
		fmt.Fprintf(out, "         %s\n", sentence)
	}
	fmt.Fprintln(out, "\nrules that held:")
	for _, rule := range w.Held {
		fmt.Fprintf(out, "  %s\n", label(rule))
	}
	if len(w.Held) == 0 {
		fmt.Fprintln(out, "  none")
	}
	if w.Miss != nil {
		fmt.Fprintln(out, "\nnearest to an allowance:")
		w.Miss.write(out, "  ")
	}
}

func (m *Miss) write(out io.Writer, indent string) {
	fmt.Fprintf(out, "%s%s\n", indent, label(m.Rule))
	for _, c := range m.Fails {
		state := "fails"
		if c.Holds {
			state = "holds"
		}
		fmt.Fprintf(out, "%s  %s: %s  (line %d)\n", indent, state, c.Text, c.At.Row)
		for _, fact := range c.Facts {
			fmt.Fprintf(out, "%s    %s\n", indent, fact)
		}
		if c.By != nil {
			fmt.Fprintf(out, "%s    since this holds: %s\n", indent, label(c.By))
		}
		if c.Miss != nil {
			c.Miss.write(out, indent+"    ")
		}
	}
}

// label names a rule with its place.
func label(rule *ast.Rule) string {
	place := strings.TrimPrefix(fmt.Sprintf("%s:%d", rule.Location.File, rule.Location.Row), "/")
	if a := ownAnnotation(rule); a != nil {
		return fmt.Sprintf("%s  %s (%v)", place, a.Title, a.Custom["id"])
	}
	return fmt.Sprintf("%s  %s", place, rule.Ref())
}
