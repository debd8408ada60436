package compile

import (
	"slices"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Way is changes that are enough, together, for a request to be allowed, and
// of which none can be left out.
type Way struct {
	Changes []Change
	Cost    int // the sum of theirs
}

// Apply returns the request and the facts as they would be. Its arguments stay
// as they are.
func (w Way) Apply(r authz.Request, f authz.Facts) (authz.Request, authz.Facts) {
	for _, c := range w.Changes {
		c.apply(&r, &f)
	}
	return r, f
}

// maxChanges is how many changes a way has at most: nobody follows more.
const maxChanges = 3

// maxSets bounds the sets of changes that are looked at.
const maxSets = 20_000

// Nearest lists the ways to have a refused request allowed, cheapest first, at
// most limit. It is a search on the action's formula: with all put in that
// nobody can change, what is left says which changes matter at all. Of ways
// that change the same facts, or one's facts and more, only the cheaper is
// listed. No way of at most maxChanges changes is missed that is cheaper than
// the first one.
//
// The formula is not certified here: whoever offers a way evaluates it first
// (Engine.Explain of pdp). Where the action has no formula the error says why.
func (p *Policy) Nearest(r authz.Request, f authz.Facts, limit int) ([]Way, error) {
	a := p.Actions[r.Action]
	switch {
	case a == nil:
		return nil, nil // an action that there is not
	case a.Err != nil:
		return nil, a.Err
	}
	l := leversOf(r, f, constantsIn(a.Allow))
	left := a.Allow.specialise(func(path string) (ast.Value, string, bool) {
		if l.places[path] {
			return nil, "", false
		}
		return Listing{Request: r, Facts: f}.read(path)
	})
	if left == no {
		return nil, nil // nothing that anybody can change would do
	}
	matters := map[string]bool{}
	left.places(func(o Operand) { matters[o.Path] = true })
	changes := slices.DeleteFunc(l.changes, func(c Change) bool { return !c.touches(matters) })
	run := newCode()
	node, err := run.add(left)
	if err != nil {
		return nil, &Untranslatable{Rule: a.Name, What: err.Error()}
	}
	return search(r, f, changes, limit, maxChanges, func(r authz.Request, f authz.Facts) bool {
		return run.eval(&frame{request: &r, facts: &f}, node)
	}), nil
}

// Search is Nearest for a policy that has no formula: it tries every single
// change and every two, and asks allows each time.
func Search(r authz.Request, f authz.Facts, limit int, allows func(authz.Request, authz.Facts) bool) []Way {
	l := leversOf(r, f, func(string) []ast.Value { return nil })
	return search(r, f, l.changes, limit, 2, allows)
}

// touches reports whether c changes one of the places.
func (c Change) touches(places map[string]bool) bool {
	switch {
	case c.Fact == "grant":
		return places["grant"] || places["grant.scope"] || places["grant.not_before"] || places["grant.expires_at"]
	case c.Fact == "member.status" && c.Cost == costInvite:
		return places["member.status"] || places["member.billing_enabled"]
	}
	return places[c.Fact]
}

// constantsIn finds what a formula compares a place with.
func constantsIn(f *Formula) func(path string) []ast.Value {
	found := map[string][]ast.Value{}
	f.atoms(func(a *Formula) {
		for _, o := range []Operand{a.A, a.B} {
			if !o.isConst() && o.Loop == 0 {
				found[o.Path] = append(found[o.Path], constantsOf(a)...)
			}
		}
	})
	return func(path string) []ast.Value { return found[path] }
}

// search tries sets of changes from the cheapest on.
func search(r authz.Request, f authz.Facts, changes []Change, limit, most int, allows func(authz.Request, authz.Facts) bool) []Way {
	var out []Way
	for _, w := range setsByCost(changes, most) {
		if len(out) >= limit {
			break
		}
		if slices.ContainsFunc(out, func(found Way) bool { return w.covers(found) }) {
			continue
		}
		if after, facts := w.Apply(r, f); possible(w.Changes, facts) && allows(after, facts) {
			out = append(out, w)
		}
	}
	return out
}

// setsByCost lists the sets of at most most changes, one of each lever, from
// the cheapest on; among equals the smaller first, then in the levers' order.
func setsByCost(changes []Change, most int) []Way {
	var all []Way
	for n := 1; n <= most; n++ {
		var grow func(from int, w Way)
		grow = func(from int, w Way) {
			if len(w.Changes) == n {
				all = append(all, w)
				return
			}
			for i := from; i < len(changes) && len(all) < maxSets; i++ {
				c := changes[i]
				if k := len(w.Changes); k > 0 && w.Changes[k-1].lever == c.lever {
					continue // the levers come in order, so equal ones stand together
				}
				grow(i+1, Way{append(w.Changes[:len(w.Changes):len(w.Changes)], c), w.Cost + c.Cost})
			}
		}
		grow(0, Way{})
	}
	slices.SortStableFunc(all, func(a, b Way) int { return a.Cost - b.Cost })
	return all
}

// covers reports that w moves all that found moves: it is found and more.
func (w Way) covers(found Way) bool {
	return !slices.ContainsFunc(found.Changes, func(c Change) bool {
		return !slices.ContainsFunc(w.Changes, func(own Change) bool { return own.lever == c.lever })
	})
}
