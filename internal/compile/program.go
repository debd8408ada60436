package compile

import (
	"encoding/json"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
)

// Program decides requests with the formulas of one policy. It never changes,
// reads no clock, and is safe for concurrent use. It is to be used only once it
// is certified (see Certify).
type Program struct {
	Policy  *Policy
	Number  uint64 // no other program of this process has it
	actions map[string]*runnable
	codes   []coded    // by Verdict.Code
	bases   [][]string // the texts of every set of bases, by Verdict.Bases
}

type coded struct {
	code string
	reason
}

// runnable is an action made ready to run.
type runnable struct {
	code     *code
	allow    int32
	bases    []step
	refusals []step
	ends     []step

	refusalBase int // where refusals begin among the codes
}

// step is a formula and what holds with it: a basis, a code, a time.
type step struct {
	node int32
	what uint16
	at   operand
}

// Verdict is a decision in numbers: see Program.Decision.
type Verdict struct {
	Allow bool
	Bases uint16    // a bit for each of Policy.Bases
	Code  uint16    // a place in the program's list of codes
	Until time.Time // zero: no end
}

// programs is how many were assembled.
var programs atomic.Uint64

// Assemble makes a program of formulas. Actions that carry an error are left to
// OPA; so is one that cannot be run, which gets its error here.
func Assemble(p *Policy) *Program {
	prog := &Program{Policy: p, Number: programs.Add(1), actions: map[string]*runnable{}, bases: setsOf(p.Bases)}
	for _, name := range slices.Concat(p.Bases, p.Denials) {
		prog.codes = append(prog.codes, coded{name, p.reasons[name]})
	}
	for name, a := range p.Actions {
		if a.Err != nil {
			continue
		}
		r, err := prog.ready(a)
		if err != nil {
			a.Err = &Untranslatable{Rule: name, What: err.Error()}
			continue
		}
		prog.actions[name] = r
	}
	return prog
}

// ready makes one action ready to run.
func (p *Program) ready(a *Action) (*runnable, error) {
	r := &runnable{code: newCode(), refusalBase: len(p.Policy.Bases)}
	var failed error
	add := func(f *Formula) int32 {
		i, err := r.code.add(f)
		if err != nil {
			failed = err
		}
		return i
	}
	r.allow = add(a.Allow)
	for i, f := range a.Bases {
		if f != no {
			r.bases = append(r.bases, step{node: add(f), what: uint16(i)})
		}
	}
	for i, f := range a.Refusals {
		if f != no {
			r.refusals = append(r.refusals, step{node: add(f), what: uint16(len(p.Policy.Bases) + i)})
		}
	}
	for _, end := range a.Ends {
		r.ends = append(r.ends, step{node: add(end.Cond), at: prepared(end.At)})
	}
	return r, failed
}

// setsOf lists the texts of every set of bases, so that no decision makes one.
func setsOf(bases []string) [][]string {
	sets := make([][]string, 1<<len(bases))
	for set := range sets {
		sets[set] = make([]string, 0, bits.OnesCount(uint(set)))
		for i, name := range bases {
			if set&(1<<i) != 0 {
				sets[set] = append(sets[set], name)
			}
		}
	}
	return sets
}

// Decide decides r on f without a single allocation. False means that OPA has
// to: the action is not in the program, the facts are not such as loaders
// promise (see guaranteed), or the policy has no sentence for its answer.
func (p *Program) Decide(r *authz.Request, f *authz.Facts) (Verdict, bool) {
	v, _, ok := p.decide(r, f)
	return v, ok
}

// decide is Decide, and says at which times, with all else the same, the verdict
// is the same.
func (p *Program) decide(r *authz.Request, f *authz.Facts) (Verdict, authz.Span, bool) {
	a := p.actions[r.Action]
	if a == nil || !guaranteed(r, f) {
		return Verdict{}, authz.Never, false
	}
	fr := frame{request: r, facts: f, span: writableTimes}
	v, found := a.decide(&fr)
	return v, fr.span, found && p.codes[v.Code].admin != ""
}

func (a *runnable) decide(fr *frame) (v Verdict, found bool) {
	v.Allow = a.code.eval(fr, a.allow)
	if v.Allow {
		for i := range a.bases {
			if s := &a.bases[i]; a.code.eval(fr, s.node) {
				if !found {
					found, v.Code = true, s.what
				}
				v.Bases |= 1 << s.what
			}
		}
	} else {
		for i := range a.refusals {
			if s := &a.refusals[i]; a.code.eval(fr, s.node) {
				found, v.Code = true, s.what
				break
			}
		}
	}
	for i := range a.ends {
		if s := &a.ends[i]; a.code.eval(fr, s.node) {
			if end := s.at.read(fr); end.sort == instant {
				v.Until = time.UnixMicro(end.num).UTC()
			}
			if s.at.clock() {
				fr.span = authz.Never
			}
		}
	}
	return v, found
}

// Decision writes a verdict out. The bases are shared and must not be changed.
func (p *Program) Decision(v Verdict) authz.Decision {
	c := &p.codes[v.Code]
	d := authz.Decision{Allow: v.Allow, Code: c.code, Bases: p.bases[v.Bases], ReasonAdmin: c.admin, ReasonUser: c.user}
	if !v.Until.IsZero() {
		until := v.Until
		d.ValidUntil = &until
	}
	return d
}

// Evaluate is Decide and Decision in one.
func (p *Program) Evaluate(r *authz.Request, f *authz.Facts) (authz.Decision, bool) {
	d, _, ok := p.EvaluateFor(r, f)
	return d, ok
}

// EvaluateFor is Evaluate, and says at which times the decision is the same.
func (p *Program) EvaluateFor(r *authz.Request, f *authz.Facts) (authz.Decision, authz.Span, bool) {
	v, span, ok := p.decide(r, f)
	if !ok {
		return authz.Decision{}, authz.Never, false
	}
	return p.Decision(v), span, true
}

// Left says why Decide left a request to OPA, where a broken guarantee is the
// cause; Kept where it is not.
func (p *Program) Left(r *authz.Request, f *authz.Facts) Guarantee {
	if p.actions[r.Action] == nil {
		return Kept
	}
	return unwritable(r, f)
}

// Covers reports whether the program decides this action.
func (p *Program) Covers(action string) bool { return p.actions[action] != nil }

// guaranteed reports that the facts are such as the certificate speaks of.
// Their types guarantee most of it: whatever a text or a list holds is a point
// of the abstract space, and settings exist only whole and with values that
// authz.Catalogue allows. What is left is what Go can hold and JSON or the one
// form of a time cannot; where that is met, OPA decides.
//
//   - every time lies in the years 1 to 9999: of grants by a CHECK of the
//     table, of the clock by what a clock is;
//   - every property of a resource is JSON.
func guaranteed(r *authz.Request, f *authz.Facts) bool { return unwritable(r, f) == Kept }

// maxDepth is how deep properties may be nested; the door allows less.
const maxDepth = 64

func isJSON(v any, depth int) bool {
	switch v := v.(type) {
	case nil, bool, string, int, int64:
		return true
	case float64:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case json.Number:
		_, err := v.Int64()
		return err == nil
	case []any:
		return depth < maxDepth && !slices.ContainsFunc(v, func(one any) bool { return !isJSON(one, depth+1) })
	case map[string]any:
		if depth >= maxDepth {
			return false
		}
		for _, one := range v {
			if !isJSON(one, depth+1) {
				return false
			}
		}
		return true
	}
	return false
}
