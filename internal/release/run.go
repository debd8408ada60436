package release

import (
	"context"
	"fmt"
	"os"
	"slices"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

// Result is what became of one case.
type Result struct {
	Case Case
	Got  authz.Decision
	Err  error // the policy gave no decision
}

// RunCases asks engine every case under policies, a folder of policies. The
// error says that the cases could not be read; a case that fails is a Result.
func RunCases(ctx context.Context, engine *pdp.Engine, policies string) ([]Result, error) {
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(cases))
	for i, c := range cases {
		results[i] = c.run(ctx, engine)
	}
	return results, nil
}

func (c Case) run(ctx context.Context, engine *pdp.Engine) Result {
	got, err := engine.EvaluateDocument(ctx, c.Document)
	return Result{Case: c, Got: got, Err: err}
}

// OK reports whether the answer is the one that the case pins.
func (r Result) OK() bool { return r.Fault() == "" }

// Fault says how the answer differs from the one that the case pins, with the
// place of the case; it is empty where they agree.
func (r Result) Fault() string {
	where := fmt.Sprintf("%s:%d: %s", r.Case.File, r.Case.Line, r.Case.Title)
	if r.Err != nil {
		return fmt.Sprintf("%s: want %s, got %v", where, r.Case.Want, r.Err)
	}
	got := expected(r.Got)
	if got.equal(r.Case.Want) {
		return ""
	}
	return fmt.Sprintf("%s: want %s, got %s", where, r.Case.Want, got)
}

// expected is what a case would have to pin to get a decision.
func expected(d authz.Decision) Expectation {
	e := Expectation{Allow: d.Allow, Code: d.Code, Bases: d.Bases}
	if d.ValidUntil != nil {
		e.ValidUntil = authz.FormatTime(*d.ValidUntil)
	}
	return e
}

func (e Expectation) equal(other Expectation) bool {
	return e.Allow == other.Allow && e.Code == other.Code && e.ValidUntil == other.ValidUntil && slices.Equal(e.Bases, other.Bases)
}

// String writes the expectation as a case file does.
func (e Expectation) String() string {
	if !e.Allow {
		return "deny because " + e.Code
	}
	s := fmt.Sprintf("allow because %v", e.Bases)
	if e.ValidUntil != "" {
		s += " until " + e.ValidUntil
	}
	return s
}
