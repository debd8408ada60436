package compile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// PropertyKind says how the rule of a property is meant.
type PropertyKind string

// The kinds of properties. Of the last two the rule says in which situations it
// is about, and Of names an optional table of the facts, or a list.
const (
	Never        PropertyKind = "never"         // the rule holds in no situation
	GivesNothing PropertyKind = "gives_nothing" // what is allowed with Of is allowed without it
	TakesNothing PropertyKind = "takes_nothing" // what is allowed without Of is allowed with it
)

// Property is what is to hold in all situations.
type Property struct {
	Rule string // such as "data.properties.core.other_practice_never"
	Kind PropertyKind
	Of   string // such as "grant" or "member.roles"
}

// Finding is what became of a property: proved where both lists are empty.
type Finding struct {
	Refuted   []Refutation // at most one for an action
	Undecided []Undecided
}

// Refutation is an action of which a property does not hold.
type Refutation struct {
	Action  string
	Example *Example
	When    Shift  // situations like the example, in short
	Without string // of the last two kinds: what is taken away beside
}

// Also compiles actions that are not in the policy's own table.
func (p *Policy) Also(ctx context.Context, source Source, names ...string) error {
	for _, name := range names {
		if p.Actions[name] == nil {
			a := &Action{Name: name}
			a.Err = a.compile(ctx, source, p)
			p.Actions[name] = a
		}
	}
	return ctx.Err()
}

// Prove looks, for every action of p, for a situation in which a property does
// not hold. Source must be p's own, the properties' rules in it.
func (p *Policy) Prove(ctx context.Context, source Source, properties []Property) ([]Finding, error) {
	out := make([]Finding, len(properties))
	var mu sync.Mutex
	var group sync.WaitGroup
	known := &sync.Map{}
	work := make(chan *Action)
	for range 2 {
		group.Go(func() {
			for a := range work {
				for i, property := range properties {
					refuted, err := property.refute(ctx, known, source, p, a)
					mu.Lock()
					if err != nil {
						out[i].Undecided = append(out[i].Undecided, Undecided{Action: a.Name, Err: err})
					} else if refuted != nil {
						out[i].Refuted = append(out[i].Refuted, *refuted)
					}
					mu.Unlock()
				}
			}
		})
	}
	for _, a := range p.Actions {
		work <- a
	}
	close(work)
	group.Wait()
	for i := range out {
		slices.SortFunc(out[i].Refuted, func(x, y Refutation) int { return cmp.Compare(x.Action, y.Action) })
		slices.SortFunc(out[i].Undecided, func(x, y Undecided) int { return cmp.Compare(x.Action, y.Action) })
	}
	return out, ctx.Err()
}

// refute finds a situation in which the property does not hold for an action;
// nil where there is none.
func (property Property) refute(ctx context.Context, known wayCache, source Source, p *Policy, a *Action) (*Refutation, error) {
	rule, err := ruleOf(ctx, source, a.Name, property.Rule)
	if err != nil || rule == no {
		return nil, err
	}
	broken := []variant{{f: rule}}
	if property.Kind != Never {
		if a.Err != nil {
			return nil, a.Err
		}
		without, err := taken(a.Allow, property.Of)
		if err != nil {
			return nil, err
		}
		for i := range without {
			if property.Kind == GivesNothing {
				without[i].f = and(rule, a.Allow, not(without[i].f))
			} else {
				without[i].f = and(rule, without[i].f, not(a.Allow))
			}
		}
		broken = without
	}
	for _, v := range broken {
		found, err := satisfy(ctx, known, p, a, v.f)
		if err != nil {
			return nil, err
		}
		if found != nil {
			return &Refutation{Action: a.Name, Example: found.Example, When: *found, Without: v.without}, nil
		}
	}
	return nil, nil
}

// satisfy returns situations in which f holds, with an example; nil where there
// is none.
func satisfy(ctx context.Context, known wayCache, p *Policy, a *Action, f *Formula) (*Shift, error) {
	if f == no {
		return nil, nil
	}
	t, err := newTheory(ctx, known, f)
	if err != nil {
		return nil, err
	}
	possible := false
	if err := within(func() { possible = t.and(t.of(f), t.atoms) != never }); err != nil || !possible {
		return nil, err
	}
	all := []*Formula{f} // to tell where, in words, the policy's own conditions are needed
	if a.Err == nil {
		a.formulas(p, func(_ string, g *Formula) { all = append(all, g) })
	}
	if t, err = newTheory(ctx, known, all...); err != nil {
		return nil, err
	}
	d := &differ{theory: t, action: a}
	err = within(func() {
		broken := t.and(t.of(f), t.atoms)
		var denials []macro
		if a.Err == nil {
			denials = t.aspects(p, a).named(p, a, t.atoms)
		}
		d.name(denials, func(visit func(string, *Formula)) {
			for _, g := range all {
				visit("", g)
			}
		})
		d.tell("", "", "", t.and(t.region(d.usual(broken)), t.atoms), broken)
	})
	if err == nil {
		err = d.failed
	}
	if err != nil || len(d.changes) == 0 {
		return nil, err
	}
	return &d.changes[0], nil
}

// usual is the most usual way to answer the atoms such that f holds.
func (d *differ) usual(f vertex) cube {
	is := d.answersAt(ordinary(d.action))
	c := d.pick(f, func(v int32) bool { return is[v] })
	for v := range c {
		if !d.asked(v) {
			delete(c, v) // a table that no atom speaks of
		}
	}
	return c
}

// ruleOf is when a rule is true, of one action.
func ruleOf(ctx context.Context, source Source, action, rule string) (*Formula, error) {
	left, err := partial(ctx, source, action, rule+" = x", roots)
	if err != nil {
		return nil, err
	}
	outcomes, err := convert(ctx, left, formOf)
	if err != nil {
		return nil, err
	}
	out := no
	for _, o := range outcomes {
		if o.key.value == nil {
			return nil, &Untranslatable{Rule: rule, What: "it is neither true nor false"}
		}
		if o.key.value.Compare(ast.Boolean(true)) == 0 {
			out = or(out, o.cond)
		}
	}
	return out, nil
}

// variant is a formula on facts of which something was taken away.
type variant struct {
	f       *Formula
	without string
}

// taken is f on the same facts without an optional table, or without each word
// of a list in turn.
func taken(f *Formula, of string) ([]variant, error) {
	if slices.Contains(optional, of) {
		return []variant{{f.specialise(func(path string) (ast.Value, string, bool) {
			return nil, "", tableOf(path) == of
		}), "input." + of}}, nil
	}
	if shape[of].form != formTexts {
		return nil, fmt.Errorf("input.%s is neither a table of the facts that may be absent nor a list: %v", of, optional)
	}
	var words []Operand
	var failed error
	f.questions(func(a *Formula) {
		switch {
		case a.Kind == KindExists && a.A.Path == of:
			failed = &Infinite{Atom: a, Why: "a loop over the list of which words are taken"}
		case a.Kind == KindAtom && a.Op == OpIn && a.B.Path == of && a.A.isConst() &&
			!slices.ContainsFunc(words, func(o Operand) bool { return o.String() == a.A.String() }):
			words = append(words, a.A)
		}
	})
	var out []variant
	for _, word := range words {
		key := atom(OpIn, word, Operand{Path: of}).key
		out = append(out, variant{f.rewrite(func(a *Formula) *Formula {
			if a.key == key {
				return no
			}
			return nil
		}), word.String() + " in input." + of})
	}
	return out, failed
}
