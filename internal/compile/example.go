package compile

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
)

// Example is one request with facts at which something holds.
type Example struct {
	Request authz.Request
	Facts   authz.Facts
}

// Document is what OPA and a rule see of the example.
func (e *Example) Document() map[string]any { return authz.Document(e.Request, e.Facts) }

// example makes a request and facts at which f holds, as usual as can be. f must
// be possible.
func (t *theory) example(a *Action, f vertex) (*Example, error) {
	usual := ordinary(a)
	here := t.and(f, t.possible)
	if here == never {
		return nil, fmt.Errorf("%s: there is no such situation", a.Name)
	}
	is := t.answersAt(usual)
	chosen := t.pick(here, func(v int32) bool { return is[v] })
	p, err := t.pointAt(chosen, usual)
	if err != nil {
		return nil, err
	}
	s, err := concrete(a.Name, p)
	if err != nil {
		return nil, fmt.Errorf("%s: an example is lost: %w", a.Name, err)
	}
	e := &Example{Request: s.request, Facts: s.facts}
	if s.facts.Client != nil {
		e.Facts.Practice = s.facts.Client.Practice
	} else if s.facts.Member != nil {
		e.Facts.Practice = s.facts.Member.Practice
	}
	return e, nil
}

// answersAt is how the variables come out at a whole point.
func (t *theory) answersAt(p point) []bool {
	c := newCode()
	bare := point{} // without the tables: they are no values of a document
	for path, v := range p {
		if table := tableOf(path); shape[path].form != formObject && (table == "" || p[table] != absent) {
			bare[path] = v
		}
	}
	fr := frame{document: bare.document()}
	out := make([]bool, len(t.vars))
	for v, a := range t.vars {
		if table, is := optionalTable(a); is {
			out[v] = p[table] != absent
		} else if n, err := c.add(a); err == nil {
			out[v] = c.eval(&fr, n)
		}
	}
	return out
}

// pointAt finds values for all places, such that the variables come out as
// chosen: the usual ones where they will do.
func (t *theory) pointAt(chosen cube, usual point) (point, error) {
	p := point{}
	for _, name := range optional {
		p[name] = usual[name]
		if v, asked := t.tables[name]; asked {
			p[name] = absent
			if chosen[v] {
				p[name] = "present"
			}
		}
	}
	for _, s := range t.groups {
		key := ""
		for _, name := range s.tables {
			if p[name] != absent {
				key += name + " "
			}
		}
		fits := slices.IndexFunc(s.ways[key], func(w way) bool {
			for i, v := range s.vars {
				if w.answers[i] != chosen[v] {
					return false
				}
			}
			return true
		})
		if fits < 0 {
			return nil, fmt.Errorf("no values of %v fit", s.group.paths)
		}
		maps.Copy(p, t.familiar(s, s.ways[key][fits], usual))
	}
	for path, d := range shape {
		if _, said := p[path]; said || d.form == formObject || path == "action.name" || strings.HasPrefix(path, "settings.") {
			continue
		}
		p[path] = absent
		if table := tableOf(path); table == "" || p[table] != absent {
			if v, ok := usual[path]; ok {
				p[path] = v
			} else if shape[path].place != placeProperty {
				p[path] = blank(path)
			}
		}
	}
	return p, nil
}

// blank is a value for a place that nobody asks for.
func blank(path string) any {
	switch shape[path].form {
	case formBool:
		return false
	case formTime:
		return usualTime
	case formTexts:
		return []string{}
	}
	return ""
}

// familiar is the assignment of a way with the most usual values; values that
// stand for any other are replaced by usual ones where that makes no difference.
func (t *theory) familiar(s *grouped, w way, usual point) point {
	var best point
	most := math.MinInt
	for _, p := range w.points {
		p, n := named(s.group, p), 0
		if apart := daysApart(p); slices.Equal(t.answersOf(s, apart), w.answers) {
			p = apart
		}
		for path, v := range p {
			if list, ok := v.([]string); v == "" || ok && slices.Contains(list, unknownWord) {
				n-- // nothing is said by it
			}
			if v == unknownWord && usual[path] != absent && usual[path] != nil {
				with := p.with(point{path: usual[path]})
				if answers := t.answersOf(s, with); slices.Equal(answers, w.answers) {
					p = with
				}
			}
			at, isTime := p[path].(time.Time)
			if reflect.DeepEqual(usual[path], p[path]) || isTime && at.Year() == usualTime.Year() {
				n++
			}
		}
		if n > most {
			best, most = p, n
		}
	}
	return best
}

