package control

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// explained asks why somebody of staff may, or may not, do something to a client.
func (d *desk) explained(subject, action, client string) answer {
	d.t.Helper()
	return d.call("POST", p1+"/explain", fmt.Sprintf(`{"subject": {"type": "user", "id": %q}, "action": {"name": %q}, "resource": {"type": "client", "id": %q}}`, subject, action, client))
}

func texts(v any) []string {
	out := []string{}
	list, _ := v.([]any)
	for _, one := range list {
		s, _ := one.(string)
		out = append(out, s)
	}
	return out
}

func TestExplainedToWhoManagesAccess(t *testing.T) {
	d := setup(t)
	d.ok(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2", "scope": "view", "expires_at": "2126-12-01T00:00:00Z", "reason": "coverage"}`), 201)

	a := d.ok(d.explained("practitioner-2", "chart.open", "client-1"), 200)
	if got := texts(a.body["sentences"]); !slices.Equal(got, []string{"allowed: a grant until 2126-12-01, given by admin-1, reason: coverage"}) {
		t.Errorf("sentences %q", got)
	}
	if a.body["decision"] != true || a.body["code"] != "client_grant" || a.body["would_allow"] != nil {
		t.Errorf("%s", a.text)
	}
	if a.Header.Get("Chartgate-Decision-Id") == "" {
		t.Error("the answer names no decision")
	}

	a = d.ok(d.explained("practitioner-2", "demographics.write", "client-1"), 200)
	ways, _ := a.body["would_allow"].([]any)
	if a.body["code"] != "scope" || len(ways) == 0 || ways[0].(map[string]any)["change"] != "make the grant of practitioner-2 one to collaborate on client-1, until 2126-12-01" {
		t.Errorf("%s", a.text)
	}
	// What is of no use to anybody is not offered.
	a = d.ok(d.explained("practitioner-3", "chart.open", "client-1"), 200)
	if a.body["code"] != "other_practice" || len(a.body["would_allow"].([]any)) != 0 {
		t.Errorf("%s", a.text)
	}
	a = d.ok(d.explained("practitioner-2", "client.merge", "client-1"), 200)
	if a.body["code"] != "no_basis" || len(a.body["would_allow"].([]any)) != 0 {
		t.Errorf("%s", a.text)
	}
}

// Each way that is offered is gone, by its own route: it allows.
func TestWaysAreWays(t *testing.T) {
	d := setup(t)
	bodies := map[string]string{
		"grants":                 `{"user": "practitioner-2", "scope": "view"}`,
		"assigned-practitioner":  `{"user": "practitioner-2"}`,
		"full-clinical-access":   `{"enabled": true}`,
		"members/practitioner-2": `{"roles": ["practitioner", "administrator"]}`,
	}
	gone := 0
	for {
		a := d.ok(d.explained("practitioner-2", "chart.open", "client-3"), 200)
		ways, _ := a.body["would_allow"].([]any)
		if gone >= len(ways) {
			break
		}
		way := ways[gone].(map[string]any)
		for _, s := range way["steps"].([]any) {
			step := s.(map[string]any)
			path := step["path"].(string)
			body := ""
			for end, b := range bodies {
				if strings.HasSuffix(path, end) {
					body = b
				}
			}
			if r := d.call(step["method"].(string), path, body); r.StatusCode >= 300 {
				t.Fatalf("%v: %d %s", step, r.StatusCode, r.text)
			}
		}
		a = d.ok(d.explained("practitioner-2", "chart.open", "client-3"), 200)
		if a.body["decision"] != true || a.body["code"] != way["basis"] {
			t.Errorf("after %v: %s", way["change"], a.text)
		}
		d.exec(`DELETE FROM grants; UPDATE clients SET assigned = NULL WHERE id = 'client-3'; UPDATE members SET full_clinical_access = false, roles = '{practitioner}' WHERE user_id = 'practitioner-2'`)
		gone++
	}
	if gone != len(bodies) {
		t.Errorf("%d ways were offered, want %d", gone, len(bodies))
	}
}

// TestRule116_ARefusalIsNoBasis: whoever may not manage access hears of a
// refusal no_basis and nothing more, the same for a client that he may not
// see, one of another practice, and none (promise P8; DOMAIN rules 105, 114).
func TestRule116_ARefusalIsNoBasis(t *testing.T) {
	d := setup(t)
	d.exec(`UPDATE clients SET status = 'archived' WHERE id = 'client-2'`)
	d.exec(`INSERT INTO grants (practice, client, user_id, scope, granted_by, reason) VALUES ('practice-1', 'client-1', 'practitioner-full', 'view', 'admin-1', 'secret')`)

	var plain []byte
	for _, client := range []string{"client-1", "client-2", "client-3", "client-4", "client-none"} {
		a := d.as("practitioner-1").explained("practitioner-1", "billing.manage", client)
		if client == "client-1" { // his own
			if d.ok(a, 200); a.body["decision"] != true {
				t.Errorf("%s", a.text)
			}
			continue
		}
		if d.ok(a, 200); plain == nil {
			plain = a.text
		}
		if !bytes.Equal(a.text, plain) || a.body["code"] != "no_basis" || len(a.body) != 4 || strings.Contains(string(a.text), client) {
			t.Errorf("%s: %s, and not %s", client, a.text, plain)
		}
	}
	// Of somebody else, and a client that he may not list: there is none.
	var none []byte
	for _, subject := range []string{"practitioner-2", "practitioner-full", "admin-1", "practitioner-none"} {
		for _, client := range []string{"client-2", "client-3", "client-4", "client-none"} {
			a := d.as("practitioner-1").explained(subject, "chart.open", client)
			if d.refused(a, 404, "not-found"); none == nil {
				none = a.text
			}
			if !bytes.Equal(a.text, none) {
				t.Errorf("%s on %s: %s, and not %s", subject, client, a.text, none)
			}
		}
	}
	// Who may list the client, and not manage its access, is told on what an
	// allowance rests, without facts, and of a refusal nothing.
	for _, c := range []struct{ subject, action, client, code string }{
		{"practitioner-full", "chart.open", "client-1", "client_grant"},
		{"practitioner-full", "demographics.write", "client-1", "full_clinical_access"},
		{"practitioner-full", "message.send", "client-1", "no_basis"}, // scope
		{"practitioner-2", "note.read", "client-2", ""},               // no note: malformed
		{"practitioner-2", "demographics.write", "client-2", "no_basis"},
		{"removed-1", "chart.open", "client-1", "no_basis"},
		{"practitioner-3", "chart.open", "client-1", "no_basis"},
	} {
		a := d.as("scheduler-1").explained(c.subject, c.action, c.client)
		if c.code == "" {
			d.refused(a, 400, "malformed")
			continue
		}
		if d.ok(a, 200); a.body["code"] != c.code || len(a.body) != 4 || strings.Contains(string(a.text), "secret") || strings.Contains(string(a.text), "admin-1") {
			t.Errorf("%+v: %s", c, a.text)
		}
	}
}

func TestExplainOfThePractice(t *testing.T) {
	d := setup(t)
	body := func(subject string) string {
		return fmt.Sprintf(`{"subject": {"type": "user", "id": %q}, "action": {"name": "settings.manage"}, "resource": {"type": "practice", "id": "practice-1"}}`, subject)
	}
	a := d.ok(d.call("POST", p1+"/explain", body("scheduler-1")), 200)
	if ways, _ := a.body["would_allow"].([]any); len(ways) != 1 || ways[0].(map[string]any)["basis"] != "administrator" {
		t.Errorf("%s", a.text)
	}
	if a := d.ok(d.as("scheduler-1").call("POST", p1+"/explain", body("scheduler-1")), 200); a.body["code"] != "no_basis" || a.body["would_allow"] != nil {
		t.Errorf("%s", a.text)
	}
	d.refused(d.as("scheduler-1").call("POST", p1+"/explain", body("admin-1")), 404, "not-found")
	d.refused(d.as("admin-2").call("POST", p1+"/explain", body("admin-1")), 404, "not-found")
}

func TestExplainRefusesWhatIsNoQuestion(t *testing.T) {
	d := setup(t)
	for _, c := range []struct{ body, pointer string }{
		{`{"subject": {"type": "user", "id": "practitioner-1"}, "action": {"name": "chart.burn"}, "resource": {"type": "client", "id": "client-1"}}`, "/action/name"},
		{`{"subject": {"type": "user", "id": "practitioner-1"}, "action": {"name": "chart.open"}, "resource": {"type": "note", "id": "client-1"}}`, "/resource"},
		{`{"subject": {"type": "user", "id": "practitioner-1"}, "action": {"name": "chart.open"}, "resource": {"type": "client", "id": "client-1", "properties": {"practice": "practice-2"}}}`, "/resource/properties/practice"},
		{`{"subject": {"type": "user", "id": "practitioner-1"}, "action": {"name": "settings.manage"}, "resource": {"type": "practice", "id": "practice-2"}}`, "/resource/id"},
		{`{"subject": {"type": "user", "id": "practitioner-1"}, "action": {"name": "chart.open"}}`, "/resource"},
		{`{"subject": {"type": "user", "id": "practitioner-1"}, "action": {"name": "chart.open"}, "resource": {"type": "client", "id": "client-1"}, "context": {"now": "2026-01-01"}}`, "/context/now"},
	} {
		if a := d.refused(d.call("POST", p1+"/explain", c.body), 400, "malformed"); !slices.Contains(a.pointers(), c.pointer) {
			t.Errorf("%s: %s", c.body, a.text)
		}
	}
}

// What was explained, and that it was asked, is on record: the first as a
// decision that nobody acted on.
func TestExplainingIsOnRecord(t *testing.T) {
	d := setup(t)
	for _, c := range []struct {
		actor, subject, client string
		status                 int
		want                   []string
	}{
		{"admin-1", "practitioner-2", "client-1", 200, []string{"access.manage admin-1 true", "chart.open practitioner-2 false"}},
		{"practitioner-2", "practitioner-2", "client-1", 200, []string{"access.manage practitioner-2 false", "chart.open practitioner-2 false"}},
		{"practitioner-2", "practitioner-1", "client-1", 404, []string{"access.manage practitioner-2 false", "chart.open practitioner-1 true", "client.list practitioner-2 false"}},
	} {
		d.exec(`DELETE FROM decisions`)
		d.ok(d.as(c.actor).explained(c.subject, "chart.open", c.client), c.status)
		rows, err := d.db.Query(t.Context(), `SELECT action || ' ' || subject_id || ' ' || allow FROM decisions`)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			got = append(got, s)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%+v: recorded %v", c, got)
		}
	}
	if n := d.count(`SELECT count(*) FROM decisions WHERE action = 'chart.open' AND position('explain'::bytea in body) > 0`); n != 1 {
		t.Errorf("%d decisions say that they were made to be explained", n)
	}
}
