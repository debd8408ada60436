package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/web"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	acceptPostgres = "application/vnd.opa.sql.postgresql+json"
	acceptUCAST    = "application/vnd.opa.ucast.all+json"
)

// database is a fact source that reads Postgres each time.
type database struct {
	pool *pgxpool.Pool
	of   *feed.Deployment
}

func (d database) Facts(ctx context.Context, r authz.Request) (authz.Facts, error) {
	return facts.Load(ctx, d.pool, d.of, r)
}

const filterSeed = `
INSERT INTO practices (id, overrides) VALUES ('practice-1', '{"hide_unassigned": false}'), ('practice''2', '{}');
INSERT INTO users (id) SELECT unnest('{admin-1,practitioner-1,practitioner-2,practitioner-full,scheduler-1,biller-1,removed-1}'::text[]);
INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access, billing_enabled)
	SELECT p, u, 'Member', r::text[], s, f, b FROM unnest('{practice-1,practice''2}'::text[]) p, (VALUES
	('admin-1', '{administrator}', 'active', false, true), ('practitioner-1', '{practitioner}', 'active', false, true),
	('practitioner-2', '{practitioner}', 'active', false, false), ('practitioner-full', '{practitioner}', 'active', true, true),
	('scheduler-1', '{scheduler}', 'active', false, true), ('biller-1', '{biller}', 'active', false, true), ('removed-1', '{administrator}', 'removed', false, true)) m (u, r, s, f, b);
INSERT INTO clients (id, practice, assigned, status, first_name, last_name)
	SELECT p || '-client-' || n, p, CASE n % 3 WHEN 0 THEN 'practitioner-1' WHEN 1 THEN 'practitioner-2' END, CASE n % 4 WHEN 0 THEN 'archived' ELSE 'active' END, 'Client', 'One'
	FROM unnest('{practice-1,practice''2}'::text[]) p, generate_series(1, 12) n;
INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, granted_by)
	SELECT p, p || '-client-' || n, 'practitioner-1', CASE n % 2 WHEN 0 THEN 'view' ELSE 'collaborate' END,
		now() + (n % 3 - 1) * interval '1 day', now() + (n % 3) * interval '1 day' + interval '1 hour', 'admin-1'
	FROM unnest('{practice-1,practice''2}'::text[]) p, generate_series(2, 11) n;`

