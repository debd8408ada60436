package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
)

// point is one place in the abstract space: a value for each path. A table of
// which no path has a value is absent.
type point map[string]any

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
		if w, is := written(path, v); is {
			at[names[len(names)-1]] = w
		}
	}
	return doc
}

// written is a value of a point as a document has it; false where it is not there.
func written(path string, v any) (any, bool) {
	switch v := v.(type) {
	case absentValue:
		return nil, false
	case time.Time:
		return authz.FormatTime(v), true
	case []string:
		return anyList(v), true
	case string:
		return v, v != "" || !blankIsAbsent(path)
	}
	return v, true
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
