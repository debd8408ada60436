package search

import (
	"context"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/facts"
	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5"
)

// chunk is how many candidates are read together where each is evaluated.
const chunk = 500

// lookup is a search in one snapshot.
type lookup struct {
	*snapshot
	policies *pdp.Policies
	page     *page
}

// anyID stands for whoever or whatever is searched for.
const anyID = "any"

// atFault reports whether every policy would refuse the question for whoever and
// whatever is searched for, and keeps the reason: both codes rest on the request
// alone.
func (l *lookup) atFault(ctx context.Context, r authz.Request) (bool, error) {
	var refused *authz.Decision
	for _, engine := range l.policies.Deciding() {
		d, err := engine.Evaluate(ctx, r, authz.Facts{})
		if err != nil {
			return false, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		}
		if d.Code != authz.CodeUnknownAction && d.Code != authz.CodeBadInput {
			return false, nil
		}
		if refused == nil {
			refused = &d
		}
	}
	l.page.found.Refused = refused
	return true, nil
}

// visit notes that the page looks at the practice of f.
func (l *lookup) visit(r authz.Request, f authz.Facts) {
	l.page.visit(r, f, l.policies.In(f.Practice))
}

// scoped reads the facts of r; those of a practice that the caller may not ask
// about are hidden (promises P5, P8).
func (l *lookup) scoped(ctx context.Context, r authz.Request) (authz.Facts, error) {
	f, err := facts.Load(ctx, l.tx, l.deployment, r)
	if err == nil && f.Practice != "" && !l.page.Caller.Scope.Covers(f.Practice) {
		f = f.Hidden()
	}
	return f, err
}

// keep evaluates r on f and keeps id where it is allowed.
func (l *lookup) keep(ctx context.Context, r authz.Request, f authz.Facts, practice, id string) error {
	d, err := l.policies.In(f.Practice).Evaluate(ctx, r, f)
	if err != nil {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	if d.Allow {
		l.page.add(practice, id)
	}
	return nil
}

// subjects finds who may do the action to the resource.
func (l *lookup) subjects(ctx context.Context) error {
	r := l.page.Request
	r.Subject.ID = anyID
	if fault, err := l.atFault(ctx, r); fault || err != nil {
		return err
	}
	r.Subject.ID = ""
	f, err := l.scoped(ctx, r)
	if err != nil {
		return err
	}
	f.Member, f.Grant, f.Portal = nil, nil, nil
	l.visit(r, f)
	switch {
	case f.Settings == nil:
		return nil // there is no such resource
	case r.Subject.Type == authz.SubjectPortal:
		return l.logins(ctx, r)
	case f.Client == nil:
		return l.membersOf(ctx, f, func(m *authz.Member) error {
			r, f := r, f
			r.Subject.ID, f.Member = m.User, m
			return l.keep(ctx, r, f, f.Practice, m.User)
		})
	}
	lists, err := formulas(l.policies.In(f.Practice))
	if err != nil {
		return err
	}
	rows, err := l.members(ctx, lists, compile.Listing{Request: r, Facts: f, After: l.page.from.ID, Limit: l.page.left()})
	for _, row := range rows {
		l.page.add(f.Practice, row.User)
	}
	return err
}

// membersOf tries the members of f's practice one by one, from where the page
// begins until it is full.
func (l *lookup) membersOf(ctx context.Context, f authz.Facts, try func(*authz.Member) error) error {
	after := l.page.from.ID
	for {
		rows, err := l.tx.Query(ctx, selectMembers, f.Practice, after, chunk)
		if err != nil {
			return unavailable("read members", err)
		}
		members, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (authz.Member, error) {
			m := authz.Member{Practice: f.Practice}
			err := row.Scan(&m.User, &m.ID, &m.Roles, &m.Status, &m.Owner, &m.FullClinicalAccess, &m.BillingEnabled)
			return m, err
		})
		if err != nil {
			return unavailable("read members", err)
		}
		for i := range members {
			if l.page.left() == 0 {
				return nil
			}
			if err := try(&members[i]); err != nil {
				return err
			}
			after = members[i].User
		}
		if len(members) < chunk {
			return nil
		}
	}
}

// logins tries the portal logins of the client one by one.
func (l *lookup) logins(ctx context.Context, r authz.Request) error {
	after := l.page.from.ID
	for {
		rows, err := l.tx.Query(ctx, selectLogins, r.Resource.Client(), after, chunk)
		if err != nil {
			return unavailable("read logins", err)
		}
		logins, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return unavailable("read logins", err)
		}
		for _, login := range logins {
			if l.page.left() == 0 {
				return nil
			}
			r.Subject.ID, after = login, login
			f, err := l.scoped(ctx, r)
			if err != nil {
				return err
			}
			if err := l.keep(ctx, r, f, f.Practice, login); err != nil {
				return err
			}
		}
		if len(logins) < chunk {
			return nil
		}
	}
}

