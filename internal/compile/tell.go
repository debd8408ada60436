package compile

import (
	"math/big"
	"slices"
	"strings"

	"chartgate/internal/authz"
)

// tell adds changes that hold, together, wherever must does and only where may
// does, and returns where they hold.
func (d *differ) tell(kind ShiftKind, reason, before string, must, may vertex) vertex {
	if must == never {
		return never
	}
	frame := always // what all of must have in common, in terms of denials
	var fits []macro
	var applies []bool
	for _, m := range d.macros {
		switch {
		case m.kids != nil:
			if d.inside(must, m.is) {
				fits, applies, frame = append(fits, m), append(applies, true), d.and(frame, m.is)
			}
		case d.and(must, m.is) == never:
			if m.code == authz.CodeNoBasis || m.code == "scope" {
				continue // what is allowed says more of it
			}
			fits, applies, frame = append(fits, m), append(applies, false), d.without(frame, m.is)
		case d.inside(must, m.is):
			fits, applies, frame = append(fits, m), append(applies, true), d.and(frame, m.is)
		}
	}
	impossible := d.not(d.atoms)
	exact := d.or(may, impossible)
	told := never
	for _, c := range d.cover(must, d.or(exact, d.not(frame)), d.dull) {
		change := Shift{Kind: kind, Action: d.action.Name, Reason: reason, Before: before}
		rest := d.conditions(&change, c, fits, applies, exact)
		d.positive(c, rest)
		region := d.all(d.region(c), rest, d.atoms)
		var all []*Formula
		for _, v := range sorted(c) {
			change.When = append(change.When, Literal{Atom: d.vars[v], Not: !c[v], There: d.thereIn(d.vars[v], region)})
			all = append(all, signed(d.vars[v], !c[v]))
		}
		for _, one := range change.Denied {
			i := slices.IndexFunc(fits, func(m macro) bool { return m.kids == nil && m.code == one.Code })
			all = append(all, signed(fits[i].f, !one.Applies))
		}
		for _, kids := range change.Either {
			var some []*Formula
			for _, l := range kids {
				some = append(some, signed(l.Atom, l.Not))
			}
			all = append(all, or(some...))
		}
		change.Count, change.Where = d.ways(region), and(all...)
		change.Example = d.show(d.and(region, must))
		d.changes = append(d.changes, change)
		told = d.or(told, region)
	}
	return told
}

// show is an example of a region.
func (d *differ) show(region vertex) *Example {
	e, err := d.example(d.action, region)
	if err != nil {
		d.failed = err
	}
	return e
}

func signed(f *Formula, negated bool) *Formula {
	if negated {
		return not(f)
	}
	return f
}

// conditions adds to a change those denials without which the cube would say too
// much, or to the cube an atom where one says the same here. It returns where they
// hold.
func (d *differ) conditions(change *Shift, c cube, fits []macro, applies []bool, exact vertex) vertex {
	kept := make([]vertex, len(fits))
	for i, m := range fits {
		kept[i] = m.is
		if !applies[i] {
			kept[i] = d.not(m.is)
		}
	}
	region := d.region(c)
	for i := len(fits) - 1; i >= 0; i-- {
		if fits[i].code == authz.CodeBadInput && !applies[i] {
			continue // that a request is sound is taken for granted
		}
		was := kept[i]
		kept[i] = always
		here := d.all(append(kept, region)...)
		if d.inside(here, exact) {
			continue
		}
		want := d.and(d.and(here, was), d.atoms)
		if v, is, ok := d.sameAs(here, want, was); ok {
			c[v] = is
			region = d.and(region, d.atom(v, !is))
			continue
		}
		kept[i] = was
	}
	all := d.all(append(kept, region)...)
	for i, m := range fits {
		switch {
		case kept[i] == always:
		case m.kids != nil:
			kids := slices.Clone(m.kids)
			for k := range kids {
				kids[k].There = d.thereIn(kids[k].Atom, all)
			}
			change.Either = append(change.Either, kids)
		default:
			change.Denied = append(change.Denied, Condition{m.code, applies[i]})
		}
	}
	return d.all(kept...)
}

// positive puts an atom in the place of the negation of another one of the same
// place, where the two are one beside the rest.
func (d *differ) positive(c cube, rest vertex) {
	here := d.all(d.region(c), rest, d.atoms)
	for _, v := range sorted(c) {
		for u, other := range d.vars {
			if _, said := c[int32(u)]; c[v] || said || other.A.Path == "" || other.A.Path != d.vars[v].A.Path {
				continue
			}
			delete(c, v)
			c[int32(u)] = true
			if d.all(d.region(c), rest, d.atoms) == here {
				break
			}
			delete(c, int32(u))
			c[v] = false
		}
	}
}

// sameAs finds an atom that says, within here, what was says.
func (d *differ) sameAs(here, want, was vertex) (int32, bool, bool) {
	for _, v := range d.support(was) {
		for _, is := range []bool{true, false} {
			if d.all(here, d.atom(v, !is), d.atoms) == want {
				return v, is, true
			}
		}
	}
	return 0, false, false
}

// thereIn reports that the tables which an atom reads are there all over a region.
func (d *differ) thereIn(a *Formula, region vertex) bool {
	is := true
	whole := d.and(region, d.possible)
	a.places(func(o Operand) {
		if name := tableOf(o.Path); name != "" {
			is = is && d.inside(whole, d.atom(d.tables[name], false))
		}
	})
	return is
}

// ways counts the ways in which the atoms can come out within a region.
func (d *differ) ways(region vertex) *big.Int {
	n := d.count(region)
	hidden := 0
	for v := range d.vars {
		if !d.asked(int32(v)) {
			hidden++
		}
	}
	return n.Rsh(n, uint(hidden))
}

// dull says how little an atom tells people; what is dull is left out first.
func (d *differ) dull(v int32) int {
	a := d.vars[v]
	switch {
	case a.Kind == KindAtom && unary(a.Op):
		return 4
	case a.Kind == KindAtom && strings.HasPrefix(a.A.Path, "resource.") && a.B.isConst():
		return 3
	case a.Kind == KindAtom && a.A.Path == "subject.type":
		return 2
	case strings.HasPrefix(a.A.Path, "context."):
		return 1
	}
	return 0
}
