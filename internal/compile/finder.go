package compile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Finder looks for situations in the abstract fact space of a policy: whether
// something can ever be, and an example where it is. It is for one goroutine.
type Finder struct {
	policy *Policy
	source Source
	solver *solver
	known  map[string]bool // by formula: whether a part can change so
}

// NewFinder returns a Finder for the formulas of a policy, made of source.
func NewFinder(source Source, p *Policy) *Finder {
	return &Finder{policy: p, source: source, solver: newSolver(), known: map[string]bool{}}
}

// Outcome is a way in which an action can be decided: the code of the answer,
// and whether an allowance ends by itself.
type Outcome struct {
	Code string
	Ends bool
}

// Outcomes lists every outcome that the words of the policy allow, possible or
// not: the bases in their order, with and without an end, then the denials.
func (p *Policy) Outcomes() []Outcome {
	var all []Outcome
	for _, basis := range p.Bases {
		all = append(all, Outcome{Code: basis}, Outcome{Code: basis, Ends: true})
	}
	for _, denial := range p.Denials {
		all = append(all, Outcome{Code: denial})
	}
	return all
}

// Outcome finds a facts document on which an action is decided so; nil where
// there is none. The error says why it cannot be told.
func (f *Finder) Outcome(action string, o Outcome) (map[string]any, error) {
	a := f.policy.Actions[action]
	if a == nil {
		return nil, nil
	}
	if a.Err != nil {
		return nil, a.Err
	}
	parts := []*Formula{a.Allow}
	names, formulas := f.policy.Bases, a.Bases
	if !slices.Contains(names, o.Code) {
		names, formulas, parts = f.policy.Denials, a.Refusals, []*Formula{not(a.Allow)}
	}
	i := slices.Index(names, o.Code)
	if i < 0 {
		return nil, nil
	}
	for _, before := range formulas[:i] {
		parts = append(parts, not(before))
	}
	parts = append(parts, formulas[i])
	if slices.Contains(f.policy.Bases, o.Code) {
		var ends []*Formula
		for _, end := range a.Ends {
			ends = append(ends, end.Cond)
		}
		if ended := or(ends...); o.Ends {
			parts = append(parts, ended)
		} else {
			parts = append(parts, not(ended))
		}
	}
	return f.example(action, and(parts...))
}

// example finds a document on which formula holds; nil where there is none.
func (f *Finder) example(action string, formula *Formula) (map[string]any, error) {
	code := newCode()
	node, err := code.add(formula)
	if err != nil {
		return nil, err
	}
	usual := usualFor(f.policy.Actions[action])
	var document map[string]any
	_, err = f.solver.find(formula, func(p point) bool {
		for _, filled := range []point{f.fill(p, usual), f.fill(p, nil)} {
			s, err := concrete(action, filled)
			if err == nil && code.eval(&frame{document: s.document}, node) {
				document = s.document
				return true
			}
		}
		return false
	})
	return document, err
}

// fill gives the places that p leaves open usual values, so that an example can
// be read, and makes the tables that they lie in.
func (f *Finder) fill(p, usual point) point {
	out := maps.Clone(p)
	for path, v := range usual {
		t := tableOf(path)
		if _, ok := out[path]; !ok && (t == "" || (t != propertiesPath && out[t] != nil && out[t] != absent)) {
			out[path] = v
		}
	}
	for _, t := range optional {
		if _, ok := out[t]; !ok {
			out[t] = absent
		}
	}
	return out
}

// Doubt is a fact on which the policy relies to refuse: where it is not known,
// somebody is let in who is refused where it is.
type Doubt struct {
	Action   string
	Fact     string         // a place or a table, such as "client.status"
	Odd      bool           // not that it is absent: that it is an unknown word
	Basis    string         // the basis that comes to hold, or
	Denial   string         // the denial that does not hold any more
	Document map[string]any // refused; allowed without the fact
}

