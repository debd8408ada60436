package control

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

const access1 = p1 + "/clients/client-1/access"

func TestManageAccess(t *testing.T) {
	d := setup(t)
	first := d.ok(d.call("GET", access1, ""), 200)
	tag := first.Header.Get("ETag")
	for user, want := range map[string]map[string]any{
		"practitioner-1":    {"eligible": false, "bases": []any{"assigned"}},
		"practitioner-2":    {"eligible": true, "bases": []any{}},
		"practitioner-full": {"eligible": true, "bases": []any{"full_clinical_access"}},
		"admin-1":           {"eligible": false, "bases": []any{"administrator"}},
		"invited-1":         {"eligible": false, "bases": []any{}},
	} {
		m := first.member(user)
		if m == nil || m["eligible"] != want["eligible"] || !reflect.DeepEqual(m["bases"], want["bases"]) || m["grant"] != nil {
			t.Errorf("%s: %v", user, m)
		}
	}
	if first.member("removed-1") != nil || first.member("practitioner-3") != nil {
		t.Error("somebody who is no member is listed")
	}
	if a := d.call("GET", access1, "", "If-None-Match", `W/"x", `+tag); a.StatusCode != 304 || len(a.text) != 0 || a.Header.Get("ETag") != tag {
		t.Errorf("unchanged: %d %s", a.StatusCode, a.text)
	}

	saved := d.ok(d.call("PUT", access1, `{"grants": [{"user": "practitioner-2", "reason": "shared care"}]}`, "If-Match", tag), 200)
	if d.settled.Load() != 1 {
		t.Errorf("waited %d times, want once", d.settled.Load())
	}
	m := saved.member("practitioner-2")
	grant, _ := m["grant"].(map[string]any)
	if !reflect.DeepEqual(m["bases"], []any{"client_grant"}) || grant["scope"] != "collaborate" || grant["reason"] != "shared care" ||
		grant["granted_by"] != "admin-1" || grant["expires_at"] != nil || grant["user"] != nil {
		t.Errorf("saved: %v", m)
	}
	again := d.ok(d.call("GET", access1, "", "If-None-Match", tag), 200)
	if again.Header.Get("ETag") != saved.Header.Get("ETag") || string(again.text) != string(saved.text) {
		t.Error("GET shows something else than PUT answered")
	}

	// What was read is sent back: the same grant stays.
	same := d.ok(d.call("PUT", access1, fmt.Sprintf(`{"grants": [{"user": "practitioner-2", "scope": %q, "not_before": %q, "reason": %q}, {"user": "practitioner-full", "scope": "view", "expires_at": "2099-01-01T00:00:00+01:00"}]}`,
		grant["scope"], grant["not_before"], grant["reason"]), "If-Match", saved.Header.Get("ETag")), 200)
	if g, _ := same.member("practitioner-2")["grant"].(map[string]any); g["id"] != grant["id"] {
		t.Errorf("named unchanged: %v, want %v", g, grant)
	}
	if g, _ := same.member("practitioner-full")["grant"].(map[string]any); g["expires_at"] != "2098-12-31T23:00:00.000000Z" || g["scope"] != "view" {
		t.Errorf("new: %v", g)
	}

	// Without an end again, then nobody.
	endless := d.ok(d.call("PUT", access1, `{"grants": [{"user": "practitioner-full", "expires_at": "9999-12-31T23:59:59.999999Z"}]}`, "If-Match", same.Header.Get("ETag")), 200)
	if g, _ := endless.member("practitioner-full")["grant"].(map[string]any); g["expires_at"] != nil || g["scope"] != "view" {
		t.Errorf("without its end: %v", g)
	}
	d.ok(d.call("PUT", access1, `{"grants": []}`, "If-Match", "*"), 200)
	if n := d.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Errorf("%d grants after saving none", n)
	}
}

