package control

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/web"
)

const granted = `INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by) VALUES
	('practice-1', 'client-2', 'practitioner-1', '2020-01-01Z', '2999-12-01Z', 'admin-1')`

func TestListsOverHTTP(t *testing.T) {
	d := setup(t)
	d.exec(granted)
	a := d.ok(d.call("GET", p1+"/members/practitioner-1/clients?action=chart.open", ""), 200)
	if want := `{"clients":[{"client":"client-1"},{"client":"client-2","until":"2999-12-01T00:00:00.000000Z"}]}`; string(a.text) != want {
		t.Errorf("%s", a.text)
	}
	if own := d.ok(d.as("practitioner-1").call("GET", p1+"/members/practitioner-1/clients?action=chart.open", ""), 200); string(own.text) != string(a.text) {
		t.Errorf("%s", own.text)
	}
	a = d.ok(d.call("GET", p1+"/clients/client-2/members?action=chart.open", ""), 200)
	if want := `{"members":[{"user":"admin-1","bases":[{"basis":"administrator"}]},{"user":"admin-3","bases":[{"basis":"administrator"}]},` +
		`{"user":"practitioner-1","bases":[{"basis":"client_grant","until":"2999-12-01T00:00:00.000000Z"}]},` +
		`{"user":"practitioner-2","bases":[{"basis":"assigned"}]},{"user":"practitioner-full","bases":[{"basis":"full_clinical_access"}]}]}`; string(a.text) != want {
		t.Errorf("%s", a.text)
	}
	a = d.ok(d.call("GET", p1+"/members/practitioner-1/clients?action=note.write&kind=progress&author=practitioner-2&signed=true", ""), 200)
	if want := `{"clients":[]}`; string(a.text) != want { // nobody changes another's signed note
		t.Errorf("%s", a.text)
	}
	a = d.ok(d.call("GET", p1+"/clients/client-1/members?action=note.write&kind=progress&author=practitioner-1&signed=true", ""), 200)
	if want := `{"members":[{"user":"practitioner-1","bases":[{"basis":"assigned"}]}]}`; string(a.text) != want {
		t.Errorf("%s", a.text)
	}
	a = d.ok(d.call("GET", p1+"/clients/client-1/members?action=document.read&kind=intake&recipient=client&limit=1", ""), 200)
	if next, _ := a.body["next"].(string); next == "" || len(a.body["members"].([]any)) != 1 {
		t.Errorf("%s", a.text)
	}
}

func TestListsAsOf(t *testing.T) {
	d := setup(t)
	var then time.Time
	if err := d.db.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&then); err != nil {
		t.Fatal(err)
	}
	at := "&as_of=" + url.QueryEscape(then.In(time.FixedZone("", 3600)).Format(time.RFC3339Nano))
	ask := func(more string) string {
		a := d.ok(d.call("GET", p1+"/members/practitioner-1/clients?action=chart.open"+more, ""), 200)
		b := d.ok(d.call("GET", p1+"/clients/client-1/members?action=chart.open"+more, ""), 200)
		return string(a.text) + string(b.text)
	}
	before := ask("")
	d.exec(`UPDATE clients SET assigned = NULL WHERE id = 'client-1'`)
	if now := ask(""); now == before || strings.Contains(now, "assigned") {
		t.Errorf("%s", now)
	}
	if was := ask(at); was != before {
		t.Errorf("as of then %s\nthen       %s", was, before)
	}
	for _, bad := range []string{"yesterday", "2026-13-01T00:00:00Z", "2999-01-01T00:00:00Z", "0000-01-01T00:00:00Z"} {
		for _, path := range []string{"/members/practitioner-1/clients", "/clients/client-1/members"} {
			a := d.refused(d.call("GET", p1+path+"?action=chart.open&as_of="+bad, ""), 400, "malformed")
			if !slices.Contains(a.pointers(), "/as_of") {
				t.Errorf("%s: %s", bad, a.text)
			}
		}
	}
}

