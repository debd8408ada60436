package compile

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// theory is which answers to the atoms of some formulas can stand beside each
// other: what the abstract fact space (space.go) knows, as a diagram. It is
// exact: every way to answer that it allows is some facts document, and every
// facts document that loaders can make is one of its ways.
type theory struct {
	*diagram
	groups   []*grouped
	possible vertex           // over the atoms and the tables
	atoms    vertex           // possible, with the tables forgotten that no formula asks for
	tables   map[string]int32 // the variable "this optional table is there"
}

// grouped is a group of places that are compared with each other, with the
// variables that speak of them.
type grouped struct {
	group  *group
	vars   []int32
	tables []string // of the optional tables that its places lie in
	ways   map[string][]way
}

// way is one way in which a group's variables can be answered.
type way struct {
	answers []bool
	points  []point // assignments that are answered so; at most maxPerWay
}

const maxPerWay = 64

// wayCache remembers the ways of groups, from one action to the next.
type wayCache = *sync.Map

// newTheory makes the theory of formulas. The error is about an atom whose values
// cannot be listed: it is an *Infinite.
func newTheory(ctx context.Context, known wayCache, formulas ...*Formula) (*theory, error) {
	var asked []*Formula
	seen := map[string]bool{}
	for _, f := range formulas {
		f.questions(func(a *Formula) {
			if !seen[a.key] {
				seen[a.key] = true
				asked = append(asked, a)
			}
		})
	}
	for _, a := range asked {
		if err := finite(a); err != nil {
			return nil, err
		}
	}
	groups, err := groupsOf(append(asked, clocks(seen, asked)...)...)
	if err != nil {
		return nil, err
	}
	t := &theory{tables: map[string]int32{}}
	vars := t.order(groups, asked)
	t.diagram = newDiagram(ctx, vars)
	for v, a := range vars {
		if _, is := optionalTable(a); is && a.Op == OpDefined {
			t.tables[a.A.Path] = int32(v)
		}
	}
	for _, g := range groups {
		s := &grouped{group: g, ways: map[string][]way{}}
		for v, a := range vars {
			if slices.ContainsFunc(g.atoms, func(b *Formula) bool { return b.key == a.key }) {
				s.vars = append(s.vars, int32(v))
			}
		}
		for _, path := range g.paths {
			if name := tableOf(path); name != "" && !slices.Contains(s.tables, name) {
				s.tables = append(s.tables, name)
			}
		}
		if err := t.settle(s, known); err != nil {
			return nil, err
		}
		t.groups = append(t.groups, s)
	}
	return t, within(t.constrain)
}

// questions calls visit for the atoms that are variables: every atom, and every
// Exists as a whole.
func (f *Formula) questions(visit func(*Formula)) {
	if f.Kind == KindAtom || f.Kind == KindExists {
		visit(f)
		return
	}
	for _, k := range f.Kids {
		k.questions(visit)
	}
}

// clocks puts the two clocks into one group where both are asked for: the later
// one is never before the other (authz.Document).
func clocks(seen map[string]bool, asked []*Formula) []*Formula {
	reads := map[string]bool{}
	for _, a := range asked {
		a.places(func(o Operand) { reads[o.Path] = true })
	}
	if reads["context.now"] && reads["context.latest"] {
		return []*Formula{atom(OpLessEqual, Operand{Path: "context.now"}, Operand{Path: "context.latest"})}
	}
	return nil
}

// optionalTable reports that an atom asks for an optional table as a whole.
func optionalTable(a *Formula) (string, bool) {
	return a.A.Path, a.Kind == KindAtom && slices.Contains(optional, a.A.Path) && a.A.Loop == 0
}

// order lists the variables: the tables first, then group by group, so that
// what has to do with each other stands together.
func (t *theory) order(groups []*group, asked []*Formula) []*Formula {
	var vars []*Formula
	for _, name := range optional {
		if slices.ContainsFunc(groups, func(g *group) bool {
			return slices.ContainsFunc(g.paths, func(p string) bool { return tableOf(p) == name })
		}) {
			vars = append(vars, atom(OpDefined, Operand{Path: name}, Operand{}))
		}
	}
	for _, a := range asked { // the groups in the order in which they are met
		for _, g := range groups {
			if !slices.ContainsFunc(g.atoms, func(b *Formula) bool { return b.key == a.key }) {
				continue
			}
			for _, b := range asked {
				if slices.ContainsFunc(g.atoms, func(c *Formula) bool { return b.key == c.key }) &&
					!slices.ContainsFunc(vars, func(v *Formula) bool { return v.key == b.key }) {
					vars = append(vars, b)
				}
			}
		}
	}
	return vars
}

