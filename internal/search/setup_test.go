package search_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	"chartgate/internal/search"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"
)

// engines are two of one policy: one with its program, which package compile
// certifies, and one that asks OPA, which is the reference.
type engines struct{ compiled, reference *pdp.Engine }

var shipped = sync.OnceValues(func() (engines, error) { return enginesOf(nil) })

// enginesOf makes engines of the shipped policy with an edited table of roles.
func enginesOf(edit policytest.Edit) (both engines, err error) {
	if both.compiled, err = policytest.Compiled(edit); err == nil {
		both.reference, err = policytest.Interpreted(edit)
	}
	return both, err
}

// bench is a database with the lists of control and the searches of a sidecar,
// each in its own role.
type bench struct {
	t          *testing.T
	db         *pgxpool.Pool // as the owner: raw SQL
	engine     *pdp.Engine
	reference  *pdp.Engine // of single checks
	deployment *feed.Deployment
	lists      *search.Lists
	searches   *search.Service
}

// recorder keeps nothing: the tests of the sidecar see what goes on record.
type recorder struct{}

func (recorder) Record(context.Context, ...authz.Verdict) error { return nil }

// loader reads facts whenever it is asked.
type loader struct {
	pool       *pgxpool.Pool
	deployment *feed.Deployment
}

func (l loader) Facts(ctx context.Context, r authz.Request) (authz.Facts, error) {
	return facts.Load(ctx, l.pool, l.deployment, r)
}

func setup(t *testing.T) *bench {
	t.Helper()
	both, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	return setupWith(t, both)
}

func setupWith(t *testing.T, both engines) *bench {
	t.Helper()
	url := pgtest.URL(t)
	e := both.compiled
	control, sidecar := pgtest.PoolAs(t, url, postgres.RoleControl), pgtest.PoolAs(t, url, postgres.RoleSidecar)
	d, err := feed.ReadDeployment(t.Context(), control)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, db: pgtest.PoolAs(t, url, ""), engine: e, reference: both.reference, deployment: d,
		lists:    &search.Lists{Pool: control, Deployment: d, Authority: &policytest.Authority{Engine: e, Deployment: d}, Policy: e},
		searches: &search.Service{Pool: sidecar, Deployment: d, PDP: pdp.New(e, loader{sidecar, d}, recorder{}), Facts: loader{sidecar, d}, Recorder: recorder{}}}
}

// world is a practice: an administrator who may see everything, and others.
type world struct {
	practice string
	users    []string
	clients  []string
}

var moments = []string{"-3 hours", "-2 hours", "-1 hour", "1 hour", "2 hours", "infinity"}

