package control

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/bundles"
	"chartgate/internal/feed"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"
	"chartgate/internal/release"
	"chartgate/internal/web"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/jackc/pgx/v5/pgxpool"
)

const seed = `
INSERT INTO practices (id) VALUES ('practice-1'), ('practice-2');
INSERT INTO users (id) SELECT unnest('{admin-1,admin-3,practitioner-1,practitioner-2,practitioner-full,scheduler-1,invited-1,removed-1,admin-2,practitioner-3}'::text[]);
INSERT INTO members (practice, user_id, name, roles, status, owner, full_clinical_access) VALUES
	('practice-1', 'admin-1',           'Administrator One',   '{administrator}', 'active', true, false),
	('practice-1', 'admin-3',           'Administrator Three', '{administrator}', 'active', false, false),
	('practice-1', 'practitioner-1',    'Practitioner One',    '{practitioner}', 'active', false, false),
	('practice-1', 'practitioner-2',    'Practitioner Two',    '{practitioner}', 'active', false, false),
	('practice-1', 'practitioner-full', 'Practitioner Full',   '{practitioner}', 'active', false, true),
	('practice-1', 'scheduler-1',       'Scheduler One',       '{scheduler}', 'active', false, false),
	('practice-1', 'invited-1',         'Invited One',         '{practitioner}', 'invited', false, false),
	('practice-1', 'removed-1',         'Removed One',         '{practitioner}', 'removed', false, false),
	('practice-2', 'admin-2',           'Administrator Two',   '{administrator}', 'active', true, false),
	('practice-2', 'practitioner-3',    'Practitioner Three',  '{practitioner}', 'active', false, false);
INSERT INTO clients (id, practice, assigned, first_name, last_name, status) VALUES
	('client-1', 'practice-1', 'practitioner-1', 'Client', 'One', 'active'),
	('client-2', 'practice-1', 'practitioner-2', 'Client', 'Two', 'active'),
	('client-3', 'practice-1', NULL, 'Client', 'Three', 'active'),
	('client / 5%', 'practice-1', NULL, 'Client', 'Five', 'active'),
	('client-4', 'practice-2', 'practitioner-3', 'Client', 'Four', 'active');`

const (
	staticKey = "static-key-for-tests"
	p1        = "/api/v1/practices/practice-1"
)

// desk is a running control over a fresh database.
type desk struct {
	*Server
	t       *testing.T
	db      *pgxpool.Pool // as the owner: raw SQL
	settled atomic.Int32  // how often a change was waited for
	key     string
	actor   string
}

// setup starts control with edits to its options.
func setup(t *testing.T, edits ...func(*Options)) *desk {
	t.Helper()
	t.Parallel()
	url := pgtest.URL(t)
	db := pgtest.PoolAs(t, url, "")
	if _, err := db.Exec(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	policy, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	pool := pgtest.PoolAs(t, url, postgres.RoleControl)
	deployment, err := feed.ReadDeployment(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	static, err := web.NewStaticKey(staticKey, web.Caller{Scopes: web.Scopes, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, db: db, key: staticKey, actor: "admin-1"}
	settle := func(context.Context) error { d.settled.Add(1); return nil }
	releases, err := release.NewService(t.Context(), release.Options{Pool: pool, Deployment: deployment.ID.String(), Shipped: release.Shipped{Bundle: bundles.Default, Engine: policy},
		Steps: release.Gates, Settle: settle})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Pool: pool, Deployment: deployment, Policies: func(context.Context, Querier, bool) (Policy, error) { return policy, nil }, Releases: releases, Recorder: record.NewDirect(pgtest.PoolAs(t, url, postgres.RoleControl)),
		Callers: &web.Authenticator{Static: static, Keys: web.NewKeyStore(pool)},
		Settle:  settle}
	for _, edit := range edits {
		edit(&o)
	}
	if d.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	return d
}

// as returns the same desk, asked by another actor.
func (d *desk) as(actor string) *desk {
	return &desk{Server: d.Server, t: d.t, db: d.db, key: d.key, actor: actor}
}

// answer is what came back.
type answer struct {
	*http.Response
	text []byte
	body map[string]any
}

// call asks and holds the answer against the OpenAPI document; what succeeds
// has to be asked as the document says, too. Headers come in pairs.
func (d *desk) call(method, path, body string, headers ...string) answer {
	d.t.Helper()
	var payload io.Reader = http.NoBody
	if body != "" {
		payload = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, path, payload)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if d.key != "" {
		r.Header.Set("Authorization", "Bearer "+d.key)
	}
	if d.actor != "" {
		r.Header.Set("Chartgate-Actor", d.actor)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := d.App.Test(r, -1)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	a := answer{Response: response}
	if a.text, err = io.ReadAll(response.Body); err != nil {
		d.t.Fatal(err)
	}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(a.text, &a.body); err != nil {
			d.t.Fatalf("%s %s: %v: %s", method, path, err, a.text)
		}
	}
	d.validate(method, path, body, r.Header, a)
	return a
}

var document = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		return nil, err
	}
	return legacy.NewRouter(doc)
})

