package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// domain is values that a place can have: at least one of each class, where no
// test of the policy tells apart the values of a class.
type domain []any

// absent stands for no value, to be told from a JSON null.
var absent = absentValue{}

type absentValue struct{}

// point is one place in the abstract space: a value for each path. A table of
// which no path has a value is absent.
type point map[string]any

// oddities are JSON values that no rule can expect of a property. Properties
// are the caller's: no guarantee constrains them.
var oddities = []any{nil, int64(0), 1.5, []any{}, map[string]any{}, []any{"id-1"}, map[string]any{"id-1": "id-1"}, true, strings.Repeat("x", 1<<12)}

// ids are values that differ from each other and from every constant of the
// policy, for texts that are compared with each other.
var ids = []string{"id-1", "id-2", "id-3", "id-4", "id-5"}

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
		for n := 0; n <= used && n < len(ids); n++ {
			p[path] = ids[n]
			fill(i+1, max(used, n+1), p)
		}
	}
	fill(0, 0, point{})
	return out
}

// orders lists every order in which times can stand, equalities with each other
// and with constants included (weak orders), and absence.
func (g *group) orders() ([]point, error) {
	marks, err := g.marks()
	if err != nil {
		return nil, err
	}
	var out []point
	n := len(g.paths)
	slots := slotsOf(marks, n)
	var fill func(i int, p point, used map[int]bool)
	fill = func(i int, p point, used map[int]bool) {
		if i == n {
			for s := range used { // the k-th free place only with those before it
				if f := slots[s]; f.rank > 0 && !used[s-1] {
					return
				}
			}
			out = append(out, maps.Clone(p))
			return
		}
		path := g.paths[i]
		if isClock(path) {
			p[path] = absent
			fill(i+1, p, used)
		}
		for s, slot := range slots {
			if slot.at.IsZero() && isClock(path) {
				continue // the zero time of a clock is absence
			}
			p[path] = slot.at
			was := used[s]
			used[s] = true
			fill(i+1, p, used)
			if !was {
				delete(used, s)
			}
		}
	}
	fill(0, point{}, map[int]bool{})
	return out, nil
}

func isClock(path string) bool { return path == "context.now" || path == "context.latest" }

// marks returns the constants that times are compared with, in order.
func (g *group) marks() ([]time.Time, error) {
	var marks []time.Time
	for _, c := range g.constants {
		s, ok := c.(ast.String)
		t, isTime := asInstant(string(s))
		if !ok || !isTime {
			return nil, fmt.Errorf("a time is compared with %s, which is none", c)
		}
		if !slices.ContainsFunc(marks, t.Equal) {
			marks = append(marks, t)
		}
	}
	slices.SortFunc(marks, time.Time.Compare)
	return marks, nil
}

// slot is a time at a mark (rank -1), or the rank-th of the free ones between
// two marks.
type slot struct {
	at   time.Time
	rank int
}

func slotsOf(marks []time.Time, free int) []slot {
	between := func(from, to time.Time) []slot {
		var out []slot
		base := from.Add(time.Hour)
		if from.Year() < 2000 && to.Year() > 2100 {
			base = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
		}
		for k := range free {
			if t := base.Add(time.Duration(k) * time.Microsecond); t.Before(to) {
				out = append(out, slot{t, k})
			}
		}
		return out
	}
	first, last := time.Unix(firstSecond, 0).UTC(), authz.NoEnd
	at := first
	var out []slot
	for _, m := range marks {
		if m.After(first) {
			out = append(out, between(at, m)...)
		}
		out = append(out, slot{m, -1})
		at = m
	}
	if at.Before(last) {
		out = append(out, between(at, last)...)
	}
	return out
}

