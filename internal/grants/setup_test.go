package grants

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const seed = `
INSERT INTO practices (id) VALUES ('practice-1'), ('practice-2');
INSERT INTO users (id) SELECT unnest('{owner-1,admin-1,practitioner-1,practitioner-2,practitioner-full,scheduler-1,biller-1,invited-1,removed-1,
	admin-2,practitioner-3,user-both}'::text[]);
INSERT INTO members (practice, user_id, name, roles, status, owner, full_clinical_access) VALUES
	('practice-1', 'owner-1',           'Owner One',          '{administrator}', 'active', true, false),
	('practice-1', 'admin-1',           'Administrator One',  '{administrator}', 'active', false, false),
	('practice-1', 'practitioner-1',    'Practitioner One',   '{practitioner}', 'active', false, false),
	('practice-1', 'practitioner-2',    'Practitioner Two',   '{practitioner}', 'active', false, false),
	('practice-1', 'practitioner-full', 'Practitioner Full',  '{practitioner}', 'active', false, true),
	('practice-1', 'scheduler-1',       'Scheduler One',      '{scheduler}', 'active', false, false),
	('practice-1', 'biller-1',          'Biller One',         '{biller}', 'active', false, false),
	('practice-1', 'invited-1',         'Invited One',        '{practitioner}', 'invited', false, false),
	('practice-1', 'removed-1',         'Removed One',        '{practitioner}', 'removed', false, false),
	('practice-1', 'user-both',         'User Both',          '{practitioner}', 'active', false, false),
	('practice-2', 'admin-2',           'Administrator Two',  '{administrator}', 'active', true, false),
	('practice-2', 'practitioner-3',    'Practitioner Three', '{practitioner}', 'active', false, false),
	('practice-2', 'user-both',         'User Both',          '{administrator}', 'active', false, false);
INSERT INTO clients (id, practice, assigned, first_name, last_name, status) VALUES
	('client-1', 'practice-1', 'practitioner-1', 'Client', 'One', 'active'),
	('client-2', 'practice-1', 'practitioner-2', 'Client', 'Two', 'active'),
	('client-3', 'practice-1', NULL, 'Client', 'Three', 'active'),
	('client-old', 'practice-1', 'practitioner-1', 'Client', 'Old', 'archived'),
	('client-4', 'practice-2', 'practitioner-3', 'Client', 'Four', 'active');`

// bench is what a test works with: the service as control's database role runs
// it, the real policy, and the database as its owner.
type bench struct {
	*Service
	t         *testing.T
	db        *pgxpool.Pool // as the owner: raw SQL
	authority *policytest.Authority
}

var engine = sync.OnceValues(func() (*pdp.Engine, error) { return policytest.Interpreted(nil) })

func setup(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	url := pgtest.URL(t)
	db := pgtest.PoolAs(t, url, "")
	if _, err := db.Exec(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	policy, err := engine()
	if err != nil {
		t.Fatal(err)
	}
	control := pgtest.PoolAs(t, url, postgres.RoleControl)
	deployment, err := feed.ReadDeployment(t.Context(), control)
	if err != nil {
		t.Fatal(err)
	}
	authority := &policytest.Authority{Engine: policy, Deployment: deployment}
	return &bench{Service: New(control, authority, policy), t: t, db: db, authority: authority}
}

func user(id string) authz.Subject { return authz.Subject{Type: authz.SubjectUser, ID: id} }

var admin = user("admin-1")

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) count(sql string, args ...any) int {
	b.t.Helper()
	var n int
	if err := b.db.QueryRow(b.t.Context(), sql, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// bases asks the policy on what bases user may do action to client now; none
// is a denial.
func (b *bench) bases(who, action, client string) []string {
	b.t.Helper()
	r := authz.Request{Subject: user(who), Action: action, Resource: authz.Resource{Type: authz.ResourceClient, ID: client}}
	f, err := facts.Load(b.t.Context(), b.db, b.authority.Deployment, r)
	if err != nil {
		b.t.Fatal(err)
	}
	d, err := b.authority.Engine.Evaluate(b.t.Context(), r, f)
	if err != nil {
		b.t.Fatal(err)
	}
	return d.Bases
}

// opens asserts on what bases who opens client's chart; none means that he does
// not.
func (b *bench) opens(who, client string, want ...string) {
	b.t.Helper()
	if got := b.bases(who, "chart.open", client); !slices.Equal(got, want) {
		b.t.Errorf("%s opens %s by %v, want %v", who, client, got, want)
	}
}

// give gives who a grant with t, which must work.
func (b *bench) give(client string, t Terms) Grant {
	b.t.Helper()
	g, _, err := b.Give(b.t.Context(), admin, "practice-1", client, t)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

func (b *bench) settings(preset string, overrides map[string]any) {
	b.t.Helper()
	if _, err := b.SaveSettings(b.t.Context(), admin, "practice-1", preset, overrides, any1[Settings], nothing); err != nil {
		b.t.Fatal(err)
	}
}

// any1 accepts whatever stands now.
func any1[T any](T) bool { return true }

// problem asserts that err is a problem of this type.
func problem(t *testing.T, err error, want string) *authz.Problem {
	t.Helper()
	var p *authz.Problem
	if !errors.As(err, &p) || p.Type != want {
		t.Errorf("got %v (%T), want problem %s", err, err, want)
		return &authz.Problem{}
	}
	return p
}

// stored is everything that a refused call must leave alone.
func (b *bench) stored() map[string]int {
	b.t.Helper()
	all := map[string]int{}
	for _, table := range []string{"users", "members", "clients", "grants", "changes", "feed", "grants_history", "members_history", "clients_history", "practices_history"} {
		all[table] = b.count(`SELECT count(*) FROM ` + pgx.Identifier{table}.Sanitize())
	}
	return all
}

// unchanged runs work and asserts that it stored nothing.
func (b *bench) unchanged(work func()) {
	b.t.Helper()
	before := b.stored()
	work()
	if after := b.stored(); !reflect.DeepEqual(before, after) {
		b.t.Errorf("a refused call stored something:\nbefore %v\nafter  %v", before, after)
	}
}

// lastChange is the newest change record.
type lastChange struct {
	Actor, Action, Target, Client, Reason string
	Before, After                         map[string]any
	Decision                              *string
}

func (b *bench) lastChange() lastChange {
	b.t.Helper()
	var c lastChange
	err := b.db.QueryRow(b.t.Context(), `SELECT actor, action, coalesce(target, ''), coalesce(client, ''), reason, before, after, decision::text
		FROM changes ORDER BY id DESC LIMIT 1`).Scan(&c.Actor, &c.Action, &c.Target, &c.Client, &c.Reason, &c.Before, &c.After, &c.Decision)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// inDays is a time that is d days away, as Postgres keeps it.
func inDays(d int) *time.Time {
	at := inUTC(time.Now().Add(time.Duration(d) * day))
	return &at
}

func text(s string) *string { return &s }

// waitForLock returns once some transaction waits for another.
func (b *bench) waitForLock() {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if b.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0 {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatal("nothing waits for a lock")
		}
	}
}