// What is wrong with the question alone is told to everyone, and names what.
func TestListsRefuseWhatCannotBeAsked(t *testing.T) {
	d := setup(t)
	for _, path := range []string{p1 + "/members/practitioner-1/clients", p1 + "/clients/client-1/members"} {
		for query, pointer := range map[string]string{
			"": "/action", "?action=": "/action", "?action=no.such": "/action", "?action=client.create": "/action", "?action=supervisor.assign": "/action",
			"?action=note.read": "/action", "?action=note.read&kind=progress&author=practitioner-1": "/action", "?action=document.read&kind=intake": "/action",
			"?action=note.read&kind=rumour&author=practitioner-1&signed=true": "/action", "?action=note.read&kind=progress&author=practitioner-1&signed=yes": "/signed",
		} {
			a := d.refused(d.call("GET", path+query, ""), 400, "malformed")
			if !slices.Contains(a.pointers(), pointer) {
				t.Errorf("%s does not name %s: %s", query, pointer, a.text)
			}
		}
		for _, limit := range []string{"0", "201", "-1", "x", "1.5"} {
			d.refused(d.call("GET", path+"?action=chart.open&limit="+limit, ""), 400, "malformed")
		}
		d.refused(d.as("").call("GET", path+"?action=chart.open", ""), 400, "actor-missing")
	}
	if n := d.count(`SELECT count(*) FROM decisions`); n != 0 {
		t.Errorf("%d decisions about questions that cannot be asked", n)
	}
}

// A cursor is good for its own question, practice, actor and caller, and for
// any limit.
func TestCursorsOfLists(t *testing.T) {
	d := setup(t)
	d.exec(granted)
	d.exec(`INSERT INTO members (practice, user_id, name, roles, status) VALUES ('practice-2', 'admin-1', 'Administrator One', '{administrator}', 'active')`)
	for path, others := range map[string][]string{
		p1 + "/members/practitioner-1/clients?action=chart.open&limit=1": {
			p1 + "/members/practitioner-2/clients?action=chart.open", p1 + "/members/practitioner-1/clients?action=client.list",
			p1 + "/members/practitioner-1/clients?action=chart.open&as_of=2026-01-01T00:00:00Z", "/api/v1/practices/practice-2/members/practitioner-3/clients?action=chart.open",
			"/api/v1/practices/practice-2/members/admin-1/clients?action=chart.open", p1 + "/clients/client-1/members?action=chart.open", p1 + "/clients?x=1"},
		p1 + "/clients/client-1/members?action=chart.open&limit=1": {
			p1 + "/clients/client-2/members?action=chart.open", p1 + "/clients/client-1/members?action=demographics.read",
			p1 + "/clients/client-1/members?action=note.read&kind=progress&author=practitioner-1&signed=true", "/api/v1/practices/practice-2/clients/client-4/members?action=chart.open"},
	} {
		next, _ := d.ok(d.call("GET", path, ""), 200).body["next"].(string)
		if next == "" {
			t.Fatalf("%s: one page", path)
		}
		for _, limit := range []string{"1", "7", "200"} {
			d.ok(d.call("GET", strings.Replace(path, "limit=1", "limit="+limit, 1)+"&cursor="+next, ""), 200)
		}
		for _, other := range others {
			d.refused(d.call("GET", other+"&cursor="+next, ""), 400, "bad-cursor")
		}
		for i := range len(next) {
			altered := []byte(next)
			if altered[i]++; altered[i] == '[' || altered[i] == '{' || altered[i] == ':' || altered[i] == '.' || altered[i] == '`' {
				altered[i] = 'A'
			}
			d.refused(d.call("GET", path+"&cursor="+string(altered), ""), 400, "bad-cursor")
		}
		for _, bad := range []string{"x", next[1:], next + "A", next + next, strings.Repeat("A", 5000)} {
			d.refused(d.call("GET", path+"&cursor="+bad, ""), 400, "bad-cursor")
		}
		d.refused(d.as("admin-3").call("GET", path+"&cursor="+next, ""), 400, "bad-cursor")
		other := d.as("admin-1")
		other.key = d.makeKey(web.NewKey{Scopes: []string{"administer"}, AllPractices: true})
		d.refused(other.call("GET", path+"&cursor="+next, ""), 400, "bad-cursor")
	}
}