// answersOf is how the variables of a group come out at an assignment.
func (t *theory) answersOf(s *grouped, p point) []bool {
	c := newCode()
	fr := frame{document: p.document()}
	out := make([]bool, len(s.vars))
	for i, v := range s.vars {
		if n, err := c.add(t.vars[v]); err == nil {
			out[i] = c.eval(&fr, n)
		}
	}
	return out
}

// labels are what the ids of a group are called, by a place in it.
var labels = []struct{ path, label string }{
	{"subject.id", "user"}, {"member.user", "user"}, {"client.assigned", "user"}, {propertiesPath + ".author", "user"},
	{"client.practice", "practice"}, {"member.practice", "practice"}, {propertiesPath + ".practice", "practice"},
	{"client.id", "client"}, {propertiesPath + ".client", "client"}, {"context.portal_profile", "client"},
	{"portal.contact", "contact"}, {propertiesPath + ".recipient", "contact"}, {"resource.id", "resource"},
}

// named gives the ids of an assignment names that people can read. Ids of
// different groups are never compared, so that they may be renamed apart.
func named(g *group, p point) point {
	i := slices.IndexFunc(labels, func(l struct{ path, label string }) bool { return slices.Contains(g.paths, l.path) })
	if i < 0 {
		return p
	}
	out := maps.Clone(p)
	names := map[string]string{}
	for _, path := range g.paths { // numbered in the order of the labels, then of the places
		if id, ok := p[path].(string); ok && strings.HasPrefix(id, "id-") && path == labels[i].path {
			names[id] = labels[i].label + "-1"
		}
	}
	for _, path := range g.paths {
		id, ok := p[path].(string)
		if !ok || !strings.HasPrefix(id, "id-") {
			continue
		}
		if names[id] == "" {
			names[id] = fmt.Sprintf("%s-%d", labels[i].label, len(names)+1)
		}
		out[path] = names[id]
	}
	return out
}

// daysApart moves times that lie microseconds from each other days apart.
func daysApart(p point) point {
	out := maps.Clone(p)
	for path, v := range p {
		if at, ok := v.(time.Time); ok && at.Year() == usualTime.Year() {
			steps := at.Sub(at.Truncate(time.Second)) / time.Microsecond
			out[path] = usualTime.AddDate(0, 0, int(steps))
		}
	}
	return out
}

var usualTime = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// ordinary is a whole point at which nothing is odd: a practitioner asks about a
// client of his practice who is assigned to somebody else, and has no grant. The
// places of a table that is absent have the values that they would have.
func ordinary(a *Action) point {
	p := usualFor(a)
	maps.Copy(p, point{"member": "present", "client": "present", "grant": absent, "portal": absent, "settings": "present", propertiesPath: absent,
		"member.roles": []string{authz.RolePractitioner}, "member.owner": false, "member.full_clinical_access": false, "member.billing_enabled": true,
		"member.id": "membership-1", "client.assigned": "user-2", "grant.scope": authz.ScopeCollaborate, "grant.expires_at": usualTime.AddDate(0, 1, 0), "context.now": usualTime, "context.latest": usualTime, "grant.not_before": usualTime.AddDate(0, -1, 0),
		"subject.id": "user-1", "member.user": "user-1", "member.practice": "practice-1", "client.practice": "practice-1", "client.id": "client-1",
		"resource.id": a.On + "-1", "context.purpose": "", "context.portal_profile": "",
		"portal.contact": "contact-1", "portal.enabled": true, "portal.own": false, "portal.relationship": "other",
		"portal.permissions": []string{}, "portal.features": []string{}})
	for _, name := range []string{"client", "practice", "author", "kind", "signed", "recipient"} {
		p[propertiesPath+"."+name] = absent
	}
	said := map[string]point{
		authz.ResourceNote:         {"client": "client-1", "author": "user-2", "kind": "progress", "signed": true},
		authz.ResourceDocument:     {"client": "client-1", "kind": "intake", "recipient": "client"},
		authz.ResourceFormTemplate: {"practice": "practice-1"},
		authz.ResourceMember:       {"practice": "practice-1"},
	}[a.On]
	for name, v := range said {
		p[propertiesPath], p[propertiesPath+"."+name] = "present", v
	}
	if a.On == authz.ResourcePractice {
		p["resource.id"] = "practice-1"
	}
	for _, s := range authz.Catalogue {
		p["settings."+s.Name] = s.Default
	}
	if a.portal() {
		p["subject.type"], p["member"], p["portal"], p["context.portal_profile"] = authz.SubjectPortal, absent, "present", "client-1"
	}
	return p
}

// portal reports that the action is one of a portal login, by what it asks of
// one: staff have other bases for theirs.
func (a *Action) portal() bool {
	asks := false
	for _, f := range a.Bases {
		f.questions(func(q *Formula) { asks = asks || q.A.Path == "portal.own" })
	}
	return asks
}