// TestFiltersAreTheChecks runs the shipped policy's filters against Postgres,
// and compares them with single checks: for every member and action on clients,
// in both practices (promises P4, P5).
func TestFiltersAreTheChecks(t *testing.T) {
	pool := pgtest.Pool(t)
	if _, err := pool.Exec(t.Context(), filterSeed); err != nil {
		t.Fatal(err)
	}
	of, err := feed.ReadDeployment(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	b := benchOf(t, engine, web.Caller{Scopes: web.Scopes, AllPractices: true})
	b.Server.pdp = pdp.New(engine, database{pool, of}, b.store)
	lists, err := engine.Lists()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := readIDs(t, pool, "SELECT id FROM clients ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, practice := range []string{"practice-1", "practice'2"} {
		for _, user := range []string{"admin-1", "practitioner-1", "practitioner-2", "practitioner-full", "scheduler-1", "biller-1", "removed-1", "nobody"} {
			for _, action := range []string{"client.list", "chart.open", "demographics.write", "billing.read", "access.manage", "client.merge", "note.write"} {
				resource := authz.Resource{Type: lists.Actions[action].On, Properties: authz.Properties{"practice": practice}}
				if resource.Type == authz.ResourceNote {
					resource.Properties = authz.Properties{"practice": practice, "author": user, "kind": "progress", "signed": false}
				}
				got := filtered(t, b, pool, user, action, resource)
				var want []string
				for _, id := range ids {
					one := authz.Request{Subject: authz.Subject{Type: "user", ID: user}, Action: action, Resource: resource}
					one.Resource.ID = id
					if resource.Type == authz.ResourceNote {
						one.Resource.Properties = authz.Properties{"client": id, "author": user, "kind": "progress", "signed": false}
					}
					v, err := b.Server.pdp.Decide(t.Context(), pdp.Scope{All: true}, one, "")
					if err != nil {
						t.Fatal(err)
					}
					if v.Exact.Allow && strings.HasPrefix(id, practice) {
						want = append(want, id)
					}
				}
				found += len(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s %s in %s: filtered %v, by single checks %v", user, action, practice, got, want)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d rows: nothing is tried", found)
	}
}

func readIDs(t *testing.T, pool *pgxpool.Pool, sql string) ([]string, error) {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// filtered asks for a filter and runs it as a service would.
func filtered(t *testing.T, b bench, pool *pgxpool.Pool, user, action string, resource authz.Resource) []string {
	t.Helper()
	input, err := json.Marshal(map[string]any{"input": map[string]any{"subject": map[string]any{"type": "user", "id": user}, "action": map[string]any{"name": action},
		"resource": map[string]any{"type": resource.Type, "properties": resource.Properties}}})
	if err != nil {
		t.Fatal(err)
	}
	b.store.taken()
	r := b.do(t, "POST", "/v1/compile/authz/allow", string(input), "Accept", acceptPostgres)
	if r.status != 200 || r.header.Get("Content-Type") != acceptPostgres {
		t.Fatalf("%s: %d %s %s", input, r.status, r.header, r.body)
	}
	recorded := b.store.taken()
	if len(recorded) != 1 || recorded[0].Exact.Code != authz.CodeListed || recorded[0].Input == nil || recorded[0].Request.Action != action ||
		recorded[0].Request.Subject.ID != user || r.header.Get(HeaderDecisionID) != recorded[0].ID.String() {
		t.Fatalf("recorded %+v", recorded)
	}
	result, ok := r.object(t)["result"].(map[string]any)
	if !ok {
		return nil // no rows
	}
	ids, err := readIDs(t, pool, "SELECT clients.id FROM clients "+result["query"].(string)+" ORDER BY clients.id")
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// A practice that the caller may not ask about looks like one that does not
// exist, and like one in which the subject may do nothing (promises P5, P8).
func TestFilterOfAnotherPracticeIsEmpty(t *testing.T) {
	engine, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	b := benchOf(t, engine, web.Caller{Scopes: web.Scopes, Practices: []string{"practice-1"}})
	b.Server.pdp = pdp.New(engine, practiceSource{}, b.store)
	ask := func(practice string) reply {
		properties := ""
		if practice != "" {
			properties = `, "properties": {"practice": "` + practice + `"}`
		}
		return b.do(t, "POST", "/v1/compile/authz/allow", `{"input": {"subject": {"type": "user", "id": "admin-1"}, "action": {"name": "chart.open"}, "resource": {"type": "client"`+properties+`}}}`, "Accept", acceptPostgres)
	}
	own := ask("")
	if query := own.object(t)["result"]; own.status != 200 || query == nil || ask("practice-1").body != own.body {
		t.Errorf("%d %s", own.status, own.body)
	}
	for _, practice := range []string{"practice-2", "practice-none"} {
		if r := ask(practice); r.status != 200 || r.body != "{}\n" {
			t.Errorf("%s: %d %q", practice, r.status, r.body)
		}
	}
	for _, v := range b.store.taken() {
		if v.Facts.Practice != "" && v.Facts.Practice != "practice-1" {
			t.Errorf("recorded %+v", v.Facts)
		}
	}
}

// practiceSource has admin-1 as administrator of practice-1 and practice-2.
type practiceSource struct{}

func (practiceSource) Facts(_ context.Context, r authz.Request) (authz.Facts, error) {
	if id := r.Resource.Practice(); id == "practice-1" || id == "practice-2" {
		return authz.Facts{Now: noon, Latest: noon, Practice: id, Settings: settings,
			Member: &authz.Member{ID: "m", User: r.Subject.ID, Practice: id, Roles: []string{"administrator"}, Status: "active", BillingEnabled: true}}, nil
	}
	return authz.Facts{Now: noon, Latest: noon}, nil
}

func TestFilterRefusals(t *testing.T) {
	engine, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	b := benchOf(t, engine, web.Caller{Scopes: web.Scopes, AllPractices: true})
	b.Server.pdp = pdp.New(engine, practiceSource{}, b.store)
	const client = `"resource": {"type": "client", "properties": {"practice": "practice-1"}}`
	input := func(subject, action, resource, rest string) string {
		return `{"input": {"subject": {"type": "` + subject + `", "id": "admin-1"}, "action": {"name": "` + action + `"}, ` + resource + `}` + rest + `}`
	}
	good := input("user", "chart.open", client, "")
	for _, c := range []struct{ name, path, accept, body, want string }{
		{"no header", "authz/allow", "", good, "missing required header"},
		{"two headers", "authz/allow", acceptPostgres + ", " + acceptUCAST, good, "multiple headers not supported"},
		{"unknown header", "authz/allow", "application/json", good, "unsupported header: application/json"},
		{"another dialect", "authz/allow", "application/vnd.opa.sql.mysql+json", good, "not for sql mysql"},
		{"UCAST", "authz/allow", acceptUCAST, good, "not for ucast all"},
		{"several", "authz/allow", multiTarget, input("user", "chart.open", client, `, "options": {"targetDialects": ["sql+postgresql", "sql+sqlite"]}`), "not for sql sqlite"},
		{"several, none named", "authz/allow", multiTarget, good, "options.targetDialects must name"},
		{"several, no such", "authz/allow", multiTarget, input("user", "chart.open", client, `, "options": {"targetDialects": ["sql"]}`), "there is no target"},
		{"no path", "", acceptPostgres, good, "missing required 'path'"},
		{"another path", "rules/grants/permit", acceptPostgres, good, "data.rules.grants.permit is not"},
		{"unknown action", "authz/allow", acceptPostgres, input("user", "chart.burn", client, ""), "There is no such action."},
		{"an action on the practice", "authz/allow", acceptPostgres, input("user", "settings.manage", `"resource": {"type": "practice", "id": "practice-1", "properties": {"practice": "practice-1"}}`, ""), "not asked on clients"},
		{"half a note", "authz/allow", acceptPostgres, input("user", "note.read", `"resource": {"type": "note", "properties": {"practice": "practice-1"}}`, ""), "A filter needs"},
		{"no practice", "authz/allow", acceptPostgres, input("user", "chart.open", `"resource": {"type": "client"}`, ""), "must name the practice"},
		{"a portal login", "authz/allow", acceptPostgres, input("portal_user", "chart.open", client, ""), "lists are made for members of staff"},
		{"an unknown subject", "authz/allow", acceptPostgres, input("user", "chart.open", client, `, "unknowns": ["input.subject"]`), "can leave open the client only"},
		{"a mask", "authz/allow", acceptPostgres, input("user", "chart.open", client, `, "options": {"maskRule": "masks"}`), "masks no columns"},
		{"a column", "authz/allow", acceptPostgres, input("user", "chart.open", client, `, "options": {"targetSQLTableMappings": {"client": {"id": "x"}}}`), "can hold"},
		{"another table", "authz/allow", acceptPostgres, input("user", "chart.open", client, `, "options": {"targetSQLTableMappings": {"grant": {"$self": "x"}}}`), "can hold"},
		{"a table's name that is none", "authz/allow", acceptPostgres, input("user", "chart.open", client, `, "options": {"targetSQLTableMappings": {"client": {"$self": "x; DROP TABLE clients"}}}`), "small letters"},
		{"unknowns that are none", "authz/allow", acceptPostgres, input("user", "chart.open", client, `, "unknowns": "input.client"`), "must be an array of strings"},
		{"half a body", "authz/allow", acceptPostgres, `{"input": `, "malformed input"},
	} {
		r := b.do(t, "POST", "/v1/compile/"+c.path, c.body, "Accept", c.accept)
		if e := r.object(t); r.status != 400 || !strings.Contains(fmt.Sprint(e["message"]), c.want) || e["code"] != "invalid_parameter" {
			t.Errorf("%s: %d %s", c.name, r.status, r.body)
		}
	}
	if n := len(b.store.taken()); n > 0 {
		t.Errorf("%d entries of what was refused", n)
	}
	named := b.do(t, "POST", "/v1/compile/authz/decision", input("user", "chart.open", client, `, "unknowns": ["input.client"], "options": {"targetSQLTableMappings": {"postgresql": {"client": {"$self": "x"}}}}`), "Accept", acceptPostgres)
	if named.status != 200 || !strings.Contains(named.body, "x.practice = E'practice-1'") {
		t.Errorf("%d %s", named.status, named.body)
	}
	multi := b.do(t, "POST", "/v1/compile/authz/allow", input("user", "chart.open", client, `, "options": {"targetDialects": ["sql+postgresql"]}`), "Accept", multiTarget)
	if result, _ := multi.object(t)["result"].(map[string]any); multi.status != 200 || result["postgresql"] == nil {
		t.Errorf("%d %s", multi.status, multi.body)
	}
	// Without a program there are no filters: an error, not an approximation.
	plain := shipped(t)
	if r := plain.do(t, "POST", "/v1/compile/authz/allow", good, "Accept", acceptPostgres); r.status != 500 || r.object(t)["code"] != "internal_error" {
		t.Errorf("%d %s", r.status, r.body)
	}
	// Nothing is answered without a record (promise P3).
	b.store.refuse = authz.ErrUnavailable
	if r := b.do(t, "POST", "/v1/compile/authz/allow", good, "Accept", acceptPostgres); r.status != 500 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
