package compile_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"pgregory.net/rapid"
)

// alteration is one fact made another, as the test has it: told apart from the
// levers of the package, with its own prices.
type alteration struct {
	name, of string // two of the same fact are not made together
	cost     int
	make     func(r *authz.Request, f *authz.Facts)
}

// alterations lists every value that every fact of a membership, a client, a
// grant, a portal access and the settings can be given, whoever could do it.
// What takes away is nearly free here, so that it would be found if it helped.
func alterations(r authz.Request, f authz.Facts) []alteration {
	var all []alteration
	add := func(name, of string, cost int, make func(r *authz.Request, f *authz.Facts)) {
		all = append(all, alteration{name, of, cost, make})
	}
	if f.Member != nil {
		member := func(name, of string, cost int, set func(m *authz.Member)) {
			add(name, of, cost, func(_ *authz.Request, f *authz.Facts) { m := *f.Member; set(&m); f.Member = &m })
		}
		switch f.Member.Status {
		case "invited":
			member("accepts", "status", 25, func(m *authz.Member) { m.Status = "active" })
		case "removed":
			add("invited again", "status", 60, func(_ *authz.Request, f *authz.Facts) {
				m := *f.Member
				m.Status, m.Owner, m.FullClinicalAccess, m.BillingEnabled = "active", false, false, true
				f.Member, f.Grant = &m, nil
			})
		case "active":
			member("removed", "status", 1, func(m *authz.Member) { m.Status = "removed" })
		}
		for _, role := range authz.Roles {
			cost := 50
			if role == "administrator" {
				cost = 80
			}
			if slices.Contains(f.Member.Roles, role) {
				member("not "+role, role, 1, func(m *authz.Member) {
					m.Roles = slices.DeleteFunc(slices.Clone(m.Roles), func(held string) bool { return held == role })
				})
			} else {
				member(role, role, cost, func(m *authz.Member) { m.Roles = append([]string{role}, m.Roles...) })
			}
		}
		price := func(on bool, cost int) int {
			if on {
				return 1
			}
			return cost
		}
		member("full access", "full", price(f.Member.FullClinicalAccess, 40), func(m *authz.Member) { m.FullClinicalAccess = !m.FullClinicalAccess })
		member("billing", "billing", price(f.Member.BillingEnabled, 15), func(m *authz.Member) { m.BillingEnabled = !m.BillingEnabled })
	}
	if f.Client != nil {
		for status, cost := range map[string]int{"active": 15, "archived": 1} {
			if status != f.Client.Status && (f.Client.Status == "active" || f.Client.Status == "archived") {
				add(status, "client", cost, func(_ *authz.Request, f *authz.Facts) { c := *f.Client; c.Status = status; f.Client = &c })
			}
		}
		for user, cost := range map[string]int{"": 1, r.Subject.ID: 20} {
			if f.Client.Assigned != user {
				add("assigned "+user, "assigned", cost, func(_ *authz.Request, f *authz.Facts) { c := *f.Client; c.Assigned = user; f.Client = &c })
			}
		}
		if f.Member != nil {
			for scope, cost := range map[string]int{"view": 10, "collaborate": 12} {
				g := authz.Grant{Scope: scope, NotBefore: f.Now, ExpiresAt: authz.NoEnd}
				if f.Grant != nil {
					g.ExpiresAt = f.Grant.ExpiresAt
				}
				add("grant to "+scope, "grant", cost, func(_ *authz.Request, f *authz.Facts) { f.Grant = &g })
			}
			add("no grant", "grant", 1, func(_ *authz.Request, f *authz.Facts) { f.Grant = nil })
		}
		if r.Subject.Type == authz.SubjectPortal {
			id := f.Client.ID
			add("profile", "profile", 5, func(r *authz.Request, _ *authz.Facts) { r.Context.PortalProfile = id })
		}
	}
	return append(append(all, portalAlterations(f)...), settingAlterations(f)...)
}

