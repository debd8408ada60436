package control

import (
	"context"
	"errors"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/web"
)

// makeKey makes a key of the database.
func (d *desk) makeKey(k web.NewKey) string {
	d.t.Helper()
	_, key, err := d.o.Callers.Keys.Make(d.t.Context(), k)
	if err != nil {
		d.t.Fatal(err)
	}
	return key
}

func TestRule109_Callers(t *testing.T) {
	d := setup(t)
	with := func(key string) *desk { return &desk{Server: d.Server, t: t, db: d.db, key: key, actor: "admin-1"} }
	d.refused(with("").call("GET", p1+"/settings", ""), 401, "no-caller")
	d.refused(with("no-such-key-at-all").call("GET", p1+"/settings", ""), 401, "no-caller")
	d.refused(with(d.makeKey(web.NewKey{Scopes: []string{"ask"}, AllPractices: true})).call("GET", p1+"/settings", ""), 403, "not-allowed")
	d.refused(d.as("").call("GET", p1+"/settings", ""), 400, "actor-missing")
	d.refused(d.as(strings.Repeat("x", 129)).call("GET", p1+"/settings", ""), 400, "malformed")

	// Rule 109: a key of practice-2 may not even know of practice-1.
	bound := with(d.makeKey(web.NewKey{Scopes: []string{"administer"}, Practices: []string{"practice-2"}}))
	foreign := d.refused(bound.call("GET", p1+"/settings", ""), 404, "not-found")
	missing := d.refused(bound.call("GET", "/api/v1/practices/practice-x/settings", ""), 404, "not-found")
	if strings.ReplaceAll(string(missing.text), "practice-x", "practice-1") != string(foreign.text) {
		t.Errorf("a practice of others is told from none:\n%s\n%s", foreign.text, missing.text)
	}
	d.ok(with(d.makeKey(web.NewKey{Scopes: []string{"administer"}, Practices: []string{"practice-1"}})).call("GET", p1+"/settings", ""), 200)
}

// Promise P8: who may not list a client can not tell it from none, whatever he
// tries.
func TestRule105_114_ExistenceDoesNotShow(t *testing.T) {
	d := setup(t)
	given := d.ok(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-full"}`), 201).body["id"].(string)
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/access", ""},
		{"PUT", "/access", `{"grants": []}`},
		{"PUT", "/access", `{"grants": [{"user": "practitioner-2"}]}`},
		{"POST", "/grants", `{"user": "practitioner-2"}`},
		{"GET", "/grants/" + given, ""},
		{"DELETE", "/grants/" + given, ""},
		{"PUT", "/assigned-practitioner", `{"user": "practitioner-2"}`},
	} {
		for _, hidden := range []struct{ actor, practice, client string }{
			{"practitioner-2", "practice-1", "client-1"}, // not his
			{"admin-1", "practice-1", "client-4"},        // of another practice (rule 105)
			{"admin-2", "practice-2", "client-1"},
			{"admin-2", "practice-1", "client-1"}, // no member of this practice
			{"invited-1", "practice-1", "client-1"},
			{"removed-1", "practice-1", "client-1"},
		} {
			who, base := d.as(hidden.actor), "/api/v1/practices/"+hidden.practice+"/clients/"
			there := d.refused(who.call(c.method, base+hidden.client+c.path, c.body, "If-Match", "*"), 404, "not-found")
			none := d.refused(who.call(c.method, base+"client-x"+c.path, c.body, "If-Match", "*"), 404, "not-found")
			if strings.ReplaceAll(string(none.text), "client-x", hidden.client) != string(there.text) {
				t.Errorf("%s %s: %s can tell:\n%s\n%s", c.method, c.path, hidden.actor, there.text, none.text)
			}
			for name := range there.Header {
				if _, ok := none.Header[name]; !ok {
					t.Errorf("%s %s: header %s tells", c.method, c.path, name)
				}
			}
		}
		// He may list it, and may not manage it.
		d.refused(d.as("scheduler-1").call(c.method, p1+"/clients/client-1"+c.path, c.body, "If-Match", "*"), 403, "not-allowed")
	}
	if n := d.count(`SELECT count(*) FROM changes`); n != 1 {
		t.Errorf("%d changes, want the first grant only", n)
	}
}