// domainOf lists the values that a place may be given: the constants that it is
// compared with, an unknown one, the odd ones, and absence where it can be.
func domainOf(path string, constants []ast.Value) domain {
	var d domain
	words := []string{}
	for _, c := range constants {
		if s, ok := c.(ast.String); ok && !slices.Contains(words, string(s)) {
			words = append(words, string(s))
		}
	}
	text := func() {
		for _, w := range words {
			d = append(d, w)
		}
	}
	if s, ok := settingOf(path); ok {
		return settingDomain(s, constants)
	}
	switch shape[path].form {
	case formBool:
		return domain{false, true}
	case formAny:
		d = append(d, absent, unknownWord, "")
		text()
		d = append(d, false)
		d = append(d, oddities...)
		for _, c := range constants {
			if n, ok := c.(ast.Number); ok {
				if i, ok := n.Int64(); ok {
					d = append(d, i)
				}
			}
		}
		return d
	}
	text()
	if !slices.Contains(words, "") {
		d = append(d, "") // of client.assigned and the context: absent
	}
	return append(d, unknownWord)
}

// blankIsAbsent reports that authz.Document leaves an empty text out.
func blankIsAbsent(path string) bool {
	switch path {
	case "client.assigned", "portal.relationship", "context.purpose", "context.portal_profile":
		return true
	}
	return false
}

func settingOf(path string) (authz.Setting, bool) {
	name, ok := strings.CutPrefix(path, "settings.")
	i := slices.IndexFunc(authz.Catalogue, func(s authz.Setting) bool { return s.Name == name })
	if !ok || i < 0 {
		return authz.Setting{}, false
	}
	return authz.Catalogue[i], true
}

// settingDomain lists what a setting can be: what authz.NewSettings, the one
// function that makes settings, keeps of every value that the catalogue allows.
// That there is nothing else is tried by certifier.settings.
func settingDomain(s authz.Setting, constants []ast.Value) domain {
	var said []any
	switch s.Default.(type) {
	case bool:
		said = []any{false, true}
	case string:
		for _, w := range s.Allowed {
			said = append(said, w)
		}
	case int64:
		said = append(said, s.Min, s.Max)
		for _, c := range constants {
			if n, ok := c.(ast.Number); ok {
				i, _ := n.Int64()
				said = append(said, i-1, i, i+1)
			}
		}
	default:
		for _, list := range subsets(s.Allowed) {
			said = append(said, list)
		}
	}
	var d domain
	for _, v := range said {
		made, err := authz.NewSettings(authz.DefaultPreset, map[string]any{s.Name: s.Write(v)})
		if err != nil {
			continue // a number out of range
		}
		kept := made.Value(s.Name)
		if !slices.ContainsFunc(d, func(known any) bool { return reflect.DeepEqual(known, kept) }) {
			d = append(d, kept)
		}
	}
	return d
}

// optional are the tables that may be absent. A point always says whether they
// are; the places of an absent one are absent.
var optional = []string{"member", "client", "grant", "portal", "settings", propertiesPath}

// tableOf returns the optional table that a path lies in, "" for none.
func tableOf(path string) string {
	for _, t := range optional {
		if path == t || strings.HasPrefix(path, t+".") {
			return t
		}
	}
	return ""
}

// product lists the points of the space that the formula's own places span:
// every combination of the classes of its groups, where a class is what the
// formula's atoms tell apart, and, beside, each value, each order of times and
// each way to be equal by itself, the other groups drawn at random. Every
// optional table that it reads is there and absent.
// Single values are varied once for each set of atoms: tried says for which it
// was done.
func product(f *Formula, tried map[string]bool, rng *rand.Rand) ([]point, error) {
	groups, err := groupsOf(f)
	if err != nil {
		return nil, err
	}
	var read []string
	for _, t := range optional {
		if slices.ContainsFunc(groups, func(g *group) bool {
			return slices.ContainsFunc(g.paths, func(p string) bool { return tableOf(p) == t })
		}) {
			read = append(read, t)
		}
	}
	var out []point
	for there := range 1 << len(read) {
		start := point{}
		for i, t := range read {
			start[t] = absent
			if there&(1<<i) != 0 {
				start[t] = "present"
			}
		}
		points, err := spread(start, groups, tried, rng)
		if err != nil {
			return nil, err
		}
		out = append(out, points...)
	}
	return out, nil
}

