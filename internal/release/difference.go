package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Difference is every situation in which two policies answer differently. It is
// evidence: the same two policies give the same Difference, byte for byte.
type Difference struct {
	From      string      `json:"from"` // revisions
	To        string      `json:"to"`
	Equal     bool        `json:"equal"`     // proved: no situation changes
	Compared  int         `json:"compared"`  // actions
	Access    []Sentence  `json:"access"`    // changes of who may do what
	Wording   []Sentence  `json:"wording"`   // the answer is the same; its code, bases or end change
	Texts     []TextShift `json:"texts"`     // codes that are said otherwise
	OnlyFrom  []string    `json:"only_from"` // actions that there are no more
	OnlyTo    []string    `json:"only_to"`   // new actions
	Undecided []Open      `json:"undecided"` // of which nothing is said; while there is one, nothing is approved
	Matrices  []Matrix    `json:"matrices"`  // who may do what, in situations that people know
}

// Sentence is one kind of change in one kind of situation, of several actions.
type Sentence struct {
	Kind       compile.ShiftKind `json:"kind"`
	Through    string            `json:"through,omitempty"` // the basis
	Before     string            `json:"before,omitempty"`  // the code, where it changes
	After      string            `json:"after,omitempty"`
	Actions    []string          `json:"actions"`
	When       []string          `json:"when"`
	Text       string            `json:"text"`
	Situations *big.Int          `json:"situations"` // in how many ways the tests of the policies can come out so
	Example    Instance          `json:"example"`    // of the first action

	changes []compile.Shift
}

// Instance is one situation, as rules see it.
type Instance struct {
	Document map[string]any `json:"document"`
	Before   string         `json:"before"` // the answers, by OPA
	After    string         `json:"after"`
}

// TextShift is a code of which the sentences are other ones.
type TextShift struct {
	Code   string `json:"code"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Open is what could not be decided, and why.
type Open struct {
	Actions []string `json:"actions,omitempty"`
	Which   string   `json:"which"` // "from" or "to": the policy at fault
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"`
	Why     string   `json:"why"`
}

// String says what is open, where, and why.
func (o Open) String() string {
	where := o.Which
	if o.File != "" {
		where = fmt.Sprintf("%s:%d (%s)", o.File, o.Line, o.Which)
	}
	why := o.Why
	if n := len(o.Actions); n > 3 {
		why += fmt.Sprintf(" (%s and %d other actions)", o.Actions[0], n-1)
	} else if n > 0 {
		why += " (" + strings.Join(o.Actions, ", ") + ")"
	}
	return where + ": " + why
}

// side is one of two policies, made ready to be compared.
type side struct {
	which    string
	settings *authz.Settings // of the practice that is asked about; nil: of any
	bundle   *pdp.Bundle
	engine   *pdp.Engine
	policy   *compile.Policy
	program  *compile.Program
}

// Diff compares two policies in every situation that their rules can tell apart
// (DESIGN 7). It reads no facts and asks nobody. The error says that one of them
// does not compile; what is only beyond the comparison is in Undecided.
func Diff(ctx context.Context, a, b *pdp.Bundle) (*Difference, error) {
	from, to, err := sides(ctx, a, b)
	if err != nil {
		return nil, err
	}
	d := newDifference(from, to)
	if samePolicy(a, b) {
		d.Compared, d.Equal = len(from.policy.Actions), true
		d.Matrices, err = matrices(ctx, from, to)
		return d, err
	}
	if err := knowBoth(ctx, from, to); err != nil {
		return nil, err
	}
	return d, d.fill(ctx, from, to)
}

// DiffUnder is Diff for one practice, with its settings before and after: what
// becomes of it where its settings change, or a policy under these settings.
func DiffUnder(ctx context.Context, a, b *pdp.Bundle, before, after *authz.Settings) (*Difference, error) {
	from, to, err := sides(ctx, a, b)
	if err != nil {
		return nil, err
	}
	d := newDifference(from, to)
	if err := knowBoth(ctx, from, to); err != nil {
		return nil, err
	}
	from.settings, to.settings = before, after
	from.policy, to.policy = from.policy.Under(before), to.policy.Under(after)
	return d, d.fill(ctx, from, to)
}