func portalAlterations(f authz.Facts) []alteration {
	var all []alteration
	if f.Portal == nil {
		return nil
	}
	add := func(name string, cost int, set func(p *authz.Portal)) {
		all = append(all, alteration{name, name, cost, func(_ *authz.Request, f *authz.Facts) { p := *f.Portal; set(&p); f.Portal = &p }})
	}
	if !f.Portal.Enabled {
		add("portal on", 10, func(p *authz.Portal) { p.Enabled = true })
	}
	if !f.Portal.Own {
		for _, word := range authz.PortalPermissions {
			add("permission "+word, 10, func(p *authz.Portal) { p.Permissions = append(slices.Clone(p.Permissions), word) })
		}
	}
	for _, word := range authz.PortalFeatures {
		add("feature "+word, 30, func(p *authz.Portal) { p.Features = append(slices.Clone(p.Features), word) })
	}
	return all
}

func settingAlterations(f authz.Facts) []alteration {
	var all []alteration
	if f.Settings == nil {
		return nil
	}
	for _, s := range authz.Catalogue {
		values := []any{true, false}
		switch s.Default.(type) {
		case int64:
			continue // days: no rule reads them
		case string:
			values = nil
			for _, w := range s.Allowed {
				values = append(values, w)
			}
		case []string:
			values = []any{[]any{}}
			for _, w := range s.Allowed {
				values = append(values, []any{w})
			}
		}
		for _, v := range values {
			overrides := map[string]any{}
			for _, d := range authz.Catalogue {
				overrides[d.Name] = f.Settings.Show(d)
			}
			overrides[s.Name] = v
			if made, err := authz.NewSettings("seed", overrides); err == nil {
				all = append(all, alteration{s.Name, s.Name, 100, func(_ *authz.Request, f *authz.Facts) { f.Settings = made }})
			}
		}
	}
	return all
}

// doable is what giving a grant and assigning ask of a member, told again.
func doable(made []alteration, f authz.Facts) bool {
	for _, a := range made {
		if a.of != "grant" && a.of != "assigned" || a.cost == 1 {
			continue
		}
		if f.Member == nil || f.Member.Status != "active" || !slices.Contains(f.Member.Roles, "practitioner") {
			return false
		}
		if a.of == "grant" && (f.Client.Assigned == f.Member.User || f.Settings == nil || len(f.Settings.List("grantee_roles")) == 0) {
			return false
		}
	}
	return true
}

// cheapest finds, by trying everything, the cheapest single or double alteration
// that OPA allows; -1 if there is none.
func cheapest(t *rapid.T, s setup, r authz.Request, f authz.Facts, bound int) (int, string) {
	best, name := -1, ""
	try := func(made ...alteration) {
		cost, said := 0, ""
		after, facts := r, f
		for _, a := range made {
			a.make(&after, &facts)
			cost += a.cost
			said += a.name + "; "
		}
		if best >= 0 && cost >= best || bound >= 0 && cost >= bound || !doable(made, facts) {
			return
		}
		if len(made) > 1 { // pairs are many: the program, which TestProgramIsOPA compares with OPA, judges them
			if d, ok := s.program.Evaluate(&after, &facts); ok && !d.Allow {
				return
			}
		}
		d, err := s.engine.Evaluate(context.Background(), after, facts)
		if err != nil {
			t.Fatal(err)
		}
		if d.Allow {
			best, name = cost, said
		}
	}
	all := alterations(r, f)
	for i, a := range all {
		try(a)
		for _, b := range all[i+1:] {
			if a.of != b.of {
				try(a, b)
			}
		}
	}
	return best, name
}