// maxProduct bounds the points of one formula.
const maxProduct = 20_000

// spread is product with the tables decided.
func spread(start point, groups []*group, tried map[string]bool, rng *rand.Rand) ([]point, error) {
	var classes [][][]point // of each group: of each class: its assignments
	var again []bool        // of each group: its single values were tried
	size := 1
	for _, g := range groups {
		if len(g.paths) == 1 && shape[g.paths[0]].form == formObject {
			continue // there or absent: start says
		}
		g = g.where(start)
		assignments, err := g.assignments()
		if err != nil {
			return nil, err
		}
		classes = append(classes, g.classes(assignments))
		again = append(again, tried[g.String()])
		tried[g.String()] = true
		if size *= len(classes[len(classes)-1]); size > maxProduct {
			return nil, fmt.Errorf("more than %d points", maxProduct)
		}
	}
	pick := func(class []point) point { return class[rng.IntN(len(class))] }
	points := []point{start}
	for _, group := range classes {
		var next []point
		for _, p := range points {
			for _, class := range group {
				next = append(next, p.with(pick(class)))
			}
		}
		points = next
	}
	for i, group := range classes {
		if again[i] {
			continue
		}
		for _, class := range group {
			for _, assignment := range class[min(1, len(class)):] {
				p := start.with(assignment)
				for k, other := range classes {
					if k != i {
						p = p.with(pick(other[rng.IntN(len(other))]))
					}
				}
				points = append(points, p)
			}
		}
	}
	return points, nil
}

func (p point) with(q point) point {
	out := maps.Clone(p)
	maps.Copy(out, q)
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

// document is the assignment as part of a facts document.
func (p point) document() map[string]any {
	doc := map[string]any{}
	for path, v := range p {
		at := doc
		names := strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			inner, ok := at[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		switch v := v.(type) {
		case absentValue:
			continue
		case time.Time:
			at[names[len(names)-1]] = authz.FormatTime(v)
		case []string:
			at[names[len(names)-1]] = anyList(v)
		case string:
			if v != "" || !blankIsAbsent(path) {
				at[names[len(names)-1]] = v
			}
		default:
			at[names[len(names)-1]] = v
		}
	}
	return doc
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

// space is where the points of one policy lie: every place that the policy
// reads, by OPA's own account, with every class of its values.
type space struct {
	paths   []string
	domains map[string]domain
}

// fill gives the places that p leaves open a value, each from its whole domain,
// but usual ones more often than not.
func (s *space) fill(p point, usual point, rng *rand.Rand) {
	for _, t := range optional {
		if _, ok := p[t]; !ok {
			p[t] = "present"
			if rng.IntN(12) == 0 {
				p[t] = absent
			}
		}
	}
	for _, path := range s.paths {
		if _, ok := p[path]; ok {
			continue
		}
		if t := tableOf(path); t != "" && p[t] == absent {
			p[path] = absent
			continue
		}
		d := s.domains[path]
		p[path] = d[rng.IntN(len(d))]
		if v, ok := usual[path]; ok && rng.IntN(12) > 0 {
			p[path] = v
		}
	}
}

// usualFor is a point at which nothing stands in the way of an action.
func usualFor(a *Action) point {
	now := slotsOf(nil, 1)[0].at
	p := point{"subject.type": authz.SubjectUser, "subject.id": "id-1", "resource.type": a.On, "resource.id": "id-2",
		"member.user": "id-1", "member.practice": "id-3", "member.status": authz.MemberActive,
		"client.id": "id-2", "client.practice": "id-3", "client.status": authz.ClientActive,
		"grant.not_before": now, "context.now": now, "context.latest": now,
		propertiesPath + ".client": "id-2", propertiesPath + ".practice": "id-3", propertiesPath + ".author": "id-1",
		propertiesPath + ".kind": "progress", propertiesPath + ".signed": false, propertiesPath + ".recipient": "id-4"}
	if a.On == authz.ResourcePractice {
		p["resource.id"] = "id-3"
	}
	return p
}