// knowBoth lets both policies know every action that one of them speaks of.
func knowBoth(ctx context.Context, from, to *side) error {
	names := slices.Concat(slices.Collect(maps.Keys(from.policy.Actions)), slices.Collect(maps.Keys(to.policy.Actions)),
		spoken(from.bundle), spoken(to.bundle), []string{freshAction})
	for _, s := range []*side{from, to} {
		if err := s.policy.Also(ctx, s.engine.Source(), names...); err != nil {
			return err
		}
	}
	return nil
}

func newDifference(from, to *side) *Difference {
	return &Difference{From: from.bundle.Revision, To: to.bundle.Revision, Access: []Sentence{}, Wording: []Sentence{}, Texts: []TextShift{},
		OnlyFrom: only(from.policy, to.policy), OnlyTo: only(to.policy, from.policy), Undecided: []Open{}}
}

// fill compares two policies that know the same actions.
func (d *Difference) fill(ctx context.Context, from, to *side) error {
	c, err := compile.Compare(ctx, from.policy, to.policy)
	if err != nil {
		return err
	}
	d.Compared = c.Compared
	for _, u := range c.Undecided {
		s := from
		if u.Second {
			s = to
		}
		d.Undecided = addOpen(d.Undecided, s.open(u))
	}
	if err := d.write(ctx, from, to, c.Changes); err != nil {
		return err
	}
	d.texts(from, to)
	if d.Matrices, err = matrices(ctx, from, to); err != nil {
		return err
	}
	d.Undecided = append(d.Undecided, from.assembly(ctx)...)
	d.Undecided = append(d.Undecided, to.assembly(ctx)...)
	d.Equal = len(d.Access)+len(d.Wording)+len(d.Texts)+len(d.Undecided)+len(d.OnlyFrom)+len(d.OnlyTo) == 0
	return nil
}

// freshAction stands for every action that no policy names. No name has a space.
const freshAction = "any other action"

func newSide(ctx context.Context, which string, b *pdp.Bundle) (*side, error) {
	engine, err := pdp.NewEngine(ctx, b, pdp.DecisionPath)
	if err != nil {
		return nil, fmt.Errorf("diff: policy %s: %w", which, err)
	}
	policy, err := compile.Compile(ctx, engine.Source())
	if err != nil {
		return nil, fmt.Errorf("diff: policy %s: %w", which, err)
	}
	return &side{which: which, bundle: b, engine: engine, policy: policy, program: compile.Assemble(policy)}, nil
}

// sides makes two policies ready; one that is the other to the letter, once.
func sides(ctx context.Context, a, b *pdp.Bundle) (from, to *side, err error) {
	if from, err = newSide(ctx, "from", a); err != nil {
		return nil, nil, err
	}
	if samePolicy(a, b) {
		same := *from
		same.which, same.bundle = "to", b
		return from, &same, nil
	}
	to, err = newSide(ctx, "to", b)
	return from, to, err
}

