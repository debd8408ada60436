package compile

import (
	"fmt"
	"slices"
	"strings"
)

// solver finds points of the abstract space at which formulas hold. It goes
// through the classes of each group of places, and drops a class as soon as the
// formula cannot hold with it, so that a formula that holds nowhere is known to
// do so: every point of the space is in some class.
type solver struct {
	known map[string][]class // by the group's name and the places left in it
}

// class is assignments of one group that its atoms judge alike.
type class struct {
	truths   map[string]bool // by the atom's key
	examples []point
}

// maxExamples is how many assignments of a class are kept: some of them may be
// such as nothing can make concrete.
const maxExamples = 8

func newSolver() *solver { return &solver{known: map[string][]class{}} }

// find calls accept with points at which f holds until it returns true; false
// where f holds nowhere, or accept took none of them. The error says why the
// values of a place cannot be listed.
func (s *solver) find(f *Formula, accept func(point) bool) (bool, error) {
	if f == no {
		return false, nil
	}
	groups, err := groupsOf(f)
	if err != nil {
		return false, err
	}
	var read []string
	for _, t := range optional {
		if slices.ContainsFunc(groups, func(g *group) bool {
			return slices.ContainsFunc(g.paths, func(p string) bool { return tableOf(p) == t })
		}) {
			read = append(read, t)
		}
	}
	for gone := range 1 << len(read) { // with everything there first
		start := point{}
		for i, t := range read {
			start[t] = "present"
			if gone&(1<<i) != 0 {
				start[t] = absent
			}
		}
		found, err := s.in(f, start, groups, accept)
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// in is find with the tables decided.
func (s *solver) in(f *Formula, start point, groups []*group, accept func(point) bool) (bool, error) {
	truths := map[string]bool{}
	var choices [][]class
	for _, g := range groups {
		for _, a := range g.atoms {
			switch {
			case gone(a.A, start) || (a.Kind == KindAtom && !unary(a.Op) && gone(a.B, start)):
				truths[a.key] = false
			case mentionsGone(a, start):
				return false, fmt.Errorf("%s: a loop asks for a table that may be absent", a)
			case shape[a.A.Path].form == formObject && a.A.Loop == 0 && !a.A.isConst():
				truths[a.key] = a.Op == OpDefined || a.Op == OpIsObject
			}
		}
		if len(g.paths) == 1 && shape[g.paths[0]].form == formObject {
			continue
		}
		classes, err := s.classes(g.where(start))
		if err != nil {
			return false, err
		}
		choices = append(choices, classes)
	}
	slices.SortStableFunc(choices, func(a, b []class) int { return len(a) - len(b) })
	d := descent{accept: accept}
	found := d.down(f.assume(truths), start, choices)
	if !found && d.undecided != nil {
		return false, fmt.Errorf("%s: cannot be decided", d.undecided)
	}
	return found, nil
}

// descent chooses a class of each group in turn.
type descent struct {
	accept    func(point) bool
	undecided *Formula // what was left of the formula where nothing was left to choose
}

func (d *descent) down(f *Formula, p point, choices [][]class) bool {
	switch {
	case f == no:
		return false
	case len(choices) == 0 && f != yes:
		d.undecided = f
		return false
	case len(choices) == 0:
		return d.accept(p)
	}
	for _, c := range choices[0] {
		left := f.assume(c.truths)
		if left == no {
			continue
		}
		for _, example := range c.examples {
			if d.down(left, p.with(example), choices[1:]) {
				return true
			}
			if len(choices) > 1 {
				break // other examples only where nothing else is left to choose
			}
		}
	}
	return false
}

// classes lists the classes of a group.
func (s *solver) classes(g *group) ([]class, error) {
	key := g.String() + " | " + strings.Join(g.paths, " ")
	if known, ok := s.known[key]; ok {
		return known, nil
	}
	assignments, err := g.assignments()
	if err != nil {
		return nil, err
	}
	code := newCode()
	nodes := make([]int32, len(g.atoms))
	for i, a := range g.atoms {
		if nodes[i], err = code.add(a); err != nil {
			return nil, fmt.Errorf("%s: %w", a, err)
		}
	}
	index := map[string]int{}
	var out []class
	for _, p := range assignments {
		fr := frame{document: p.document()}
		judged := make([]byte, len(nodes))
		for i, n := range nodes {
			if code.eval(&fr, n) {
				judged[i] = 1
			}
		}
		i, ok := index[string(judged)]
		if !ok {
			i = len(out)
			index[string(judged)] = i
			truths := map[string]bool{}
			for k, a := range g.atoms {
				truths[a.key] = judged[k] == 1
			}
			out = append(out, class{truths: truths})
		}
		if len(out[i].examples) < maxExamples {
			out[i].examples = append(out[i].examples, p)
		}
	}
	s.known[key] = out
	return out, nil
}

// gone reports that a place lies in a table that is absent.
func gone(o Operand, start point) bool {
	return !o.isConst() && o.Loop == 0 && tableOf(o.Path) != "" && start[tableOf(o.Path)] == absent
}

func mentionsGone(a *Formula, start point) bool {
	found := false
	a.places(func(o Operand) { found = found || gone(o, start) })
	return found
}

// assume puts what is known of atoms into a formula, and simplifies it.
func (f *Formula) assume(truths map[string]bool) *Formula {
	switch f.Kind {
	case KindAtom, KindExists:
		if t, ok := truths[f.key]; ok {
			return truth(t)
		}
	default:
		return f.over(f.each(func(k *Formula) *Formula { return k.assume(truths) }))
	}
	return f
}
