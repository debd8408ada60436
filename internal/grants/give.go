package grants

import (
	"context"
	"errors"
	"fmt"
	"time"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const actionAccess = "access.manage"

// Grant opens one client to one member, from NotBefore up to but not including
// ExpiresAt (DOMAIN rules 41–45).
type Grant struct {
	ID        string
	User      string
	Scope     string
	NotBefore time.Time
	ExpiresAt time.Time // authz.NoEnd when it has none
	Reason    string
	GrantedBy string
	GrantedAt time.Time
}

func (g Grant) endless() bool { return !g.ExpiresAt.Before(authz.NoEnd) }

// same reports whether two grants give the same: all but who gave it and when.
func (g Grant) same(o Grant) bool {
	return g.User == o.User && g.Scope == o.Scope && g.NotBefore.Equal(o.NotBefore) && g.ExpiresAt.Equal(o.ExpiresAt) && g.Reason == o.Reason
}

// from returns g with the start of o, where both have started: from now on that
// is the same.
func (g Grant) from(o Grant, now time.Time) Grant {
	if !g.NotBefore.After(now) && !o.NotBefore.After(now) {
		g.NotBefore = o.NotBefore
	}
	return g
}

func (g Grant) overlaps(o Grant) bool {
	return g.User == o.User && g.NotBefore.Before(o.ExpiresAt) && o.NotBefore.Before(g.ExpiresAt)
}

// covers reports whether g, from now on, gives everything that o gives.
func (g Grant) covers(o Grant, now time.Time) bool {
	from := later(o.NotBefore, now)
	return !g.NotBefore.After(from) && !g.ExpiresAt.Before(o.ExpiresAt) && (g.Scope == o.Scope || g.Scope == authz.ScopeCollaborate)
}

// document is the grant on record: its reason is the change's own.
func (g Grant) document() map[string]any {
	d := map[string]any{"id": g.ID, "scope": g.Scope, "not_before": authz.FormatTime(g.NotBefore), "granted_by": g.GrantedBy}
	if !g.endless() {
		d["expires_at"] = authz.FormatTime(g.ExpiresAt)
	}
	return d
}

// Terms are what is asked for a member. What is left out takes the practice's
// default, or, where a whole set is saved, stays as it is.
type Terms struct {
	User      string
	Scope     *string    // nil: left out
	NotBefore *time.Time // nil: left out; a start that is past is now
	ExpiresAt *time.Time // nil: left out; authz.NoEnd for no end
	Reason    *string    // nil: left out
}

// over returns the grant that t asks for, where base holds what is left out.
func (t Terms) over(base Grant, now time.Time) Grant {
	g := Grant{User: t.User, Scope: base.Scope, NotBefore: base.NotBefore, ExpiresAt: base.ExpiresAt, Reason: base.Reason}
	if t.Scope != nil {
		g.Scope = *t.Scope
	}
	if t.NotBefore != nil {
		g.NotBefore = inUTC(*t.NotBefore)
	}
	if t.ExpiresAt != nil {
		g.ExpiresAt = inUTC(*t.ExpiresAt)
	}
	if t.Reason != nil {
		g.Reason = *t.Reason
	}
	g.NotBefore = later(g.NotBefore, now)
	return g
}

// standard is the grant that is given when nothing is said about it.
func (a *act) standard() Grant {
	return Grant{Scope: a.settings.Effective.Text("grant_default_scope"), NotBefore: a.now, ExpiresAt: authz.NoEnd}
}

func (t Terms) check(at string) error {
	switch {
	case !authz.ValidID(t.User):
		return malformed(at+"/user", "must be 1 to 128 bytes of UTF-8 without control characters")
	case t.Scope != nil && *t.Scope != authz.ScopeView && *t.Scope != authz.ScopeCollaborate:
		return malformed(at+"/scope", "must be view or collaborate")
	case t.ExpiresAt != nil && t.ExpiresAt.After(authz.NoEnd):
		return malformed(at+"/expires_at", "must not be later than "+authz.FormatTime(authz.NoEnd))
	case t.NotBefore != nil && t.NotBefore.After(authz.NoEnd):
		return malformed(at+"/not_before", "must not be later than "+authz.FormatTime(authz.NoEnd))
	case t.Reason != nil:
		return checkReasonAt(*t.Reason, at)
	}
	return nil
}

// Give gives one grant. The same grant again is the one that stands: created is
// then false. A grant that overlaps with what the member has takes its place if
// it gives at least as much; Give never takes anything away.
func (s *Service) Give(ctx context.Context, actor authz.Subject, practice, client string, t Terms) (g Grant, created bool, err error) {
	if err := t.check(""); err != nil {
		return Grant{}, false, err
	}
	c := call{actor: actor, action: actionAccess, practice: practice, client: client, members: []string{t.User}, hold: changingClient}
	err = s.do(ctx, c, func(a *act) error {
		if err := a.checkGrantee(t.User, ""); err != nil {
			return err
		}
		open, err := a.openGrants(ctx)
		if err != nil {
			return err
		}
		wanted := t.over(a.standard(), a.now)
		if g, created = sameGrant(open, t, wanted, a.now); !created {
			return nil
		}
		if err := a.checkTerms(wanted, ""); err != nil {
			return err
		}
		closed, fits := makeRoom(open, wanted, a.now)
		if !fits {
			return &authz.Problem{Kind: authz.ErrConflict, Type: "grant-overlaps",
				Detail: "the member has a grant at that time which gives more: save the whole set of access, or revoke it first"}
		}
		for _, old := range closed {
			if err := a.closeGrant(ctx, old, "replaced", ""); err != nil {
				return err
			}
		}
		g, err = a.giveGrant(ctx, wanted)
		return err
	})
	return g, created, err
}

// sameGrant returns the open grant that is what is wanted already; else true:
// one has to be created. A start that is past asks for the grant in force, and
// a reason that is left out for any.
func sameGrant(open []Grant, t Terms, wanted Grant, now time.Time) (Grant, bool) {
	for _, g := range open {
		w := wanted
		if t.Reason == nil {
			w.Reason = g.Reason
		}
		if w.from(g, now).same(g) {
			return g, false
		}
	}
	return Grant{}, true
}

// makeRoom returns the grants that wanted takes the place of, or false if it
// would take anything away from one of them.
func makeRoom(open []Grant, wanted Grant, now time.Time) (closed []Grant, fits bool) {
	for _, g := range open {
		if !g.overlaps(wanted) {
			continue
		}
		if !wanted.covers(g, now) {
			return nil, false
		}
		closed = append(closed, g)
	}
	return closed, true
}

// Grant returns one open grant of a client.
func (s *Service) Grant(ctx context.Context, actor authz.Subject, practice, client, id string) (Grant, error) {
	var g Grant
	c := call{actor: actor, action: actionAccess, practice: practice, client: client, hold: reading}
	err := s.do(ctx, c, func(a *act) error {
		var err error
		if g, err = a.findGrant(ctx, id); err != nil {
			return err
		}
		if !g.ExpiresAt.After(a.now) {
			return notFound()
		}
		return nil
	})
	return g, err
}

// Revoke takes a grant back. One that has ended, or was taken back before, is
// left as it is: that is a success too.
func (s *Service) Revoke(ctx context.Context, actor authz.Subject, practice, client, id, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	c := call{actor: actor, action: actionAccess, practice: practice, client: client, hold: changingClient}
	return s.do(ctx, c, func(a *act) error {
		g, err := a.findGrant(ctx, id)
		if errors.Is(err, authz.ErrNotFound) {
			var was bool
			if err := a.tx.QueryRow(ctx, selectClosedGrant, practice, client, id).Scan(&was); err != nil {
				return fmt.Errorf("revoke: %w", err)
			}
			if !was {
				return notFound()
			}
			return nil
		}
		if err != nil || !g.ExpiresAt.After(a.now) {
			return err
		}
		return a.closeGrant(ctx, g, "revoked", reason)
	})
}

func (a *act) findGrant(ctx context.Context, id string) (Grant, error) {
	rows, err := a.tx.Query(ctx, selectGrant, a.practice, a.client.id, id)
	if err != nil {
		return Grant{}, fmt.Errorf("read grant: %w", err)
	}
	g, err := pgx.CollectExactlyOneRow(rows, readGrant)
	if errors.Is(err, pgx.ErrNoRows) {
		return g, notFound()
	}
	return g, err
}

// openGrants returns the grants on the client that have not ended, by user and
// start.
func (a *act) openGrants(ctx context.Context) ([]Grant, error) {
	rows, err := a.tx.Query(ctx, selectOpenGrants, a.practice, a.client.id, a.now)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return pgx.CollectRows(rows, readGrant)
}

// giveGrant writes a grant and its record. A grant that overlaps by now was
// written past the lock on the client.
func (a *act) giveGrant(ctx context.Context, g Grant) (Grant, error) {
	rows, err := a.tx.Query(ctx, insertGrant, a.practice, a.client.id, g.User, g.Scope, g.NotBefore, g.ExpiresAt, g.Reason, a.actor, a.now)
	if err != nil {
		return Grant{}, fmt.Errorf("give grant: %w", err)
	}
	given, err := pgx.CollectExactlyOneRow(rows, readGrant)
	var failed *pgconn.PgError
	if errors.As(err, &failed) && failed.Code == exclusionViolation {
		return Grant{}, changedMeanwhile()
	}
	if err != nil {
		return Grant{}, fmt.Errorf("give grant: %w", err)
	}
	return given, a.record(ctx, change{target: g.User, client: a.client.id, after: given.document(), reason: g.Reason})
}

const exclusionViolation = "23P01"

// closeGrant removes a grant, and records how it was closed. The history keeps
// it.
func (a *act) closeGrant(ctx context.Context, g Grant, how, reason string) error {
	return a.closeGrantOn(ctx, a.client.id, g, how, reason)
}

func (a *act) closeGrantOn(ctx context.Context, client string, g Grant, how, reason string) error {
	if _, err := a.tx.Exec(ctx, deleteGrant, g.ID); err != nil {
		return fmt.Errorf("close grant: %w", err)
	}
	return a.record(ctx, change{target: g.User, client: client, before: g.document(), after: map[string]any{"closed": how}, reason: reason})
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