// Doubts lists them for an action, at most one for each fact and part. Facts in
// except may be left out by whoever asks; words are the places that hold one of
// a few known words.
func (f *Finder) Doubts(action string, except, words []string) ([]Doubt, error) {
	a := f.policy.Actions[action]
	if a.Err != nil {
		return nil, nil
	}
	var all []Doubt
	for _, fact := range factsOf(a, f.policy) {
		if slices.Contains(except, fact) {
			continue
		}
		if err := f.doubt(a, Doubt{Action: action, Fact: fact}, absentAt(fact), &all); err != nil {
			return nil, err
		}
		if slices.Contains(words, fact) {
			if err := f.doubt(a, Doubt{Action: action, Fact: fact, Odd: true}, oddAt(fact), &all); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// doubt adds what becomes of an action with a fact unknown.
func (f *Finder) doubt(a *Action, d Doubt, unknown knowledge, all *[]Doubt) error {
	part := func(d Doubt, before, after *Formula) error {
		// A basis that comes to hold, or a refusal that does not hold any more:
		// nothing else can widen an answer.
		change := and(not(before), after)
		if d.Denial != "" {
			change = and(before, not(after))
		}
		can, ok := f.known[change.key]
		if !ok {
			var err error
			if can, err = f.solver.find(change, func(point) bool { return true }); err != nil {
				return err
			}
			f.known[change.key] = can
		}
		if !can {
			return nil
		}
		document, err := f.example(a.Name, and(change, not(a.Allow), a.Allow.specialise(unknown)))
		if document != nil {
			d.Document = document
			*all = append(*all, d)
		}
		return err
	}
	for i, basis := range a.Bases {
		d := d
		d.Basis = f.policy.Bases[i]
		if err := part(d, basis, basis.specialise(unknown)); err != nil {
			return err
		}
	}
	for i, refusal := range a.Refusals {
		d := d
		d.Denial = f.policy.Denials[i]
		if err := part(d, refusal, refusal.specialise(unknown)); err != nil {
			return err
		}
	}
	return nil
}

// factsOf lists the places that an action's formulas read, and their tables.
func factsOf(a *Action, p *Policy) []string {
	read := map[string]bool{}
	a.formulas(p, func(_ string, f *Formula) {
		f.places(func(o Operand) {
			if o.Loop == 0 {
				read[o.Path] = true
				if t := tableOf(o.Path); t != "" {
					read[t] = true
				}
			}
		})
	})
	return slices.Sorted(maps.Keys(read))
}

func absentAt(fact string) knowledge {
	return func(path string) (ast.Value, string, bool) {
		return nil, "", path == fact || strings.HasPrefix(path, fact+".")
	}
}

// oddAt is a fact that is a word, or a list with a word, that nobody knows.
func oddAt(fact string) knowledge {
	var odd ast.Value = ast.String(unknownWord)
	if shape[fact].form == formTexts {
		odd = ast.NewArray(ast.NewTerm(odd))
	}
	return func(path string) (ast.Value, string, bool) { return odd, "", path == fact }
}

// Dead lists those of rules that can hold for no action, whatever the facts.
// A rule that cannot be translated is not among them.
func (f *Finder) Dead(ctx context.Context, rules []*ast.Rule) ([]*ast.Rule, error) {
	alive := map[*ast.Rule]bool{}
	for _, name := range append(slices.Sorted(maps.Keys(f.policy.Actions)), unknownWord) { // with one that no table knows
		c := &converter{ctx: ctx, forms: formOf, memo: map[string][]element{},
			from: &residue{source: f.source, action: name, rules: map[string][]*ast.Rule{}}}
		for _, rule := range rules {
			if alive[rule] {
				continue
			}
			holds, err := f.holds(c, rule)
			if err != nil {
				return nil, err
			}
			alive[rule] = holds
		}
	}
	return slices.DeleteFunc(slices.Clone(rules), func(r *ast.Rule) bool { return alive[r] }), ctx.Err()
}

// holds reports whether a rule can hold for the converter's action; true where
// it cannot be told.
func (f *Finder) holds(c *converter, rule *ast.Rule) (can bool, err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *Untranslatable:
			can = true
		case error:
			err = p
		default:
			panic(p)
		}
	}()
	c.steps = 0
	e := env{rule: rule.Ref().String(), loc: rule.Location}
	for i, argument := range rule.Head.Args {
		if v, ok := argument.Value.(ast.Var); ok { // anything may be given
			e = e.bind(v, symbol{at: &Operand{Path: anything[i%len(anything)]}})
		}
	}
	can, err = f.solver.find(c.body(rule.Body, e, leadsOn), func(point) bool { return true })
	if err != nil {
		return true, nil
	}
	return can, nil
}

// anything are places that can hold any value: they stand for the arguments of
// a function.
var anything = []string{propertiesPath + ".client", propertiesPath + ".author", propertiesPath + ".recipient"}

// Problems lists why actions cannot be translated, each cause once.
func (p *Policy) Problems() []*Untranslatable {
	var all []*Untranslatable
	for _, name := range slices.Sorted(maps.Keys(p.Actions)) {
		err := p.Actions[name].Err
		if err == nil {
			continue
		}
		var u *Untranslatable
		if !errors.As(err, &u) {
			u = &Untranslatable{Rule: name, What: fmt.Sprint(err)}
		}
		if !slices.ContainsFunc(all, func(k *Untranslatable) bool { return *k == *u }) {
			all = append(all, u)
		}
	}
	return all
}