// unkept are types of things that belong to other services.
var unkept = map[string]bool{authz.ResourceNote: true, authz.ResourceDocument: true, authz.ResourceFormTemplate: true}

// resources finds what the subject may do the action to.
func (l *lookup) resources(ctx context.Context) error {
	r := l.page.Request
	r.Resource.ID = anyID
	if unkept[r.Resource.Type] {
		return &authz.Problem{Kind: authz.ErrUnavailable, Type: "not-enumerated", Status: 501,
			Detail: fmt.Sprintf("resources of type %s are not kept here: search for clients, and ask about their %ss one by one", r.Resource.Type, r.Resource.Type)}
	}
	if fault, err := l.atFault(ctx, r); fault || err != nil {
		return err
	}
	r.Resource.ID = ""
	switch {
	case r.Subject.Type == authz.SubjectPortal && r.Resource.Type == authz.ResourceClient:
		return l.profiles(ctx, r)
	case r.Subject.Type != authz.SubjectUser:
		return nil
	case r.Resource.Type == authz.ResourceMember:
		return l.colleagues(ctx, r)
	}
	practices, err := l.practices(ctx, r)
	if err != nil {
		return err
	}
	for _, practice := range practices {
		if l.page.left() == 0 {
			return nil
		}
		if err := l.inPractice(ctx, r, practice); err != nil {
			return err
		}
	}
	return nil
}

// practices are those of the subject that the caller may ask about, from where
// the page begins; one alone where the question names it.
func (l *lookup) practices(ctx context.Context, r authz.Request) ([]string, error) {
	scope := l.page.Caller.Scope
	if named := r.Resource.Properties.Text("practice"); named != "" && r.Resource.Type == authz.ResourceClient {
		if !scope.Covers(named) {
			return nil, nil
		}
		scope.All, scope.Practices = false, []string{named}
	}
	rows, err := l.tx.Query(ctx, selectPractices, r.Subject.ID, l.page.from.Practice, scope.All, scope.Practices)
	if err != nil {
		return nil, unavailable("read memberships", err)
	}
	practices, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, unavailable("read memberships", err)
	}
	return practices, nil
}

// inPractice finds the clients of one practice, or the practice itself.
func (l *lookup) inPractice(ctx context.Context, r authz.Request, practice string) error {
	f, err := l.common(ctx, authz.Request{Subject: r.Subject, Resource: authz.Resource{Type: authz.ResourcePractice, ID: practice}})
	if err != nil {
		return err
	}
	after := ""
	if practice == l.page.from.Practice {
		after = l.page.from.ID
	}
	if r.Resource.Type == authz.ResourcePractice {
		if after != "" {
			return nil // it was a result already
		}
		r.Resource.ID = practice
		l.visit(r, f)
		return l.keep(ctx, r, f, practice, practice)
	}
	l.visit(r, f)
	lists, err := formulas(l.policies.In(f.Practice))
	if err != nil {
		return err
	}
	rows, err := l.clients(ctx, lists, compile.Listing{Request: r, Facts: f, After: after, Limit: l.page.left()})
	for _, row := range rows {
		l.page.add(practice, row.ID)
	}
	return err
}

// colleagues finds members of the practice that the question names.
func (l *lookup) colleagues(ctx context.Context, r authz.Request) error {
	f, err := l.scoped(ctx, r)
	if err != nil {
		return err
	}
	l.visit(r, f)
	if f.Settings == nil {
		return nil
	}
	return l.membersOf(ctx, f, func(m *authz.Member) error {
		r := r
		r.Resource.ID = m.User
		return l.keep(ctx, r, f, f.Practice, m.User)
	})
}

// profiles finds the clients with a portal access of a login.
func (l *lookup) profiles(ctx context.Context, r authz.Request) error {
	from, scope := l.page.from, l.page.Caller.Scope
	for {
		rows, err := l.tx.Query(ctx, selectProfiles, r.Subject.ID, from.Practice, from.ID, scope.All, scope.Practices, chunk)
		if err != nil {
			return unavailable("read profiles", err)
		}
		profiles, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Practice, Client string }])
		if err != nil {
			return unavailable("read profiles", err)
		}
		for _, profile := range profiles {
			if l.page.left() == 0 {
				return nil
			}
			from.Practice, from.ID = profile.Practice, profile.Client
			r.Resource.ID = profile.Client
			f, err := l.scoped(ctx, r)
			if err != nil {
				return err
			}
			if last := len(l.page.visited) - 1; last < 0 || l.page.visited[last].practice != f.Practice {
				common := f
				common.Client, common.Portal = nil, nil
				asked := r
				asked.Resource.ID = ""
				l.visit(asked, common)
			}
			if err := l.keep(ctx, r, f, profile.Practice, profile.Client); err != nil {
				return err
			}
		}
		if len(profiles) < chunk {
			return nil
		}
	}
}
