package compile

import (
	"reflect"
	"slices"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Change is one fact made another one, as somebody can make it. It only gives:
// nothing is taken from the subject to have him allowed.
type Change struct {
	Fact string // what is changed: "grant", "client.assigned", "member.roles", "settings.hide_unassigned" …
	To   any    // what it becomes: of a list, the word that is added to it
	Cost int    // how far it reaches: see the costs

	lever int // changes of one lever exclude each other
	apply func(*authz.Request, *authz.Facts)
}

// The costs. A change costs the more, the more clients and people it reaches:
// one person on one client, one person on many, a whole practice.
const (
	costProfile       = 5  // the person himself enters the profile that he asks about
	costGrantView     = 10 // one client, one person, to read
	costPortal        = 10 // one contact's access on one client
	costGrantWork     = 12
	costReactivate    = 15 // one client, for all who had access
	costBilling       = 15 // one person, billing of his clients
	costAssign        = 20 // takes the client from somebody else
	costAccept        = 25 // the invited person must do it
	costFeature       = 30 // what the portal offers
	costFull          = 40 // one person, all clients
	costRole          = 50
	costInvite        = 60
	costAdministrator = 80
	costSetting       = 100 // everybody
)

// shortestEnd is the end of a grant that is offered where the practice asks for
// one and does not say how long it may be.
const shortestEnd = 30 * 24 * time.Hour

// levers are the changes that can be made to what is known, in the order in
// which they are made. Constants are those that the policy compares a place
// with; only numbers need them.
type levers struct {
	request   authz.Request
	facts     authz.Facts
	constants func(path string) []ast.Value

	changes []Change
	places  map[string]bool // what they can change
	count   int
}

func leversOf(r authz.Request, f authz.Facts, constants func(string) []ast.Value) *levers {
	l := &levers{request: r, facts: f, constants: constants, places: map[string]bool{}}
	l.membership() // first: it makes the membership new
	l.roles()
	l.switches()
	l.client()
	l.grant()
	l.portal()
	l.settings()
	return l
}

// lever begins a new lever, which moves these places.
func (l *levers) lever(places ...string) {
	l.count++
	for _, p := range places {
		l.places[p] = true
	}
}

func (l *levers) add(fact string, to any, cost int, apply func(*authz.Request, *authz.Facts)) {
	l.changes = append(l.changes, Change{fact, to, cost, l.count, apply})
}

// ofMember changes a copy of the membership.
func ofMember(change func(*authz.Member)) func(*authz.Request, *authz.Facts) {
	return func(_ *authz.Request, f *authz.Facts) {
		m := *f.Member
		change(&m)
		f.Member = &m
	}
}

func ofClient(change func(*authz.Client)) func(*authz.Request, *authz.Facts) {
	return func(_ *authz.Request, f *authz.Facts) {
		c := *f.Client
		change(&c)
		f.Client = &c
	}
}

func ofPortal(change func(*authz.Portal)) func(*authz.Request, *authz.Facts) {
	return func(_ *authz.Request, f *authz.Facts) {
		p := *f.Portal
		change(&p)
		f.Portal = &p
	}
}

// membership lets an invitation be accepted, and a removed member be invited
// again. Whoever was never a member of the practice is offered nothing.
func (l *levers) membership() {
	if l.facts.Member == nil {
		return
	}
	switch l.facts.Member.Status {
	case authz.MemberInvited:
		l.lever("member.status")
		l.add("member.status", authz.MemberActive, costAccept, ofMember(func(m *authz.Member) { m.Status = authz.MemberActive }))
	case authz.MemberRemoved:
		l.lever("member.status", "member.full_clinical_access", "member.billing_enabled")
		l.add("member.status", authz.MemberActive, costInvite, func(r *authz.Request, f *authz.Facts) {
			ofMember(func(m *authz.Member) { // a new membership has nothing of the old one (DOMAIN rule 58)
				m.Status, m.Owner, m.FullClinicalAccess, m.BillingEnabled = authz.MemberActive, false, false, true
			})(r, f)
			f.Grant = nil
		})
	}
}

func (l *levers) roles() {
	if l.facts.Member == nil {
		return
	}
	for _, role := range authz.Roles {
		if slices.Contains(l.facts.Member.Roles, role) {
			continue
		}
		cost := costRole
		if role == authz.RoleAdministrator {
			cost = costAdministrator
		}
		l.lever("member.roles")
		l.add("member.roles", role, cost, ofMember(func(m *authz.Member) { m.Roles = append(slices.Clone(m.Roles), role) }))
	}
}

// switches are those of a membership.
func (l *levers) switches() {
	m := l.facts.Member
	if m == nil {
		return
	}
	if !m.BillingEnabled {
		l.lever("member.billing_enabled")
		l.add("member.billing_enabled", true, costBilling, ofMember(func(m *authz.Member) { m.BillingEnabled = true }))
	}
	if !m.FullClinicalAccess {
		l.lever("member.full_clinical_access")
		l.add("member.full_clinical_access", true, costFull, ofMember(func(m *authz.Member) { m.FullClinicalAccess = true }))
	}
}

func (l *levers) client() {
	c := l.facts.Client
	if c == nil {
		return
	}
	if c.Status == authz.ClientArchived {
		l.lever("client.status")
		l.add("client.status", authz.ClientActive, costReactivate, ofClient(func(c *authz.Client) { c.Status = authz.ClientActive }))
	}
	if m := l.facts.Member; m != nil && c.Assigned != m.User {
		l.lever("client.assigned")
		l.add("client.assigned", m.User, costAssign, ofClient(func(c *authz.Client) { c.Assigned = m.User }))
	}
}

// grant gives one that is in force from now on, to read or to work, or makes
// one of the grant that there is.
func (l *levers) grant() {
	f := l.facts
	if f.Client == nil || f.Member == nil || f.Now.IsZero() {
		return
	}
	l.lever("grant", "grant.scope", "grant.not_before", "grant.expires_at")
	for scope, cost := range map[string]int{authz.ScopeView: costGrantView, authz.ScopeCollaborate: costGrantWork} {
		g := authz.Grant{Scope: scope, NotBefore: f.Now, ExpiresAt: l.end()}
		if old := f.Grant; old != nil {
			if old.ExpiresAt.Before(g.ExpiresAt) {
				g.ExpiresAt = old.ExpiresAt
			}
			if !old.NotBefore.After(f.Now) {
				g.NotBefore = old.NotBefore
			}
		}
		l.add("grant", g, cost, func(_ *authz.Request, f *authz.Facts) { f.Grant = &g })
	}
	slices.SortStableFunc(l.changes[len(l.changes)-2:], func(a, b Change) int { return a.Cost - b.Cost })
}

// end is the latest end that the practice's settings let a new grant have.
func (l *levers) end() time.Time {
	s := l.facts.Settings
	if s == nil {
		return authz.NoEnd
	}
	if days := s.Number("grant_max_days"); days > 0 {
		return l.facts.Now.Add(time.Duration(days) * 24 * time.Hour)
	}
	if s.On("grant_requires_expiry") {
		return l.facts.Now.Add(shortestEnd)
	}
	return authz.NoEnd
}

// portal changes the access that a login has. One without any is offered none:
// nobody but the client can say that it should.
func (l *levers) portal() {
	if c := l.facts.Client; c != nil && l.request.Subject.Type == authz.SubjectPortal && l.request.Context.PortalProfile != c.ID {
		l.lever("context.portal_profile")
		l.add("context.portal_profile", c.ID, costProfile, func(r *authz.Request, _ *authz.Facts) { r.Context.PortalProfile = c.ID })
	}
	p := l.facts.Portal
	if p == nil {
		return
	}
	if !p.Enabled {
		l.lever("portal.enabled")
		l.add("portal.enabled", true, costPortal, ofPortal(func(p *authz.Portal) { p.Enabled = true }))
	}
	for _, word := range authz.PortalPermissions {
		if !p.Own && !slices.Contains(p.Permissions, word) {
			l.lever("portal.permissions")
			l.add("portal.permissions", word, costPortal, ofPortal(func(p *authz.Portal) { p.Permissions = append(slices.Clone(p.Permissions), word) }))
		}
	}
	for _, word := range authz.PortalFeatures {
		if !slices.Contains(p.Features, word) {
			l.lever("portal.features")
			l.add("portal.features", word, costFeature, ofPortal(func(p *authz.Portal) { p.Features = append(slices.Clone(p.Features), word) }))
		}
	}
}

// settings can be made all that the catalogue lets them be.
func (l *levers) settings() {
	s := l.facts.Settings
	if s == nil {
		return
	}
	for _, setting := range authz.Catalogue {
		path := "settings." + setting.Name
		l.lever(path)
		for _, v := range settingDomain(setting, l.constants(path)) {
			if reflect.DeepEqual(v, s.Value(setting.Name)) {
				continue
			}
			l.add(path, v, costSetting, func(_ *authz.Request, f *authz.Facts) { f.Settings = withSetting(f.Settings, setting, v) })
		}
	}
}

// withSetting is s with one setting changed.
func withSetting(s *authz.Settings, changed authz.Setting, v any) *authz.Settings {
	all := make(map[string]any, len(authz.Catalogue))
	for _, d := range authz.Catalogue {
		all[d.Name] = s.Show(d)
	}
	all[changed.Name] = changed.Write(v)
	out, err := authz.NewSettings(authz.DefaultPreset, all)
	if err != nil {
		return s // what the catalogue does not allow changes nothing, and so allows nothing
	}
	return out
}

// possible reports whether whoever makes the changes is let to: what the rules
// of grants and of assignment ask of the member (DOMAIN rules 32 to 34, 56).
func possible(way []Change, f authz.Facts) bool {
	holds := func(roles []string) bool {
		return f.Member.Status == authz.MemberActive &&
			slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(f.Member.Roles, role) })
	}
	for _, c := range way {
		switch c.Fact {
		case "grant":
			if f.Settings == nil || !holds(f.Settings.List("grantee_roles")) || f.Client.Assigned == f.Member.User {
				return false
			}
		case "client.assigned":
			if !holds([]string{authz.RolePractitioner}) {
				return false
			}
		}
	}
	return true
}