// drawWorld writes a random practice. Its grants begin and end hours from now,
// so that all questions of a test fall into one interval of each.
func (b *bench) drawWorld(t *rapid.T, practice string) world {
	w := world{practice: practice}
	overrides := map[string]any{}
	for _, s := range authz.Catalogue {
		switch s.Default.(type) {
		case bool:
			overrides[s.Name] = rapid.Bool().Draw(t, s.Name)
		case string:
			overrides[s.Name] = rapid.SampledFrom(s.Allowed).Draw(t, s.Name)
		case []string:
			overrides[s.Name] = rapid.SliceOfDistinct(rapid.SampledFrom(s.Allowed), rapid.ID[string]).Draw(t, s.Name)
		}
	}
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO practices (id, overrides) VALUES ($1, $2)`, practice, overrides)
	var standing []string
	for i := range 4 {
		user := fmt.Sprintf("%sm%d", practice, i)
		status, roles := "active", []string{authz.RoleAdministrator}
		if i > 0 {
			status = rapid.SampledFrom([]string{"active", "active", "active", "invited", "removed"}).Draw(t, "status")
			roles = rapid.SliceOfNDistinct(rapid.SampledFrom(authz.Roles), 0, 2, rapid.ID[string]).Draw(t, "roles")
			if i < 3 && !slices.Contains(roles, authz.RolePractitioner) {
				roles = append(roles, authz.RolePractitioner)
			}
		}
		full := i == 1 && status != "removed" && rapid.Bool().Draw(t, "full")
		batch.Queue(`INSERT INTO users (id) VALUES ($1)`, user)
		batch.Queue(`INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access, billing_enabled) VALUES ($1, $2, 'Member', $3, $4, $5, $6)`,
			practice, user, roles, status, full, rapid.Bool().Draw(t, "billing"))
		w.users = append(w.users, user)
		if status != "removed" {
			standing = append(standing, user)
		}
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "clients") {
		client := fmt.Sprintf("%sc%d", practice, i)
		batch.Queue(`INSERT INTO clients (id, practice, assigned, status, first_name, last_name) VALUES ($1, $2, nullif($3, ''), $4, 'Client', 'One')`,
			client, practice, rapid.SampledFrom(append(standing, "")).Draw(t, "assigned"), rapid.SampledFrom([]string{"active", "active", "archived"}).Draw(t, "state"))
		w.clients = append(w.clients, client)
		for _, user := range standing {
			if rapid.Bool().Draw(t, "granted") {
				from := rapid.IntRange(0, len(moments)-2).Draw(t, "from")
				w.grant(batch, client, user, rapid.SampledFrom([]string{"view", "collaborate"}).Draw(t, "scope"), from, rapid.IntRange(from+1, len(moments)-1).Draw(t, "to"))
			}
		}
	}
	if err := b.db.SendBatch(context.Background(), batch).Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w world) grant(batch *pgx.Batch, client, user, scope string, from, to int) {
	batch.Queue(`INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, granted_by)
		VALUES ($1, $2, $3, $4, now() + $5::interval, CASE WHEN $6 = 'infinity' THEN '9999-12-31 23:59:59.999999Z' ELSE now() + nullif($6, 'infinity')::interval END, 'admin-1')`,
		w.practice, client, user, scope, moments[from], moments[to])
}

// admin is the administrator of w.
func (w world) admin() authz.Subject { return user(w.users[0]) }

func user(id string) authz.Subject { return authz.Subject{Type: authz.SubjectUser, ID: id} }

var (
	everywhere = pdp.Scope{All: true}
	tester     = search.Caller{ID: "static", Scope: everywhere}
)

// sample is what a note or a document is asked about.
func sample(on, author string) authz.Properties {
	switch on {
	case authz.ResourceNote:
		return authz.Properties{"kind": "progress", "author": author, "signed": false}
	case authz.ResourceDocument:
		return authz.Properties{"kind": "intake", "recipient": "client"}
	}
	return nil
}

// single is the question that a row stands for.
func single(action, on, who, client string, properties authz.Properties) authz.Request {
	r := authz.Request{Subject: user(who), Action: action, Resource: authz.Resource{Type: on, ID: client}}
	if on != authz.ResourceClient {
		r.Resource = authz.Resource{Type: on, ID: "record-1", Properties: authz.Properties{"client": client}}
		for name, v := range properties {
			r.Resource.Properties[name] = v
		}
	}
	return r
}

// decide is the single check, on facts of the real loader.
func (b *bench) decide(t fataler, r authz.Request) authz.Decision {
	d, err := b.reference.Evaluate(context.Background(), r, b.load(t, r))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (b *bench) load(t fataler, r authz.Request) authz.Facts {
	f, err := facts.Load(context.Background(), b.db, b.deployment, r)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

func until(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " until " + authz.FormatTime(*t)
}

// clientsOf reads a whole list of clients, page by page.
func (b *bench) clientsOf(t fataler, actor authz.Subject, practice, who string, q search.Question) []string {
	t.Helper()
	var all []string
	for {
		page, next, err := b.lists.MemberClients(context.Background(), tester, actor, practice, who, q)
		if err != nil {
			t.Fatalf("%s of %s: %v", q.Action, who, err)
		}
		if len(page) > q.Limit || (next != "" && len(page) != q.Limit) {
			t.Fatalf("a page of %d, limit %d, next %q", len(page), q.Limit, next)
		}
		for _, c := range page {
			all = append(all, c.ID+until(c.Until))
		}
		if q.Cursor = next; next == "" {
			return all
		}
	}
}

// membersOf reads a whole list of members, page by page.
func (b *bench) membersOf(t fataler, actor authz.Subject, practice, client string, q search.Question) []string {
	t.Helper()
	var all []string
	for {
		page, next, err := b.lists.ClientMembers(context.Background(), tester, actor, practice, client, q)
		if err != nil {
			t.Fatalf("%s on %s: %v", q.Action, client, err)
		}
		for _, m := range page {
			all = append(all, m.User+" "+basesOf(m))
		}
		if q.Cursor = next; next == "" {
			return all
		}
	}
}

func basesOf(m search.Member) string {
	var names []string
	for _, basis := range m.Bases {
		names = append(names, basis.Name)
	}
	return strings.Join(names, " ")
}

// found reads a whole search, page by page.
func (b *bench) found(t fataler, q search.Search) []string {
	t.Helper()
	all := []string{}
	if q.Caller.ID == "" {
		q.Caller = tester
	}
	for {
		page, err := b.searches.Do(context.Background(), q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		all = append(all, page.Results...)
		if q.Token = page.Next; page.Next == "" {
			return all
		}
	}
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// problem asserts that err is a problem of this type, and returns it.
func problem(t fataler, err error, want string) *authz.Problem {
	t.Helper()
	var p *authz.Problem
	if !errors.As(err, &p) || p.Type != want {
		t.Errorf("got %v (%T), want problem %s", err, err, want)
		return &authz.Problem{}
	}
	return p
}

func size(n int) *int { return &n }
