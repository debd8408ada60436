package profiles

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/search"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// seed is a practice with two practitioners and a client with an e-mail, and
// another practice.
const seed = `
INSERT INTO practices (id) VALUES ('practice-1'), ('practice-2');
INSERT INTO users (id) SELECT unnest('{admin-1,admin-9,admin-practitioner,practitioner-1,practitioner-2,practitioner-full,scheduler-1,biller-1,removed-1,admin-2,practitioner-3}'::text[]);
INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access) VALUES
	('practice-1', 'admin-1',            'Administrator One',   '{administrator}', 'active', false),
	('practice-1', 'admin-9',            'Administrator Nine',  '{administrator}', 'active', false),
	('practice-1', 'admin-practitioner', 'Administrator Two',   '{administrator,practitioner}', 'active', false),
	('practice-1', 'practitioner-1',     'Practitioner One',    '{practitioner}', 'active', false),
	('practice-1', 'practitioner-2',     'Practitioner Two',    '{practitioner}', 'active', false),
	('practice-1', 'practitioner-full',  'Practitioner Full',   '{practitioner}', 'active', true),
	('practice-1', 'scheduler-1',        'Scheduler One',       '{scheduler}', 'active', false),
	('practice-1', 'biller-1',           'Biller One',          '{biller}', 'active', false),
	('practice-1', 'removed-1',          'Removed One',         '{practitioner}', 'removed', false),
	('practice-2', 'admin-2',            'Administrator Other', '{administrator}', 'active', false),
	('practice-2', 'practitioner-3',     'Practitioner Three',  '{practitioner}', 'active', false);
INSERT INTO clients (id, practice, assigned, first_name, last_name, email) VALUES
	('client-1', 'practice-1', 'practitioner-1', 'Client', 'One', 'client-1@example.org'),
	('client-2', 'practice-1', 'practitioner-2', 'Client', 'Two', NULL),
	('client-4', 'practice-2', 'practitioner-3', 'Client', 'Four', 'client-4@example.org');`

// bench is what a test works with: the service as control's database role runs
// it, the real policy, and the database as its owner.
type bench struct {
	*Service
	t         *testing.T
	db        *pgxpool.Pool // as the owner: raw SQL
	control   *pgxpool.Pool // as the service
	authority *policytest.Authority
}