// settle lists the ways of a group, for each set of its tables that is there.
func (t *theory) settle(s *grouped, known wayCache) error {
	for there := range 1 << len(s.tables) {
		start := point{}
		key := ""
		for i, name := range s.tables {
			start[name] = absent
			if there&(1<<i) != 0 {
				start[name] = "present"
				key += name + " "
			}
		}
		full := key + "| " + s.group.String()
		for _, v := range s.vars {
			full += "; " + t.vars[v].key
		}
		if ways, ok := known.Load(full); ok {
			s.ways[key] = ways.([]way)
			continue
		}
		ways, err := s.list(start, t.vars)
		if err != nil {
			return err
		}
		known.Store(full, ways)
		s.ways[key] = ways
	}
	return nil
}

// list lists the ways with the tables decided.
func (s *grouped) list(start point, vars []*Formula) ([]way, error) {
	g := s.group.where(start)
	assignments := []point{{}}
	if !(len(g.paths) == 1 && shape[g.paths[0]].form == formObject) {
		var err error
		if assignments, err = g.assignments(); err != nil {
			return nil, &Infinite{Atom: s.group.atoms[0], Why: err.Error()}
		}
	}
	if len(assignments) > maxAssignments {
		return nil, &Infinite{Atom: s.group.atoms[0], Why: "too much is compared with each other"}
	}
	c := newCode()
	nodes := make([]int32, len(s.vars))
	for i, v := range s.vars {
		var err error
		if nodes[i], err = c.add(vars[v]); err != nil {
			return nil, &Infinite{Atom: vars[v], Why: err.Error()}
		}
	}
	index := map[string]int{}
	var out []way
	document, put := writerOf(g.paths)
	for _, p := range slices.Backward(assignments) { // those with ids before odd ones
		if !inTime(p) {
			continue
		}
		put(p)
		fr := frame{document: document}
		answers := make([]bool, len(nodes))
		name := make([]byte, len(nodes))
		for i, n := range nodes {
			if table, is := optionalTable(vars[s.vars[i]]); is {
				op := vars[s.vars[i]].Op
				answers[i] = start[table] != absent && (op == OpDefined || op == OpIsObject)
			} else {
				answers[i] = c.eval(&fr, n)
			}
			if answers[i] {
				name[i] = 1
			}
		}
		i, ok := index[string(name)]
		if !ok {
			i = len(out)
			index[string(name)] = i
			out = append(out, way{answers: answers})
		}
		if len(out[i].points) < maxPerWay {
			out[i].points = append(out[i].points, p)
		}
	}
	return out, nil
}

// writerOf returns a document, and a function that writes an assignment of
// places into it: as point.document, of which it saves the most.
func writerOf(paths []string) (map[string]any, func(point)) {
	document := map[string]any{}
	parents := make([]map[string]any, len(paths))
	names := make([]string, len(paths))
	for i, path := range paths {
		at := document
		parts := strings.Split(path, ".")
		for _, part := range parts[:len(parts)-1] {
			inner, ok := at[part].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[part] = inner
			}
			at = inner
		}
		parents[i], names[i] = at, parts[len(parts)-1]
	}
	return document, func(p point) {
		for i, path := range paths {
			if v, is := written(path, p[path]); is {
				parents[i][names[i]] = v
			} else {
				delete(parents[i], names[i])
			}
		}
	}
}

// inTime reports that the later clock is there whenever the other one is, and
// not before it: authz.Document writes it so.
func inTime(p point) bool {
	now, reads := p["context.now"]
	latest, both := p["context.latest"]
	if !reads || !both || now == absent {
		return true
	}
	if latest == absent {
		return false
	}
	return !latest.(time.Time).Before(now.(time.Time))
}

// constrain makes the diagram of what is possible.
func (t *theory) constrain() {
	t.possible = always
	for _, s := range t.groups {
		here := never
		for _, key := range slices.Sorted(maps.Keys(s.ways)) {
			tables := cube{}
			for _, name := range s.tables {
				tables[t.tables[name]] = strings.Contains(key, name+" ")
			}
			ways := never
			for _, w := range s.ways[key] {
				c := cube{}
				for i, v := range s.vars {
					c[v] = w.answers[i]
				}
				ways = t.or(ways, t.region(c))
			}
			here = t.or(here, t.and(t.region(tables), ways))
		}
		t.possible = t.and(t.possible, here)
	}
	t.atoms = t.some(t.possible, func(v int32) bool { return !t.asked(v) })
}

// asked reports that a formula has this atom; the others are tables of which
// only places are asked for.
func (t *theory) asked(v int32) bool {
	return slices.ContainsFunc(t.groups, func(s *grouped) bool { return slices.Contains(s.vars, v) })
}