// Who may see a list, and what those who may not can tell (promise P8).
func TestWhoMaySeeLists(t *testing.T) {
	d := setup(t)
	d.exec(granted)
	clients := func(of string) string { return p1 + "/members/" + of + "/clients?action=chart.open" }
	for _, who := range []string{"practitioner-2", "scheduler-1", "practitioner-full"} {
		d.refused(d.as(who).call("GET", clients("practitioner-1"), ""), 403, "not-allowed") // member.list
		d.refused(d.as(who).call("GET", clients("no-such"), ""), 403, "not-allowed")
		d.ok(d.as(who).call("GET", clients(who), ""), 200) // his own
	}
	for _, who := range []string{"admin-2", "invited-1", "removed-1", "nobody"} {
		none := d.refused(d.as(who).call("GET", clients("no-such"), ""), 404, "not-found")
		for _, of := range []string{"practitioner-1", who} {
			there := d.refused(d.as(who).call("GET", clients(of), ""), 404, "not-found")
			if strings.ReplaceAll(string(none.text), "no-such", of) != string(there.text) {
				t.Errorf("%s can tell %s:\n%s\n%s", who, of, none.text, there.text)
			}
		}
	}
	d.refused(d.call("GET", clients("no-such"), ""), 404, "not-found")
	d.refused(d.call("GET", clients("admin-2"), ""), 404, "not-found") // of another practice
	d.ok(d.call("GET", clients("removed-1"), ""), 200)

	members := func(of string) string { return p1 + "/clients/" + of + "/members?action=chart.open" }
	d.refused(d.as("scheduler-1").call("GET", members("client-1"), ""), 403, "not-allowed")    // he may list it
	d.refused(d.as("practitioner-1").call("GET", members("client-1"), ""), 403, "not-allowed") // his own client
	for who, hidden := range map[string]string{"practitioner-2": "client-1", "admin-1": "client-4", "admin-2": "client-1", "removed-1": "client-1"} {
		none := d.refused(d.as(who).call("GET", members("no-such"), ""), 404, "not-found")
		there := d.refused(d.as(who).call("GET", members(hidden), ""), 404, "not-found")
		if strings.ReplaceAll(string(none.text), "no-such", hidden) != string(there.text) {
			t.Errorf("%s can tell:\n%s\n%s", who, none.text, there.text)
		}
	}
	d.refused(d.as("admin-2").call("GET", "/api/v1/practices/practice-2/clients/client-1/members?action=chart.open", ""), 404, "not-found")
	// Who manages access because the practice lets assigned practitioners do it.
	d.exec(`UPDATE practices SET overrides = '{"access_managers": ["administrator", "assigned_practitioner"]}' WHERE id = 'practice-1'`)
	d.ok(d.as("practitioner-1").call("GET", members("client-1"), ""), 200)
	bound := d.as("admin-1")
	bound.key = d.makeKey(web.NewKey{Scopes: []string{"administer"}, Practices: []string{"practice-2"}})
	d.refused(bound.call("GET", members("client-1"), ""), 404, "not-found")
	bound.key = d.makeKey(web.NewKey{Scopes: []string{"profiles", "ask", "records"}, AllPractices: true})
	d.refused(bound.call("GET", members("client-1"), ""), 403, "not-allowed")
}

// Who may see the list of another, and may not list a client himself, is not
// shown it there. The shipped policy has nobody like that: this one has.
func TestListsShowOnlyWhatTheActorMayListHimself(t *testing.T) {
	policy, err := policytest.Compiled(func(roles map[string]any) {
		admin := roles["administrator"].(map[string]any)
		admin["always"] = slices.DeleteFunc(slices.Clone(admin["always"].([]any)), func(a any) bool { return a == "client.list" })
	})
	if err != nil {
		t.Fatal(err)
	}
	d := setup(t, func(o *Options) {
		o.Policies = func(context.Context, Querier, bool) (Policy, error) { return policy, nil }
	})
	d.exec(`UPDATE members SET roles = '{administrator,practitioner}' WHERE user_id = 'admin-1';
		INSERT INTO clients (id, practice, assigned, first_name, last_name) SELECT 'many-' || lpad(n::text, 3, '0'), 'practice-1', 'practitioner-1', 'Client', 'Many' FROM generate_series(1, 60) n;
		INSERT INTO grants (practice, client, user_id, granted_by) SELECT 'practice-1', 'many-' || lpad(n::text, 3, '0'), 'admin-1', 'admin-3' FROM unnest('{7,8,59}'::int[]) n`)
	path, next := p1+"/members/practitioner-1/clients?action=chart.open&limit=1", ""
	var got []string
	for {
		a := d.ok(d.call("GET", path+"&cursor="+next, ""), 200)
		for _, c := range a.body["clients"].([]any) {
			got = append(got, fmt.Sprint(c.(map[string]any)["client"]))
		}
		if next, _ = a.body["next"].(string); next == "" {
			break
		}
	}
	if !slices.Equal(got, []string{"many-007", "many-008", "many-059"}) {
		t.Errorf("%v", got)
	}
}

