package grants

import (
	"context"
	"fmt"
	"slices"
	"time"

	"chartgate/internal/authz"
)

const actionOpenChart = "chart.open"

// Access is Manage Access for one client: who opens its chart now and why, and
// who could be given a grant.
type Access struct {
	Version int64 // raised by every change of the client's grants, whoever makes it
	Members []MemberAccess
}

// MemberAccess is one member in Access; Bases are those of chart.open now.
type MemberAccess struct {
	Member
	Eligible bool // could be given a grant
	Bases    []string
	Grants   []Grant // in force and to come, by start; ended ones are not shown
}

// Access returns every member of the practice who is not removed, by user id.
func (s *Service) Access(ctx context.Context, actor authz.Subject, practice, client string) (Access, error) {
	var access Access
	c := call{actor: actor, action: actionAccess, practice: practice, client: client, hold: reading}
	err := s.do(ctx, c, func(a *act) error {
		var err error
		access, err = s.show(ctx, a)
		return err
	})
	return access, err
}

// SaveAccess makes items the whole set of grants on a client, all or nothing.
// A grant that is named unchanged stays the same grant, what an item leaves out
// stays as it is, and whoever is not named loses what he had. If current does
// not accept the version that stands now, nothing changes and the problem is
// "changed-meanwhile" (DOMAIN rule 35).
func (s *Service) SaveAccess(ctx context.Context, actor authz.Subject, practice, client string, items []Terms,
	current func(version int64) bool) (Access, error) {
	var access Access
	c := call{actor: actor, action: actionAccess, practice: practice, client: client, hold: changingClient}
	for n, item := range items {
		if err := item.check(at(n)); err != nil {
			return Access{}, err
		}
		c.members = append(c.members, item.User)
	}
	err := s.do(ctx, c, func(a *act) error {
		var version int64
		if err := a.tx.QueryRow(ctx, selectVersion, client).Scan(&version); err != nil {
			return fmt.Errorf("read version: %w", err)
		}
		if !current(version) {
			return changedMeanwhile()
		}
		if err := a.saveSet(ctx, items); err != nil {
			return err
		}
		var err error
		access, err = s.show(ctx, a)
		return err
	})
	return access, err
}

// at is the pointer of an item of the set.
func at(n int) string { return fmt.Sprintf("/grants/%d", n) }

func (a *act) saveSet(ctx context.Context, items []Terms) error {
	open, err := a.openGrants(ctx)
	if err != nil {
		return err
	}
	p, err := planSet(open, items, a.standard(), a.now)
	if err != nil {
		return err
	}
	for _, g := range p.give {
		if err := a.checkGrantee(g.User, at(g.item)); err != nil {
			return err
		}
		if err := a.checkTerms(g.Grant, at(g.item)); err != nil {
			return err
		}
	}
	for _, old := range p.close {
		how := "revoked"
		if slices.ContainsFunc(p.give, func(g asked) bool { return g.User == old.User }) {
			how = "replaced"
		}
		if err := a.closeGrant(ctx, old, how, ""); err != nil {
			return err
		}
	}
	for _, g := range p.give {
		if _, err := a.giveGrant(ctx, g.Grant); err != nil {
			return err
		}
	}
	return nil
}

// plan is what has to be done for a set to stand.
type plan struct {
	keep  []Grant
	close []Grant
	give  []asked
}

// asked is a grant with the item that asked for it.
type asked struct {
	Grant
	item int
}

// planSet compares the open grants of a client with the set that is to stand.
// It is pure. An item without a start means the member's first open grant that
// no other item means; one with a start means the grant that starts then, or,
// if that is past, the one in force.
func planSet(open []Grant, items []Terms, standard Grant, now time.Time) (plan, error) {
	var p plan
	left := slices.Clone(open)
	for _, n := range startsFirst(items) {
		item := items[n]
		i := slices.IndexFunc(left, func(g Grant) bool { return item.means(g, now) })
		if i < 0 {
			p.give = append(p.give, asked{item.over(standard, now), n})
			continue
		}
		old := left[i]
		left = slices.Delete(left, i, i+1)
		if wanted := item.over(old, now); wanted.from(old, now).same(old) {
			p.keep = append(p.keep, old)
		} else {
			p.close, p.give = append(p.close, old), append(p.give, asked{wanted, n})
		}
	}
	p.close = append(p.close, left...)
	for i, g := range p.give {
		twice := func(o Grant) bool { return g.overlaps(o) }
		if slices.ContainsFunc(p.keep, twice) || slices.ContainsFunc(p.give[:i], func(o asked) bool { return twice(o.Grant) }) {
			return plan{}, malformed(at(g.item), "names a user who has another grant in this set at the same time")
		}
	}
	return p, nil
}