func TestEveryDecisionIsOnRecord(t *testing.T) {
	d := setup(t)
	decided := func(id string) (action, code string, allow bool, request *string) {
		err := d.db.QueryRow(t.Context(), `SELECT action, code, allow, request_id FROM decisions WHERE id::text = $1`, id).Scan(&action, &code, &allow, &request)
		if err != nil {
			t.Errorf("decision %s: %v", id, err)
		}
		return
	}
	given := d.ok(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2"}`, "X-Request-ID", "request-7"), 201)
	id := given.Header.Get("Chartgate-Decision-Id")
	if action, code, allow, request := decided(id); action != "access.manage" || code != "administrator" || !allow || request == nil || *request != "request-7" {
		t.Errorf("decided %s %s %v %v", action, code, allow, request)
	}
	if n := d.count(`SELECT count(*) FROM changes WHERE decision::text = $1`, id); n != 1 {
		t.Errorf("%d changes name the decision, want 1", n)
	}
	if given.Header.Get("Chartgate-Policy-Revision") == "" {
		t.Error("the answer does not name the policy")
	}
	for name, c := range map[string]struct {
		who     *desk
		body    string
		status  int
		records int
	}{
		"denied, and may list":      {d.as("scheduler-1"), `{"user": "practitioner-2"}`, 403, 2}, // also client.list
		"denied, and may not":       {d.as("admin-2"), `{"user": "practitioner-2"}`, 404, 2},
		"allowed, and then refused": {d, `{"user": "scheduler-1"}`, 422, 1},
		"allowed, nothing to do":    {d, `{"user": "practitioner-2"}`, 200, 1},
		"not read":                  {d, `{"user": 7}`, 400, 0},
	} {
		before := d.count(`SELECT count(*) FROM decisions`)
		a := c.who.call("POST", p1+"/clients/client-1/grants", c.body)
		if a.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.text)
		}
		if n := d.count(`SELECT count(*) FROM decisions`) - before; n != c.records {
			t.Errorf("%s: %d decisions on record, want %d", name, n, c.records)
		}
		if c.records > 0 {
			if action, _, _, _ := decided(a.Header.Get("Chartgate-Decision-Id")); action != "access.manage" {
				t.Errorf("%s: the answer names a decision about %q", name, action)
			}
		}
	}
	if n := d.count(`SELECT count(*) FROM decisions WHERE subject_id = 'admin-2' AND code = 'other_practice' AND NOT allow`); n != 2 {
		t.Errorf("%d records of the exact code, want 2", n)
	}
}

// broken records nothing.
type broken struct{}

func (broken) Record(context.Context, ...authz.Verdict) error {
	return errors.Join(authz.ErrUnavailable, errors.New("disk full"))
}

func TestNoAnswerWithoutRecord(t *testing.T) {
	d := setup(t, func(o *Options) { o.Recorder = broken{} })
	d.refused(d.as("scheduler-1").call("GET", access1, ""), 503, "cannot-decide")
	d.exec(`REVOKE INSERT ON decisions FROM chartgate_control`)
	a := d.refused(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2"}`), 503, "cannot-decide")
	if strings.Contains(string(a.text), "decisions") || a.Header.Get("Retry-After") == "" {
		t.Errorf("%s", a.text)
	}
	if n := d.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Error("a change without the record of its decision")
	}
}

// Promise P2: a change that is not known to hold everywhere is no success.
func TestInterruptedWaitIsNoSuccess(t *testing.T) {
	d := setup(t, func(o *Options) { o.Settle = func(context.Context) error { return context.DeadlineExceeded } })
	a := d.refused(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2"}`), 503, "cannot-decide")
	if a.Header.Get("Chartgate-Revision") != "" {
		t.Error("a revision of a change that may not hold")
	}
	if n := d.count(`SELECT count(*) FROM grants`); n != 1 {
		t.Error("the change itself is done")
	}
	if n := d.count(`SELECT count(*) FROM decisions`); n != 1 {
		t.Errorf("%d records of one decision", n)
	}
}

func TestStoreDownIsNoAnswer(t *testing.T) {
	d := setup(t)
	d.o.Pool.Close()
	d.refused(d.call("GET", access1, ""), 503, "cannot-decide")
	d.refused(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2"}`), 503, "cannot-decide")
}