func (d *desk) validate(method, path, body string, header http.Header, a answer) {
	d.t.Helper()
	router, err := document()
	if err != nil {
		d.t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header = header.Clone()
	route, params, err := router.FindRoute(r)
	if err != nil {
		d.t.Errorf("%s %s is not described: %v", method, path, err)
		return
	}
	request := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if a.StatusCode < 300 {
		if err := openapi3filter.ValidateRequest(d.t.Context(), request); err != nil {
			d.t.Errorf("%s %s succeeded, though the document forbids it: %v", method, path, err)
		}
	}
	response := &openapi3filter.ResponseValidationInput{RequestValidationInput: request, Status: a.StatusCode, Header: a.Header,
		Body: io.NopCloser(bytes.NewReader(a.text)), Options: request.Options}
	if err := openapi3filter.ValidateResponse(d.t.Context(), response); err != nil {
		d.t.Errorf("%s %s: %d is not as described: %v\n%s", method, path, a.StatusCode, err, a.text)
	}
}

// ok asserts a status below 300.
func (d *desk) ok(a answer, want int) answer {
	d.t.Helper()
	if a.StatusCode != want {
		d.t.Fatalf("%s %s: %d, want %d: %s", a.Request.Method, a.Request.URL, a.StatusCode, want, a.text)
	}
	return a
}

// step takes the draft at a path through a step, which goes on by itself where a
// busy machine does not end it promptly.
func (d *desk) step(draft, step, body string) answer {
	d.t.Helper()
	a := d.call("POST", draft+"/"+step, body)
	for ; a.StatusCode < 300 && str(a, "ended_at") == ""; a = d.call("GET", draft+"/"+step, "") {
		time.Sleep(50 * time.Millisecond)
	}
	return d.ok(a, 200)
}

// refused asserts a problem, by status and the last part of its type.
func (d *desk) refused(a answer, status int, typ string) answer {
	d.t.Helper()
	got, _ := a.body["type"].(string)
	if a.StatusCode != status || !strings.HasSuffix(got, "/"+typ) || a.Header.Get("Content-Type") != "application/problem+json" {
		d.t.Errorf("%s %s: %d %s, want %d %s", a.Request.Method, a.Request.URL, a.StatusCode, a.text, status, typ)
	}
	return a
}

// pointers are the places that a problem names.
func (a answer) pointers() []string {
	var list []string
	errors, _ := a.body["errors"].([]any)
	for _, e := range errors {
		m, _ := e.(map[string]any)
		p, _ := m["pointer"].(string)
		list = append(list, p)
	}
	return list
}

func (d *desk) count(sql string, args ...any) int {
	d.t.Helper()
	var n int
	if err := d.db.QueryRow(d.t.Context(), sql, args...).Scan(&n); err != nil {
		d.t.Fatal(err)
	}
	return n
}

func (d *desk) exec(sql string, args ...any) {
	d.t.Helper()
	if _, err := d.db.Exec(d.t.Context(), sql, args...); err != nil {
		d.t.Fatal(err)
	}
}

// member finds a user in Manage Access.
func (a answer) member(user string) map[string]any {
	members, _ := a.body["members"].([]any)
	for _, m := range members {
		if m, _ := m.(map[string]any); m["user"] == user {
			return m
		}
	}
	return nil
}