// TestNothingCheaperThanTheFirstWay: every way that is offered allows, none can
// do without one of its changes, and no single or double change of facts that
// allows is cheaper than the first.
func TestNothingCheaperThanTheFirstWay(t *testing.T) {
	s := theShipped(t)
	offered := 0
	actions := slices.Sorted(maps.Keys(s.policy.Actions))
	rapid.Check(t, func(t *rapid.T) {
		r, f := drawFacts(t, actions)
		if f.Now.After(day0.AddDate(1, 0, 0)) || f.Now.Before(day0.AddDate(-1, 0, 0)) || f.Latest.Before(f.Now) || f.Latest.After(day0.AddDate(1, 0, 0)) {
			f.Now, f.Latest = day0, day0 // a clock that is one
		}
		if g := f.Grant; g != nil && !g.ExpiresAt.After(f.Latest) {
			f.Grant = nil // one that ended is no fact
		}
		if m := f.Member; m != nil && m.Status == "removed" {
			m.FullClinicalAccess = false // a CHECK of the table
		}
		d, err := s.engine.Evaluate(ctx, r, f)
		if err != nil || d.Allow {
			return
		}
		ways, err := s.policy.Nearest(r, f, 5)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range ways {
			offered++
			if !allowed(t, s, w, r, f) {
				t.Fatalf("%+v does not allow %+v on %+v", w.Changes, r, f)
			}
			if i > 0 && w.Cost < ways[i-1].Cost {
				t.Fatalf("ways cost %d, then %d", ways[i-1].Cost, w.Cost)
			}
			for k := range w.Changes {
				less := compile.Way{Changes: slices.Delete(slices.Clone(w.Changes), k, k+1)}
				if len(less.Changes) > 0 && allowed(t, s, less, r, f) && w.Changes[k].Fact != "member.roles" {
					t.Fatalf("%+v allows without %s", w.Changes, w.Changes[k].Fact)
				}
			}
		}
		bound := -1
		if len(ways) > 0 {
			bound = ways[0].Cost
		}
		if cost, name := cheapest(t, s, r, f, bound); cost >= 0 {
			t.Fatalf("%s costs %d, and the ways are %+v, for %+v on %+v %+v %+v", name, cost, ways, r, f.Member, f.Client, f.Grant)
		}
	})
	if offered < 20 {
		t.Errorf("only %d ways were offered: nothing is tried", offered)
	}
}

func allowed(t *rapid.T, s setup, w compile.Way, r authz.Request, f authz.Facts) bool {
	after, facts := w.Apply(r, f)
	d, err := s.engine.Evaluate(ctx, after, facts)
	if err != nil {
		t.Fatal(err)
	}
	return d.Allow
}

func TestNearestWays(t *testing.T) {
	s := theShipped(t)
	settings, err := authz.NewSettings(authz.DefaultPreset, map[string]any{"grant_max_days": 90})
	if err != nil {
		t.Fatal(err)
	}
	member := authz.Member{ID: "m-2", User: "practitioner-2", Practice: "practice-1", Roles: []string{"practitioner"}, Status: "active", BillingEnabled: true}
	client := authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: "archived"}
	facts := authz.Facts{Now: day0, Latest: day0, Practice: "practice-1", Settings: settings, Member: &member, Client: &client}
	open := askAbout("chart.open", "client", "practitioner-2", "client-1", nil)

	ways, err := s.policy.Nearest(open, facts, 10)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, w := range ways {
		said = append(said, w.Changes[0].Fact)
	}
	if !slices.Equal(said, []string{"grant", "client.assigned", "member.full_clinical_access", "member.roles"}) {
		t.Errorf("ways to open a chart: %v", said)
	}
	if g, _ := ways[0].Changes[0].To.(authz.Grant); g.Scope != "view" || !g.ExpiresAt.Equal(day0.Add(90*24*time.Hour)) {
		t.Errorf("the cheapest grant is %+v", ways[0].Changes[0].To)
	}
	if facts.Grant != nil || len(member.Roles) != 1 || client.Assigned != "practitioner-1" {
		t.Error("the facts were changed")
	}

	for name, edit := range map[string]func(r *authz.Request, f *authz.Facts){
		"another practice":     func(_ *authz.Request, f *authz.Facts) { c := client; c.Practice = "practice-2"; f.Client = &c },
		"no membership":        func(_ *authz.Request, f *authz.Facts) { f.Member = nil },
		"no such client":       func(_ *authz.Request, f *authz.Facts) { *f = f.Hidden() },
		"an unknown action":    func(r *authz.Request, _ *authz.Facts) { r.Action = "chart.burn" },
		"what nobody ever may": func(r *authz.Request, _ *authz.Facts) { r.Action = "client.merge" },
		"half a request":       func(r *authz.Request, _ *authz.Facts) { r.Resource.ID = "" },
		"the practice of somebody": func(r *authz.Request, _ *authz.Facts) {
			r.Resource.Properties = authz.Properties{"practice": "practice-2"}
		},
		"somebody's protected note": func(r *authz.Request, _ *authz.Facts) {
			*r = askAbout("note.read", "note", "practitioner-2", "client-1", authz.Properties{"author": "practitioner-1", "kind": "psychotherapy", "signed": false})
		},
	} {
		r, f := open, facts
		edit(&r, &f)
		if ways, err := s.policy.Nearest(r, f, 10); err != nil || len(ways) > 0 {
			t.Errorf("%s: offered %+v, %v", name, ways, err)
		}
	}
}