func setup(t *testing.T) *bench {
	t.Helper()
	url := pgtest.URL(t)
	db := pgtest.PoolAs(t, url, "")
	if _, err := db.Exec(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	policy, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	control := pgtest.PoolAs(t, url, postgres.RoleControl)
	deployment, err := feed.ReadDeployment(t.Context(), control)
	if err != nil {
		t.Fatal(err)
	}
	authority := &policytest.Authority{Engine: policy, Deployment: deployment}
	lists := &search.Lists{Pool: control, Deployment: deployment, Authority: authority, Policy: policy}
	return &bench{Service: New(control, deployment, authority, lists), t: t, db: db, control: control, authority: authority}
}

func user(id string) authz.Subject   { return authz.Subject{Type: authz.SubjectUser, ID: id} }
func portal(id string) authz.Subject { return authz.Subject{Type: authz.SubjectPortal, ID: id} }

var admin = user("admin-1")

// every caller of these tests is bound to all practices.
func every(string) bool { return true }

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

func (b *bench) count(sql string, args ...any) int {
	b.t.Helper()
	var n int
	if err := b.db.QueryRow(b.t.Context(), sql, args...).Scan(&n); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (b *bench) texts(sql string, args ...any) []string {
	b.t.Helper()
	rows, err := b.db.Query(b.t.Context(), sql, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// decide asks the policy, as a sidecar does, on what is in the database now.
func (b *bench) decide(r authz.Request) authz.Decision {
	b.t.Helper()
	f, err := facts.Load(b.t.Context(), b.db, b.authority.Deployment, r)
	if err != nil {
		b.t.Fatal(err)
	}
	d, err := b.authority.Engine.Evaluate(b.t.Context(), r, f)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// staff asserts on what answer who gets for action on client: a code.
func (b *bench) staff(who, action, client, want string) {
	b.t.Helper()
	r := authz.Request{Subject: user(who), Action: action, Resource: authz.Resource{Type: authz.ResourceClient, ID: client}}
	if action == "document.send" {
		r.Resource = authz.Resource{Type: authz.ResourceDocument, ID: "form-1", Properties: authz.Properties{"client": client, "kind": "intake", "recipient": "client"}}
	}
	if got := b.decide(r).Code; got != want {
		b.t.Errorf("%s %s %s: %s, want %s", who, action, client, got, want)
	}
}

// inPortal asserts on what answer a login gets in the profile of client.
func (b *bench) inPortal(login, action, client, want string) {
	b.t.Helper()
	r := authz.Request{Subject: portal(login), Action: action, Resource: authz.Resource{Type: authz.ResourceClient, ID: client}, Context: authz.Context{PortalProfile: client}}
	if got := b.decide(r).Code; got != want {
		b.t.Errorf("%s %s %s: %s, want %s", login, action, client, got, want)
	}
}

// must makes sure that a call of the module worked.
func must[T any](t *testing.T, what T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (%T)", err, err)
	}
	return what
}

// client creates a client by the administrator, which must work.
func (b *bench) client(n NewClient) Client {
	b.t.Helper()
	if n.FirstName == "" {
		n.FirstName, n.LastName = "Client", "New"
	}
	c, err := b.Create(b.t.Context(), admin, "practice-1", n)
	return must(b.t, c, err)
}

// link links a contact, which must work.
func (b *bench) link(client string, n NewContact) Contact {
	b.t.Helper()
	k, _, err := b.AddContact(b.t.Context(), admin, "practice-1", client, n)
	return must(b.t, k, err)
}

// second makes client a secondary profile of client-1 and returns its contact.
func (b *bench) second(client string) Contact {
	b.t.Helper()
	return b.link(client, NewContact{ExistingClient: "client-1", Relationship: "self"})
}

// accepted invites a contact and has login accept.
func (b *bench) accepted(client, contact, login string) {
	b.t.Helper()
	i, err := b.Invite(b.t.Context(), admin, "practice-1", client, contact)
	must(b.t, i, err)
	got, err := b.Accept(b.t.Context(), portal(login), i.Code, every)
	if must(b.t, got, err) != client {
		b.t.Fatalf("the code of %s was accepted for %s", client, got)
	}
}

func (b *bench) permit(client, contact string, enabled bool, permissions ...string) {
	b.t.Helper()
	k, err := b.Permit(b.t.Context(), admin, "practice-1", client, contact, enabled, permissions)
	must(b.t, k, err)
}

// switcher is what a login may enter, by client.
func (b *bench) switcher(login string) []string {
	b.t.Helper()
	entries, err := b.Profiles(b.t.Context(), portal(login), every)
	must(b.t, entries, err)
	clients := []string{}
	for _, e := range entries {
		clients = append(clients, e.Client)
	}
	return clients
}

func (b *bench) enters(login string, want ...string) {
	b.t.Helper()
	if got := b.switcher(login); !slices.Equal(got, want) {
		b.t.Errorf("%s may enter %v, want %v", login, got, want)
	}
}

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
	for _, table := range []string{"clients", "contacts", "contact_links", "portal_access", "profile_stars", "invitations", "workflows", "notices", "emails",
		"changes", "feed", "clients_history", "portal_access_history", "practices_history"} {
		all[table] = b.count(`SELECT count(*) FROM ` + pgx.Identifier{table}.Sanitize())
	}
	return all
}

// unchanged runs work and asserts that it stored nothing, beside the records of
// refused e-mails that it is allowed.
func (b *bench) unchanged(emails int, work func()) {
	b.t.Helper()
	before := b.stored()
	before["changes"] += emails
	work()
	if after := b.stored(); !reflect.DeepEqual(before, after) {
		b.t.Errorf("a refused call stored something:\nbefore %v\nafter  %v", before, after)
	}
}

func text(s string) *string { return &s }
