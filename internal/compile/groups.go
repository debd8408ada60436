package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// oddities are JSON values that no rule can expect of a property. Properties
// are the caller's: no guarantee constrains them.
var oddities = []any{nil, int64(0), 1.5, []any{}, map[string]any{}, []any{"id-1"}, map[string]any{"id-1": "id-1"}, true, strings.Repeat("x", 1<<12)}

// ids are values that differ from each other and from every constant of the
// policy, for texts that are compared with each other.
var ids = []string{"id-1", "id-2", "id-3", "id-4", "id-5"}

// idNumber is the n-th of them, and goes on where they end.
func idNumber(n int) string { return fmt.Sprintf("id-%d", n+1) }

// maxAssignments bounds the assignments of one group.
const maxAssignments = 200_000

const unknownWord = "?" // differs from every word that the policy knows

// group is places that are compared with each other, and the constants that
// one of them is compared with.
type group struct {
	paths     []string
	constants []ast.Value
	atoms     []*Formula
}

// String names the group: equal ones have equal places and atoms.
func (g *group) String() string {
	keys := slices.Clone(g.paths)
	for _, a := range g.atoms {
		keys = append(keys, a.key)
	}
	slices.Sort(keys)
	return strings.Join(slices.Compact(keys), "; ")
}

// groupsOf splits the places of formulas into those that are compared with each
// other. The error says what cannot be enumerated.
func groupsOf(formulas ...*Formula) ([]*group, error) {
	owner := map[string]*group{}
	in := func(path string) *group {
		if owner[path] == nil {
			owner[path] = &group{paths: []string{path}}
		}
		return owner[path]
	}
	var failed error
	merge := func(a, b *group) {
		if a == b {
			return
		}
		a.paths, a.constants, a.atoms = append(a.paths, b.paths...), append(a.constants, b.constants...), append(a.atoms, b.atoms...)
		for _, p := range b.paths {
			owner[p] = a
		}
	}
	for _, f := range formulas {
		f.atoms(func(a *Formula) {
			var g *group
			for _, o := range []Operand{a.A, a.B} {
				if !o.isConst() && o.Loop == 0 && o.Path != "" {
					if g != nil {
						merge(g, in(o.Path))
					} else {
						g = in(o.Path)
					}
				}
			}
			if a.Kind == KindExists {
				if f := a.Kids[0]; f.Kind != KindTrue && strings.Contains(f.key, "exists(") {
					failed = fmt.Errorf("%s: a loop in a loop", a)
				}
				a.Kids[0].atoms(func(inner *Formula) { // elements are compared with these
					g.constants = append(g.constants, constantsOf(inner)...)
				})
			}
			if g != nil {
				g.constants = append(g.constants, constantsOf(a)...)
				g.atoms = append(g.atoms, a)
			}
		})
	}
	var out []*group
	for _, path := range slices.Sorted(maps.Keys(owner)) {
		if g := owner[path]; !slices.Contains(out, g) {
			slices.Sort(g.paths)
			out = append(out, g)
		}
	}
	return out, failed
}

// constantsOf returns the constants that an atom compares with, the elements of
// collections one by one.
func constantsOf(a *Formula) []ast.Value {
	var out []ast.Value
	for _, o := range []Operand{a.A, a.B} {
		if !o.isConst() {
			continue
		}
		if a.Op == OpIn && isCollection(o.Const) {
			out = append(out, elements(o.Const)...)
			continue
		}
		out = append(out, o.Const)
	}
	return out
}

