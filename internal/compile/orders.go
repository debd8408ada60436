package compile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

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