// samePolicy reports that two policies are the same to the letter, so that
// nothing need be proved.
func samePolicy(a, b *pdp.Bundle) bool {
	if len(a.Modules) != len(b.Modules) || !reflect.DeepEqual(a.Data["tables"], b.Data["tables"]) {
		return false
	}
	for name, m := range a.Modules {
		if other := b.Modules[name]; other == nil || !m.Equal(other) {
			return false
		}
	}
	return sameJSON(a.Data, b.Data)
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// only lists the actions of p that q has not.
func only(p, q *compile.Policy) []string {
	out := []string{}
	for _, name := range slices.Sorted(maps.Keys(p.Actions)) {
		if q.Actions[name] == nil {
			out = append(out, name)
		}
	}
	return out
}

var actionName = regexp.MustCompile(`^[a-z_]+(\.[a-z_]+)+$`)

// spoken lists what looks like an action in the rules and tables of a policy:
// an action that its table has not may be misspelt there.
func spoken(b *pdp.Bundle) []string {
	seen := map[string]bool{}
	add := func(s string) {
		if actionName.MatchString(s) {
			seen[s] = true
		}
	}
	for _, m := range b.Modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			if s, ok := t.Value.(ast.String); ok {
				add(string(s))
			}
			return false
		})
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			add(v)
		case []any:
			for _, one := range v {
				walk(one)
			}
		case map[string]any:
			for name, one := range v {
				add(name)
				walk(one)
			}
		}
	}
	walk(b.Data["tables"])
	return slices.Sorted(maps.Keys(seen))
}

// open says where the fault of something undecided lies.
func (s *side) open(u compile.Undecided) Open {
	o := Open{Actions: []string{u.Action}, Which: s.which, Why: u.Err.Error()}
	var untranslatable *compile.Untranslatable
	var infinite *compile.Infinite
	switch {
	case errors.As(u.Err, &untranslatable):
		o.File, o.Line = untranslatable.File, untranslatable.Line
		o.Why = untranslatable.Rule + ": " + untranslatable.What
		if untranslatable.Hint != "" {
			o.Why += "; " + untranslatable.Hint
		}
	case errors.As(u.Err, &infinite):
		o.Why = inRego(infinite.Atom) + ": " + infinite.Why
		if loc := ruleAbout(s.bundle.Modules, infinite.Atom); loc != nil {
			o.File, o.Line = loc.File, loc.Row
		}
	}
	o.File = strings.TrimPrefix(o.File, "/")
	return o
}

// addOpen adds what is open, or its action to what is open for the same cause.
func addOpen(all []Open, o Open) []Open {
	i := slices.IndexFunc(all, func(p Open) bool {
		return p.Which == o.Which && p.File == o.File && p.Line == o.Line && p.Why == o.Why
	})
	if i < 0 {
		return append(all, o)
	}
	all[i].Actions = append(all[i].Actions, o.Actions...)
	return all
}

// ruleAbout finds the expression that asks most of what an atom asks.
func ruleAbout(modules map[string]*ast.Module, atom *compile.Formula) *ast.Location {
	var best *ast.Location
	most := 0
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		ast.WalkExprs(modules[name], func(e *ast.Expr) bool {
			n := 0
			text := e.String()
			for _, path := range placesOf(atom) {
				if strings.Contains(text, "input."+path) {
					n += 2
				}
			}
			for _, o := range []compile.Operand{atom.A, atom.B} {
				if n > 0 && o.Const != nil && strings.Contains(text, o.Const.String()) {
					n++
				}
			}
			if n > most {
				most, best = n, e.Location
			}
			return false
		})
	}
	return best
}

// texts lists the codes that are said otherwise. One that is said no more leaves
// the policy without an answer.
func (d *Difference) texts(from, to *side) {
	of := func(s *side) map[string]any {
		tables, _ := s.bundle.Data["tables"].(map[string]any)
		reasons, _ := tables["reasons"].(map[string]any)
		return reasons
	}
	write := func(v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		return fmt.Sprintf("%v / %v", m["admin"], m["user"])
	}
	a, b := of(from), of(to)
	codes := maps.Clone(a)
	maps.Copy(codes, b)
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if before, after := write(a[code]), write(b[code]); before != after {
			d.Texts = append(d.Texts, TextShift{code, before, after})
		}
	}
	for _, s := range []*side{from, to} {
		for _, code := range slices.Concat(s.policy.Bases, s.policy.Denials) {
			if write(of(s)[code]) == "" {
				d.Undecided = append(d.Undecided, Open{Which: s.which, File: "tables/reasons/data.yaml", Why: "there is no sentence for " + code + ", so that there is no answer where it is the code"})
			}
		}
	}
}
