package release

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// write makes sentences of changes: those that differ in the action alone are
// one. Every example is asked of OPA.
func (d *Difference) write(ctx context.Context, from, to *side, changes []compile.Shift) error {
	index := map[string]int{}
	var all []Sentence
	for _, c := range changes {
		s := Sentence{Kind: c.Kind, Through: c.Reason, When: phrases(c)}
		if c.Kind == compile.DenialChanged || c.Kind == compile.FirstChanged {
			s.Through, s.Before, s.After = "", c.Before, c.Reason
		}
		key := fmt.Sprint(c.Kind, c.Reason, c.Before, s.When)
		i, ok := index[key]
		if !ok {
			i = len(all)
			index[key] = i
			s.Situations = new(big.Int)
			all = append(all, s)
		}
		all[i].Actions = append(all[i].Actions, c.Action)
		all[i].Situations.Add(all[i].Situations, c.Count)
		all[i].changes = append(all[i].changes, c)
	}
	slices.SortStableFunc(all, func(a, b Sentence) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Through+a.Before+a.After, b.Through+b.Before+b.After),
			cmp.Compare(len(a.When), len(b.When)), cmp.Compare(strings.Join(a.When, ";"), strings.Join(b.When, ";")))
	})
	for _, s := range all {
		s.Text = s.text()
		var err error
		if s.Example, err = instanceOf(ctx, from, to, s.changes[0].Example); err != nil {
			return fmt.Errorf("diff: %s: %w", s.Text, err)
		}
		if s.Example.Before == s.Example.After {
			d.Undecided = append(d.Undecided, Open{Actions: s.Actions, Which: to.which, Why: "OPA sees no change where the formulas do: " + s.Text})
		}
		if s.Kind.Grave() {
			d.Access = append(d.Access, s)
		} else {
			d.Wording = append(d.Wording, s)
		}
	}
	return nil
}

// instanceOf asks OPA an example.
func instanceOf(ctx context.Context, from, to *side, e *compile.Example) (Instance, error) {
	before, err := from.answer(ctx, e.Request, e.Facts)
	if err != nil {
		return Instance{}, err
	}
	after, err := to.answer(ctx, e.Request, e.Facts)
	return Instance{Document: e.Document(), Before: before, After: after}, err
}

// answer is the whole answer of OPA in one line; "no answer" where the policy
// gives none.
func (s *side) answer(ctx context.Context, r authz.Request, f authz.Facts) (string, error) {
	if s.settings != nil {
		f.Settings = s.settings
	}
	got, err := s.engine.EvaluateDocument(ctx, authz.Document(r, f))
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "no answer", nil
	}
	return answered(got), nil
}

func answered(d authz.Decision) string {
	want := Expectation{Allow: d.Allow, Code: d.Code, Bases: d.Bases}
	if d.ValidUntil != nil {
		want.ValidUntil = authz.FormatTime(*d.ValidUntil)
	}
	if d.Allow && (len(d.Bases) == 0 || d.Code != d.Bases[0]) {
		return want.String() + ", named " + d.Code
	}
	return want.String()
}

// text is the sentence in plain English.
func (s *Sentence) text() string {
	what := map[compile.ShiftKind]string{
		compile.NowAllowed:    "now ALLOWED through " + through(s.Through),
		compile.NowDenied:     "now DENIED, allowed before through " + through(s.Through),
		compile.AnswerLost:    "now WITHOUT AN ANSWER (503)",
		compile.AnswerGained:  "now ANSWERED, without an answer before",
		compile.BasisGained:   "still allowed, now also through " + through(s.Through),
		compile.BasisLost:     "still allowed, no longer through " + through(s.Through),
		compile.FirstChanged:  fmt.Sprintf("still allowed, now named %s, before %s", s.After, s.Before),
		compile.DenialChanged: fmt.Sprintf("still denied, now as %s, before as %s", s.After, s.Before),
		compile.EndGained:     "still allowed, the answer now ends at " + s.Through,
		compile.EndLost:       "still allowed, the answer no longer ends at " + s.Through,
	}[s.Kind]
	when := strings.Join(s.When, ", ")
	if when == "" {
		when = "always"
	}
	return fmt.Sprintf("%s: %s, when: %s", what, strings.Join(s.Actions, ", "), when)
}
