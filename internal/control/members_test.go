package control

import (
	"reflect"
	"testing"
)

func TestMembersOverHTTP(t *testing.T) {
	d := setup(t)
	all := d.ok(d.call("GET", p1+"/members", ""), 200)
	if list, _ := all.body["members"].([]any); len(list) != 8 {
		t.Errorf("members: %s", all.text)
	}
	invited := d.ok(d.call("POST", p1+"/members", `{"user": "practitioner-9", "name": "Practitioner Nine", "roles": ["practitioner"], "email": "nine@practice.example"}`), 201)
	want := map[string]any{"user": "practitioner-9", "name": "Practitioner Nine", "status": "invited", "roles": []any{"practitioner"},
		"owner": false, "full_clinical_access": false, "billing_enabled": true}
	if !reflect.DeepEqual(invited.body, want) {
		t.Errorf("invited: %s", invited.text)
	}
	member := invited.Header.Get("Location")
	if member != p1+"/members/practitioner-9" {
		t.Errorf("Location: %s", member)
	}
	d.refused(d.call("POST", p1+"/members", `{"user": "practitioner-9", "name": "Nine", "roles": []}`), 409, "id-refused")
	d.refused(d.call("POST", member+"/accept", ""), 403, "not-allowed")
	accepted := d.ok(d.as("practitioner-9").call("POST", member+"/accept", ""), 200)
	if accepted.body["status"] != "active" {
		t.Errorf("accepted: %s", accepted.text)
	}
	d.ok(d.as("practitioner-9").call("POST", member+"/accept", ""), 200)
	if m := d.ok(d.call("PATCH", member, `{"roles": ["biller", "practitioner"], "billing_enabled": false, "reason": "more work"}`), 200); m.body["billing_enabled"] != false ||
		!reflect.DeepEqual(m.body["roles"], []any{"practitioner", "biller"}) {
		t.Errorf("changed: %s", m.text)
	}
	if m := d.ok(d.call("PUT", member+"/full-clinical-access", `{"enabled": true, "reason": "cover"}`), 200); m.body["full_clinical_access"] != true {
		t.Errorf("full clinical access: %s", m.text)
	}
	if m := d.ok(d.call("GET", member, ""), 200); m.body["full_clinical_access"] != true {
		t.Errorf("shown: %s", m.text)
	}
	removed := d.ok(d.call("POST", member+"/remove", ""), 200)
	if removed.body["revision"] != removed.Header.Get("Chartgate-Revision") || removed.body["revision"] == "" {
		t.Errorf("removed: %s", removed.text)
	}
	d.ok(d.call("POST", member+"/remove", `{}`), 200)
	d.refused(d.call("PATCH", member, `{"roles": []}`), 404, "not-found")
	if n := d.settled.Load(); n != 7 {
		t.Errorf("waited %d times, want after each of 7 changes", n)
	}
}

func TestRemoveOverHTTP(t *testing.T) {
	d := setup(t)
	const path = p1 + "/members/practitioner-1/remove"
	a := d.refused(d.call("POST", path, `{"successors": {}}`), 409, "successors-missing")
	if !reflect.DeepEqual(a.body["clients"], []any{"client-1"}) {
		t.Errorf("%s", a.text)
	}
	a = d.refused(d.call("POST", path, `{"successors": {"client-1": "practitioner-3"}}`), 422, "grantee-not-eligible")
	if !reflect.DeepEqual(a.pointers(), []string{"/successors/client-1"}) {
		t.Errorf("%s", a.text)
	}
	d.refused(d.call("POST", p1+"/members/admin-1/remove", `{}`), 409, "owner-stays")
	d.ok(d.call("POST", p1+"/members/admin-3/remove", `{}`), 200)
	d.refused(d.call("PATCH", p1+"/members/admin-1", `{"roles": ["practitioner"]}`), 409, "last-administrator")
	d.ok(d.call("POST", path, `{"successors": {"client-1": "practitioner-2"}, "reason": "left"}`), 200)
	// Rule 57: he may do nothing any more, and learns nothing.
	d.refused(d.as("practitioner-1").call("GET", p1+"/members", ""), 404, "not-found")
	d.refused(d.as("practitioner-1").call("GET", access1, ""), 404, "not-found")
}

func TestRule38_NobodyButAdministratorsAdministers(t *testing.T) {
	d := setup(t)
	for _, actor := range []string{"practitioner-1", "practitioner-full", "scheduler-1"} {
		who := d.as(actor)
		for _, c := range []struct{ method, path, body string }{
			{"GET", "/members", ""},
			{"GET", "/members/nobody", ""}, // as one who exists
			{"GET", "/members/practitioner-2", ""},
			{"POST", "/members", `{"user": "practitioner-9", "name": "Nine", "roles": []}`},
			{"PATCH", "/members/" + actor, `{"roles": ["administrator"]}`},
			{"PUT", "/members/" + actor + "/full-clinical-access", `{"enabled": true}`},
			{"POST", "/members/practitioner-2/remove", `{}`},
			{"GET", "/settings", ""},
			{"PUT", "/settings", `{"preset": "seed", "overrides": {}}`},
		} {
			d.refused(who.call(c.method, p1+c.path, c.body, "If-Match", "*"), 403, "not-allowed")
		}
	}
	if n := d.count(`SELECT count(*) FROM changes`); n != 0 {
		t.Errorf("%d changes were made", n)
	}
}