// assignments lists every class of values of the group's places.
func (g *group) assignments() ([]point, error) {
	if len(g.paths) == 0 {
		return []point{{}}, nil
	}
	if len(g.paths) == 1 {
		d, err := g.single(g.paths[0])
		if err != nil {
			return nil, err
		}
		out := make([]point, len(d))
		for i, v := range d {
			out[i] = point{g.paths[0]: v}
		}
		return out, nil
	}
	times, texts := 0, 0
	for _, p := range g.paths {
		switch shape[p].form {
		case formTime:
			times++
		case formText, formAny:
			texts++
		}
	}
	switch len(g.paths) {
	case times:
		return g.orders()
	case texts:
		return g.partitions(), nil
	}
	return nil, fmt.Errorf("%v are compared with each other, and are not of one type", g.paths)
}

// single lists the classes of one place that is compared with constants only.
func (g *group) single(path string) (domain, error) {
	switch shape[path].form {
	case formTime:
		points, err := g.orders()
		var d domain
		for _, p := range points {
			d = append(d, p[path])
		}
		return d, err
	case formTexts:
		return g.lists(path)
	}
	return domainOf(path, g.constants), nil
}

// lists lists every set of the words that a list is asked for, with and without
// an unknown one.
func (g *group) lists(path string) (domain, error) {
	if s, ok := settingOf(path); ok {
		return settingDomain(s, g.constants), nil
	}
	words := []string{unknownWord}
	for _, c := range g.constants {
		if s, ok := c.(ast.String); ok && !slices.Contains(words, string(s)) {
			words = append(words, string(s))
		}
	}
	if len(words) > 8 {
		return nil, fmt.Errorf("input.%s is asked for %d words", path, len(words))
	}
	var d domain
	for _, list := range subsets(words) {
		d = append(d, list)
	}
	return d, nil
}

func subsets(words []string) [][]string {
	var out [][]string
	for set := range 1 << len(words) {
		list := []string{}
		for i, w := range words {
			if set&(1<<i) != 0 {
				list = append(list, w)
			}
		}
		slices.Sort(list) // as settings are kept
		out = append(out, list)
	}
	return out
}

// partitions lists every way in which places can be equal to each other and to
// constants: the k-th id is used only after the ones before it.
func (g *group) partitions() []point {
	var out []point
	var fill func(i, used int, p point)
	fill = func(i, used int, p point) {
		if len(out) > maxAssignments {
			return
		}
		if i == len(g.paths) {
			out = append(out, maps.Clone(p))
			return
		}
		path := g.paths[i]
		for _, v := range domainOf(path, g.constants) {
			if s, ok := v.(string); ok && s == unknownWord {
				continue // an id of its own is one
			}
			p[path] = v
			fill(i+1, used, p)
		}
		for n := 0; n <= used && n < max(len(ids), len(g.paths)); n++ {
			p[path] = idNumber(n)
			fill(i+1, max(used, n+1), p)
		}
	}
	fill(0, 0, point{})
	return out
}

// classes puts together the assignments that the group's atoms judge alike.
func (g *group) classes(assignments []point) [][]point {
	index := map[string]int{}
	var out [][]point
	for _, p := range assignments {
		key := g.signature(p)
		i, ok := index[key]
		if !ok {
			i = len(out)
			index[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], p)
	}
	return out
}

// signature is how the group's atoms judge an assignment.
func (g *group) signature(p point) string {
	var b strings.Builder
	for _, a := range g.atoms {
		c := newCode()
		i, err := c.add(a)
		if err != nil {
			return fmt.Sprint(p) // nothing is known to be alike
		}
		fr := frame{document: p.document()}
		fmt.Fprint(&b, c.eval(&fr, i), " ")
	}
	return b.String()
}

// where is the group without the places of tables that are absent at p.
func (g *group) where(p point) *group {
	gone := func(path string) bool { return path != tableOf(path) && p[tableOf(path)] == absent }
	left := &group{constants: g.constants}
	for _, path := range g.paths {
		if !gone(path) {
			left.paths = append(left.paths, path)
		}
	}
	for _, a := range g.atoms {
		lost := false
		a.places(func(o Operand) { lost = lost || gone(o.Path) })
		if !lost {
			left.atoms = append(left.atoms, a)
		}
	}
	return left
}