// startsFirst returns the indices of items, those that say a start before those
// that mean whichever grant is left.
func startsFirst(items []Terms) []int {
	var with, without []int
	for n, item := range items {
		if item.NotBefore != nil {
			with = append(with, n)
		} else {
			without = append(without, n)
		}
	}
	return append(with, without...)
}

// means reports whether t is about g.
func (t Terms) means(g Grant, now time.Time) bool {
	if t.User != g.User {
		return false
	}
	if t.NotBefore == nil {
		return true
	}
	start := inUTC(*t.NotBefore)
	return start.Equal(g.NotBefore) || (!start.After(now) && !g.NotBefore.After(now))
}

// show reads Access as it stands in a's transaction.
func (s *Service) show(ctx context.Context, a *act) (Access, error) {
	access, err := a.readAccess(ctx)
	if err != nil {
		return Access{}, err
	}
	for i := range access.Members {
		m := &access.Members[i]
		m.Eligible = eligible(m.Member, a.settings.Effective) && m.User != a.client.assigned
		d, err := s.policy.Evaluate(ctx, openChart(m.User, a), a.factsOf(m))
		if err != nil {
			return Access{}, fmt.Errorf("bases of %s: %w", m.User, err)
		}
		m.Bases = d.Bases
	}
	return access, nil
}

func openChart(user string, a *act) authz.Request {
	return authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: user}, Action: actionOpenChart,
		Resource: authz.Resource{Type: authz.ResourceClient, ID: a.client.id}}
}

// factsOf are the facts of a question that m would ask about the client now.
func (a *act) factsOf(m *MemberAccess) authz.Facts {
	f := authz.Facts{
		Now: a.now, Practice: a.practice, Settings: a.settings.Effective,
		Client: &authz.Client{ID: a.client.id, Practice: a.practice, Assigned: a.client.assigned, Status: a.client.status},
		Member: &authz.Member{ID: m.membership, User: m.User, Practice: a.practice, Roles: m.Roles, Status: m.Status,
			Owner: m.Owner, FullClinicalAccess: m.FullClinicalAccess, BillingEnabled: m.BillingEnabled},
	}
	if len(m.Grants) > 0 {
		f.Grant = &authz.Grant{Scope: m.Grants[0].Scope, NotBefore: m.Grants[0].NotBefore, ExpiresAt: m.Grants[0].ExpiresAt}
	}
	return f
}

func (a *act) readAccess(ctx context.Context) (Access, error) {
	rows, err := a.tx.Query(ctx, selectAccess, a.practice, a.client.id, a.now)
	if err != nil {
		return Access{}, fmt.Errorf("read access: %w", err)
	}
	defer rows.Close()
	var access Access
	for rows.Next() {
		var (
			m                     Member
			id, scope, reason, by *string
			start, end, given     *time.Time
		)
		err := rows.Scan(&access.Version, &m.User, &m.membership, &m.Name, &m.Roles, &m.Status, &m.Owner, &m.FullClinicalAccess, &m.BillingEnabled,
			&id, &scope, &start, &end, &reason, &by, &given)
		if err != nil {
			return Access{}, fmt.Errorf("read access: %w", err)
		}
		m.Roles = inOrder(m.Roles)
		if last := len(access.Members) - 1; last < 0 || access.Members[last].User != m.User {
			access.Members = append(access.Members, MemberAccess{Member: m})
		}
		if id != nil {
			list := &access.Members[len(access.Members)-1].Grants
			*list = append(*list, Grant{ID: *id, User: m.User, Scope: *scope, NotBefore: inUTC(*start), ExpiresAt: inUTC(*end),
				Reason: *reason, GrantedBy: *by, GrantedAt: inUTC(*given)})
		}
	}
	return access, rows.Err()
}