// Each page, and what let the actor see it, is on record before it leaves.
func TestListsAreOnRecord(t *testing.T) {
	d := setup(t)
	for path, want := range map[string][]string{
		p1 + "/members/practitioner-1/clients?action=chart.open": {"chart.open listed  member practitioner-1", "client.list listed", "member.list administrator  practice practice-1"},
		p1 + "/clients/client-1/members?action=chart.open":       {"access.manage administrator client-1 client client-1", "chart.open listed client-1 client client-1"},
		p1 + "/clients": {"client.list listed  client ", "demographics.read listed  client "},
	} {
		d.exec(`TRUNCATE decisions, ledger`)
		a := d.ok(d.call("GET", path, "", "X-Request-ID", "request-1"), 200)
		rows, err := d.db.Query(t.Context(), `SELECT action || ' ' || code || ' ' || coalesce(client, '') || ' ' || resource_type || ' ' || resource_id, body, id::text,
			subject_id = 'admin-1' AND practice = 'practice-1' FROM decisions ORDER BY 1`)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		named := false
		for rows.Next() {
			var text, id string
			var body []byte
			var ours bool
			if err := rows.Scan(&text, &body, &id, &ours); err != nil {
				t.Fatal(err)
			}
			if requestOf(t, body) != "request-1" || !ours {
				t.Errorf("%s: request %s, %v", text, requestOf(t, body), ours)
			}
			named = named || id == a.Header.Get("Chartgate-Decision-Id")
			got = append(got, text)
		}
		for i, text := range got {
			if i >= len(want) || !strings.HasPrefix(text, want[i]) {
				t.Errorf("%s: on record %q, want %q", path, got, want)
				break
			}
		}
		if len(got) < 2 || !named {
			t.Errorf("%s: on record %q, want %q; the header names one of them: %v", path, got, want, named)
		}
	}
	d.exec(`REVOKE INSERT ON decisions FROM chartgate_control`)
	d.refused(d.call("GET", p1+"/members/practitioner-1/clients?action=chart.open", ""), 503, "cannot-decide")
	d.refused(d.call("GET", p1+"/clients", ""), 503, "cannot-decide")
}

// Complete or an error: a policy that is not compiled makes no list, and says so.
func TestNoListsWithoutTheCompiledPolicy(t *testing.T) {
	compiled, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	formulas, err := compiled.Lists()
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]Policy{
		"not compiled":      listless{compiled, nil, authz.ErrUnavailable},
		"one that will not": listless{compiled, &compile.Policy{Bases: formulas.Bases, Actions: map[string]*compile.Action{"chart.open": {Name: "chart.open", On: "client", Err: &compile.Untranslatable{Rule: "data.rules.odd.permit", What: "odd"}}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := setup(t, func(o *Options) {
				o.Policies = func(context.Context, Querier, bool) (Policy, error) { return policy, nil }
			})
			for _, path := range []string{"/members/practitioner-1/clients?action=chart.open", "/clients/client-1/members?action=chart.open"} {
				a := d.refused(d.call("GET", p1+path, ""), 503, "cannot-decide")
				if detail, _ := a.body["detail"].(string); !strings.Contains(detail, "policy") && !strings.Contains(detail, "data.rules.odd.permit") {
					t.Errorf("%s", a.text)
				}
			}
			d.ok(d.call("GET", p1+"/clients/client-1/access", ""), 200)
		})
	}
}

// listless is a policy with other formulas, or none.
type listless struct {
	Policy
	formulas *compile.Policy
	err      error
}

func (l listless) Lists() (*compile.Policy, error) { return l.formulas, l.err }