func TestAccessListsGrantsToCome(t *testing.T) {
	d := setup(t)
	soon, then, last := time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339), time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339), time.Now().Add(72*time.Hour).UTC().Format(time.RFC3339)
	d.ok(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2", "expires_at": "`+soon+`"}`), 201)
	d.ok(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2", "not_before": "`+then+`", "expires_at": "`+last+`"}`), 201)
	m := d.ok(d.call("GET", access1, ""), 200).member("practitioner-2")
	later, _ := m["later"].([]any)
	if m["grant"] == nil || len(later) != 1 || !reflect.DeepEqual(m["bases"], []any{"client_grant"}) {
		t.Errorf("%v", m)
	}
	// Roles and bases are shown, so the tag follows them; the version of the set
	// does not, so saving works on.
	tag := d.call("GET", access1, "").Header.Get("ETag")
	d.exec(`UPDATE members SET full_clinical_access = true WHERE user_id = 'practitioner-2'`)
	if d.ok(d.call("GET", access1, "", "If-None-Match", tag), 200).Header.Get("ETag") == tag {
		t.Error("other bases under the same tag")
	}
	d.ok(d.call("PUT", access1, `{"grants": []}`, "If-Match", tag), 200)
}

func TestRule35_SaveNeedsTheVersionThatWasRead(t *testing.T) {
	d := setup(t)
	tag := d.call("GET", access1, "").Header.Get("ETag")
	const set = `{"grants": [{"user": "practitioner-2"}]}`
	d.refused(d.call("PUT", access1, set), 428, "if-match-missing")
	for _, odd := range []string{`"0"`, `0.x`, `"1.x"`, "W/" + tag, `""`, strings.Trim(tag, `"`)} {
		d.refused(d.call("PUT", access1, set, "If-Match", odd), 412, "changed-meanwhile")
	}
	if d.count(`SELECT count(*) FROM grants`) != 0 || d.settled.Load() != 0 {
		t.Error("a refused call changed something")
	}

	var wg sync.WaitGroup
	statuses := make([]int, 4)
	for i := range statuses {
		user := []string{"practitioner-2", "practitioner-full"}[i%2]
		wg.Go(func() {
			statuses[i] = d.call("PUT", access1, `{"grants": [{"user": "`+user+`"}]}`, "If-Match", `"other", `+tag).StatusCode
		})
	}
	wg.Wait()
	won := 0
	for _, status := range statuses {
		switch status {
		case 200:
			won++
		case 412:
		default:
			t.Errorf("status %d", status)
		}
	}
	if won != 1 || d.count(`SELECT count(*) FROM grants`) != 1 {
		t.Errorf("%d of those who read the same version saved: %v", won, statuses)
	}
}

func TestGrantOverHTTP(t *testing.T) {
	d := setup(t)
	const grants = p1 + "/clients/client-1/grants"
	given := d.ok(d.call("POST", grants, `{"user": "practitioner-2", "scope": "view", "reason": "cover"}`), 201)
	id, _ := given.body["id"].(string)
	if given.body["user"] != "practitioner-2" || given.body["scope"] != "view" || given.Header.Get("Location") != grants+"/"+id {
		t.Errorf("given: %s at %s", given.text, given.Header.Get("Location"))
	}
	if shown := d.ok(d.call("GET", given.Header.Get("Location"), ""), 200); string(shown.text) != string(given.text) {
		t.Errorf("shown %s, given %s", shown.text, given.text)
	}
	again := d.ok(d.call("POST", grants, `{"user": "practitioner-2", "scope": "view", "reason": "cover"}`), 200)
	if again.body["id"] != id || again.Header.Get("Chartgate-Revision") == "" || again.Header.Get("Location") != "" {
		t.Errorf("again: %s", again.text)
	}
	d.ok(d.call("POST", grants, `{"user": "practitioner-2", "not_before": null, "expires_at": null, "scope": null, "reason": null}`), 201)
	d.refused(d.call("POST", grants, `{"user": "practitioner-2", "scope": "view"}`), 409, "grant-overlaps")
	d.refused(d.call("POST", grants, `{"user": "scheduler-1"}`), 422, "grantee-not-eligible")
	d.refused(d.call("POST", grants, `{"user": "practitioner-1"}`), 422, "redundant")
	d.refused(d.call("POST", grants, `{"user": "practitioner-2", "expires_at": "2020-01-01T00:00:00Z"}`), 422, "end-refused")

	now := d.ok(d.call("GET", access1, ""), 200).member("practitioner-2")["grant"].(map[string]any)
	waited := d.settled.Load()
	for range 2 { // the second finds nothing to do, and waits too
		revoked := d.ok(d.call("DELETE", grants+"/"+now["id"].(string)+"?reason=no%20longer%20needed", ""), 200)
		if revoked.body["revision"] != revoked.Header.Get("Chartgate-Revision") {
			t.Errorf("revoked: %s", revoked.text)
		}
	}
	if d.settled.Load() != waited+2 {
		t.Error("a revocation was answered before it holds everywhere")
	}
	if n := d.count(`SELECT count(*) FROM changes WHERE reason = 'no longer needed' AND after ->> 'closed' = 'revoked'`); n != 1 {
		t.Errorf("%d records of one revocation", n)
	}
	d.refused(d.call("GET", grants+"/"+now["id"].(string), ""), 404, "not-found")
	d.refused(d.call("DELETE", grants+"/nothing", ""), 404, "not-found")
	d.refused(d.call("DELETE", grants+"/"+id+"?reason=%00", ""), 400, "malformed")
}

func TestOddBodiesNameTheField(t *testing.T) {
	d := setup(t)
	tag := d.call("GET", access1, "").Header.Get("ETag")
	for _, c := range []struct{ method, path, body, pointer string }{
		{"POST", "/clients/client-1/grants", `{}`, "/user"},
		{"POST", "/clients/client-1/grants", `{"user": "practitioner-2", "scope": ""}`, "/scope"},
		{"POST", "/clients/client-1/grants", `{"user": "practitioner-2", "expires_at": "tomorrow"}`, "/expires_at"},
		{"POST", "/clients/client-1/grants", `{"user": "practitioner-2", "Scope": "view"}`, "/Scope"},
		{"PUT", "/clients/client-1/access", `{"grants": [{"user": "practitioner-2"}, {"user": 7}]}`, "/grants/1/user"},
		{"PUT", "/clients/client-1/access", `{"grants": [{"user": "practitioner-2", "expires_at": null}]}`, "/grants/0/expires_at"},
		{"PUT", "/clients/client-1/access", `{"grants": [{"user": "practitioner-2"}, {"user": "practitioner-2"}]}`, "/grants/1"},
		{"PUT", "/clients/client-1/access", `{"grants": null}`, "/grants"},
		{"PUT", "/clients/client-1/assigned-practitioner", `{}`, "/user"},
		{"PUT", "/clients/client-1/assigned-practitioner", `{"user": ""}`, "/user"},
		{"POST", "/members", `{"user": "practitioner-9", "name": "Nine", "roles": ["owner"]}`, "/roles/0"},
		{"PATCH", "/members/practitioner-1", `{}`, "/roles"},
		{"PATCH", "/members/practitioner-1", `{"status": "removed"}`, "/status"},
		{"PUT", "/members/practitioner-1/full-clinical-access", `{"enabled": "yes"}`, "/enabled"},
		{"POST", "/members/practitioner-1/remove", `{"successors": {"client-1": null}}`, "/successors/client-1"},
		{"PUT", "/settings", `{"preset": "seed", "overrides": {"hide_unassigned": 1}}`, "/overrides/hide_unassigned"},
	} {
		a := d.refused(d.call(c.method, p1+c.path, c.body, "If-Match", tag), 400, "malformed")
		if p := a.pointers(); len(p) != 1 || p[0] != c.pointer {
			t.Errorf("%s %s %s: errors at %v, want %s", c.method, c.path, c.body, p, c.pointer)
		}
	}
	for _, body := range []string{`{"user": "practitioner-2", "user": "practitioner-1"}`, `{"user": "practitioner-2"} {}`, `[]`, `{`, ``} {
		a := d.call("POST", p1+"/clients/client-1/grants", body, "Content-Type", "application/json")
		d.refused(a, 400, "malformed")
	}
	d.refused(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2"}`, "Content-Type", "text/plain"), 415, "malformed")
	if n := d.count(`SELECT count(*) FROM changes`); n != 0 {
		t.Errorf("%d changes were made", n)
	}
}

func TestAssignOverHTTP(t *testing.T) {
	d := setup(t)
	const path = p1 + "/clients/client-1/assigned-practitioner"
	a := d.ok(d.call("PUT", path, `{"user": "practitioner-2", "reason": "moved"}`), 200)
	if a.body["revision"] == "" || d.settled.Load() != 1 {
		t.Errorf("%s", a.text)
	}
	if n := d.count(`SELECT count(*) FROM clients WHERE id = 'client-1' AND assigned = 'practitioner-2'`); n != 1 {
		t.Error("not assigned")
	}
	d.ok(d.call("PUT", path, `{"user": null}`), 200)
	d.refused(d.call("PUT", path, `{"user": "practitioner-3"}`), 422, "grantee-not-eligible")
	d.refused(d.as("scheduler-1").call("PUT", path, `{"user": "practitioner-1"}`), 403, "not-allowed")
}

func TestIdsMayHoldAnything(t *testing.T) {
	d := setup(t)
	path := p1 + "/clients/" + url.PathEscape("client / 5%")
	given := d.ok(d.call("POST", path+"/grants", `{"user": "practitioner-2"}`), 201)
	d.ok(d.call("GET", given.Header.Get("Location"), ""), 200)
	d.ok(d.call("GET", path+"/access", ""), 200)
	for _, odd := range []string{"%00", "%ff", "a%0ab", strings.Repeat("x", 129)} {
		d.refused(d.call("GET", p1+"/clients/"+odd+"/access", ""), 404, "not-found")
	}
}
