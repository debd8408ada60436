package control

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"chartgate/internal/web"
)

const (
	clients = p1 + "/clients"
	second  = `{"practitioner": "practitioner-2", "label": "OT", "manage": true, "permissions": ["view_appointments"], "invite": true}`
)

// family gives client-1 an e-mail, on which a portal login can rest.
func family(t *testing.T) *desk {
	d := setup(t)
	d.exec(`UPDATE clients SET email = 'client-1@example.org' WHERE id = 'client-1'`)
	return d
}

// portal is the same desk, asked for a portal login.
func (d *desk) portal(login, method, path, body string, headers ...string) answer {
	d.t.Helper()
	return d.as("").call(method, "/portal/v1"+path, body, append(headers, "Chartgate-Portal-User", login)...)
}

func TestClientsOverHTTP(t *testing.T) {
	d := family(t)
	made := d.ok(d.call("POST", clients, `{"first_name": "Client", "last_name": "New", "label": "OT", "email": null, "assigned": "practitioner-1"}`), 201)
	id := made.body["id"].(string)
	if made.Header.Get("Location") != clients+"/"+id || made.Header.Get("Chartgate-Revision") == "" || made.body["assigned"] != "practitioner-1" {
		t.Errorf("%v %s", made.Header, made.text)
	}
	if _, there := made.body["email"]; there {
		t.Errorf("an e-mail that is not there: %s", made.text)
	}
	// The same for one who sees the name only: the scheduler.
	seen := d.ok(d.as("scheduler-1").call("GET", clients+"/"+id, ""), 200)
	if len(seen.body) != 5 {
		t.Errorf("%s", seen.text)
	}
	d.refused(d.as("practitioner-2").call("GET", clients+"/"+id, ""), 404, "not-found")
	changed := d.ok(d.call("PATCH", clients+"/"+id, `{"email": "new@example.org", "last_name": "Other"}`), 200)
	if changed.body["email"] != "new@example.org" || changed.body["last_name"] != "Other" || changed.body["label"] != "OT" {
		t.Errorf("%s", changed.text)
	}
	if changed = d.ok(d.call("PATCH", clients+"/"+id, `{"email": null}`), 200); changed.body["email"] != nil {
		t.Errorf("%s", changed.text)
	}
	d.refused(d.call("PATCH", clients+"/"+id, `{"email": 7}`), 400, "malformed")
	d.refused(d.call("PATCH", clients+"/"+id, `{"status": "archived"}`), 400, "malformed")
	a := d.refused(d.call("POST", clients, `{"first_name": "", "last_name": "New"}`), 400, "malformed")
	if got := fmt.Sprint(a.pointers()); got != "[/first_name]" {
		t.Errorf("%s", got)
	}
	for _, body := range []string{`{"first_name": "C", "last_name": "N", "id": ""}`, `{"first_name": "C", "last_name": "N", "assigned": ""}`, `{"first_name": "C"}`} {
		d.refused(d.call("POST", clients, body), 400, "malformed")
	}
	d.refused(d.call("POST", clients, `{"first_name": "C", "last_name": "N", "id": "client-4"}`), 409, "id-refused")
	d.refused(d.call("POST", clients, `{"first_name": "C", "last_name": "N", "email": "CLIENT-1@example.org"}`), 409, "email-refused")
	d.refused(d.call("POST", clients, `{"first_name": "C", "last_name": "N", "assigned": "scheduler-1"}`), 422, "grantee-not-eligible")
	d.refused(d.as("scheduler-1").call("POST", clients, `{"first_name": "C", "last_name": "N"}`), 403, "not-allowed")

	if a := d.ok(d.call("POST", clients+"/"+id+"/archive", ""), 200); a.body["status"] != "archived" {
		t.Errorf("%s", a.text)
	}
	d.refused(d.call("POST", clients+"/"+id+"/reactivate", `{"confirm": false}`), 400, "malformed")
	d.refused(d.call("POST", clients+"/"+id+"/reactivate", `{}`), 400, "malformed")
	if a := d.ok(d.call("POST", clients+"/"+id+"/reactivate", `{"confirm": true}`), 200); a.body["status"] != "active" {
		t.Errorf("%s", a.text)
	}
	d.refused(d.call("POST", clients+"/"+id+"/merge", `{"into": "client-1"}`), 409, "profiles-stay-separate")
	d.refused(d.as("practitioner-2").call("POST", clients+"/"+id+"/merge", ""), 404, "not-found")
	d.ok(d.call("DELETE", clients+"/"+id, ""), 200)
	d.refused(d.call("GET", clients+"/"+id, ""), 404, "not-found")
}

func TestListOfClientsOverHTTP(t *testing.T) {
	d := setup(t)
	ids := func(a answer) string {
		var list []string
		for _, c := range a.body["clients"].([]any) {
			list = append(list, c.(map[string]any)["id"].(string))
		}
		return strings.Join(list, " ")
	}
	first := d.ok(d.call("GET", clients+"?limit=2", ""), 200)
	next, _ := first.body["next"].(string)
	rest := d.ok(d.call("GET", clients+"?limit=200&cursor="+next, ""), 200)
	if got := ids(first) + " " + ids(rest); got != "client / 5% client-1 client-2 client-3" || rest.body["next"] != nil {
		t.Errorf("%s, then %v", got, rest.body["next"])
	}
	if got := ids(d.ok(d.as("practitioner-2").call("GET", clients, ""), 200)); got != "client-2" {
		t.Errorf("%s", got)
	}
	d.refused(d.as("practitioner-2").call("GET", clients+"?cursor="+next, ""), 400, "bad-cursor")
	for _, limit := range []string{"0", "201", "x"} {
		d.refused(d.call("GET", clients+"?limit="+limit, ""), 400, "malformed")
	}
	d.refused(d.as("admin-2").call("GET", clients, ""), 404, "not-found")
	if n := d.count(`SELECT count(*) FROM decisions WHERE subject_id = 'practitioner-2' AND action = 'client.list' AND code = 'listed' AND practice = 'practice-1'`); n != 1 {
		t.Errorf("%d records of what practitioner-2 was shown", n)
	}
}

// The steps of the workflow as single calls, then everything that the portal
// does with them (DOMAIN 0, 3).
func TestProfilesStepByStepOverHTTP(t *testing.T) {
	d := family(t)
	// 1 and 2: the first profile is there; a second one of the same name, without an e-mail.
	other := d.ok(d.call("POST", clients, `{"id": "client-1-ot", "first_name": "Client", "last_name": "One", "label": "OT"}`), 201)
	// 3: the existing contact is found and linked as Self.
	found := d.ok(d.call("GET", p1+"/contacts?search=client-1%40example", ""), 200)
	if got := fmt.Sprint(found.body["contacts"]); got != "[map[client:client-1 name:Client One]]" {
		t.Fatalf("found %s", got)
	}
	link := `{"existing_client": "client-1", "relationship": "self"}`
	contact := d.ok(d.call("POST", clients+"/client-1-ot/contacts", link), 201)
	self := contact.body["id"].(string)
	if again := d.ok(d.call("POST", clients+"/client-1-ot/contacts", link), 200); again.body["id"] != self {
		t.Errorf("another contact: %s", again.text)
	}
	d.refused(d.as("practitioner-1").call("POST", clients+"/client-1/contacts", `{"existing_client": "client-3", "relationship": "self"}`), 403, "not-allowed")
	refused := d.refused(d.call("POST", clients+"/client-1/contacts", `{"existing_client": "client-1-ot", "relationship": "self"}`), 422, "link-refused")
	if got := fmt.Sprint(refused.pointers()); got != "[/existing_client]" {
		t.Errorf("%s", got)
	}
	d.refused(d.call("POST", clients+"/client-1/contacts", `{"relationship": "parent"}`), 400, "malformed")
	d.refused(d.call("POST", clients+"/client-1/contacts", `{"person": {"name": "X", "email": "client-1@example.org"}, "relationship": "parent"}`), 409, "email-refused")
	// 4: invited, switched on, permitted.
	own := d.ok(d.call("POST", clients+"/client-1/contacts/client/invitation", ""), 201)
	invitation := d.ok(d.call("POST", clients+"/client-1-ot/contacts/"+self+"/invitation", ""), 201)
	permitted := d.ok(d.call("PUT", clients+"/client-1-ot/contacts/"+self+"/portal", `{"enabled": true, "permissions": ["view_appointments"]}`), 200)
	if got, _ := json.Marshal(permitted.body["portal"]); !strings.Contains(string(got), `"enabled":true`) || !strings.Contains(string(got), "invited_at") {
		t.Errorf("%s", got)
	}
	// 5: reassigned.
	d.ok(d.call("PUT", clients+"/client-1-ot/assigned-practitioner", `{"user": "practitioner-2"}`), 200)
	if a := d.ok(d.as("practitioner-2").call("GET", clients+"/client-1-ot", ""), 200); a.body["primary"] != "client-1" || a.body["label"] != "OT" {
		t.Errorf("%s %s", a.text, other.text)
	}
	d.refused(d.as("practitioner-2").call("GET", clients+"/client-1", ""), 404, "not-found")

	// The person accepts, and enters one profile after the other.
	code := func(a answer) string { return `{"code": "` + a.body["code"].(string) + `"}` }
	d.refused(d.portal("portal-1", "POST", "/invitations/accept", `{"code": "made up"}`), 404, "not-found")
	d.ok(d.portal("portal-1", "POST", "/invitations/accept", code(own)), 201)
	d.refused(d.portal("portal-2", "POST", "/invitations/accept", code(invitation)), 422, "link-refused")
	if a := d.ok(d.portal("portal-1", "POST", "/invitations/accept", code(invitation)), 201); a.body["client"] != "client-1-ot" {
		t.Errorf("%s", a.text)
	}
	profiles := d.ok(d.portal("portal-1", "GET", "/profiles", ""), 200)
	if got := string(profiles.text); got != `{"profiles":[{"client":"client-1","label":"","self":true},{"client":"client-1-ot","label":"OT","self":true}]}` {
		t.Errorf("%s", got)
	}
	session := d.ok(d.portal("portal-1", "POST", "/session", `{"client": "client-1-ot"}`), 201)
	token := session.body["session"].(string)
	if a := d.ok(d.portal("portal-1", "GET", "/session", "", "Chartgate-Portal-Session", token), 200); a.body["client"] != "client-1-ot" {
		t.Errorf("%s", a.text)
	}
	d.refused(d.portal("portal-2", "GET", "/session", "", "Chartgate-Portal-Session", token), 404, "not-found")
	d.refused(d.portal("portal-2", "POST", "/session", `{"client": "client-1-ot"}`), 404, "not-found")

	// Features of the practice and of the client.
	d.ok(d.call("PUT", clients+"/client-1-ot/portal-features", `{"features": ["messages"]}`), 200)
	d.ok(d.call("PUT", p1+"/portal-settings", `{"features": ["messages", "view_appointments"]}`), 200)
	if a := d.ok(d.call("GET", p1+"/portal-settings", ""), 200); string(a.text) != `{"features":["view_appointments","messages"]}` {
		t.Errorf("%s", a.text)
	}
	d.refused(d.call("PUT", p1+"/portal-settings", `{"features": ["everything"]}`), 400, "malformed")
	d.refused(d.as("practitioner-1").call("GET", p1+"/portal-settings", ""), 403, "not-allowed")

	// Unlinked, the entry is gone at the next request.
	settled := d.settled.Load()
	d.ok(d.call("DELETE", clients+"/client-1-ot/contacts/"+self, ""), 200)
	if d.settled.Load() == settled {
		t.Error("an unlink did not wait until it holds everywhere")
	}
	d.refused(d.portal("portal-1", "GET", "/session", "", "Chartgate-Portal-Session", token), 404, "not-found")
	if a := d.ok(d.portal("portal-1", "GET", "/profiles", ""), 200); strings.Contains(string(a.text), "client-1-ot") {
		t.Errorf("%s", a.text)
	}
	if a := d.ok(d.call("GET", clients+"/client-1-ot/contacts", ""), 200); string(a.text) != `{"contacts":[]}` {
		t.Errorf("%s", a.text)
	}
}

// Rule 150 over HTTP: the same key again is the same answer, byte for byte; a
// failed step says which, and is gone on from.
func TestRule150_SecondProfileOverHTTP(t *testing.T) {
	d := setup(t)
	path := clients + "/client-1/second-profile"
	d.refused(d.call("POST", path, second), 400, "malformed") // no key
	d.refused(d.as("practitioner-1").call("POST", path, second, "Idempotency-Key", "one"), 403, "not-allowed")
	d.refused(d.as("practitioner-2").call("POST", path, second, "Idempotency-Key", "one"), 404, "not-found")
	failed := d.refused(d.call("POST", path, second, "Idempotency-Key", "one"), 422, "link-refused") // no e-mail yet
	var states []string
	for _, s := range failed.body["steps"].([]any) {
		states = append(states, fmt.Sprint(s.(map[string]any)["name"], " ", s.(map[string]any)["state"]))
	}
	if got := strings.Join(states, ", "); got != "create done, link failed, portal waiting, assign waiting" {
		t.Errorf("%s", got)
	}
	d.exec(`UPDATE clients SET email = 'client-1@example.org' WHERE id = 'client-1'`)
	done := d.ok(d.call("POST", path, second, "Idempotency-Key", "one"), 201)
	again := d.ok(d.as("admin-3").call("POST", path, second, "Idempotency-Key", "one"), 201)
	if string(again.text) != string(done.text) {
		t.Errorf("%s\n%s", done.text, again.text)
	}
	if done.body["correlation"] != failed.body["correlation"] || strings.Contains(string(done.text), "code") {
		t.Errorf("%s", done.text)
	}
	if n := d.count(`SELECT count(*) FROM clients WHERE label = 'OT'`); n != 1 {
		t.Errorf("%d second profiles", n)
	}
	d.refused(d.call("POST", path, strings.Replace(second, "OT", "PT", 1), "Idempotency-Key", "one"), 422, "key-reused")
	d.refused(d.call("POST", path, strings.Replace(second, "practitioner-2", "scheduler-1", 1), "Idempotency-Key", "two"), 422, "grantee-not-eligible")
	d.refused(d.call("POST", path, `{"practitioner": "practitioner-2"}`, "Idempotency-Key", "two"), 400, "malformed")
	d.refused(d.call("POST", path, second, "Idempotency-Key", strings.Repeat("x", 256)), 400, "malformed")
	// What was decided on the way, allowed or denied, is on record.
	for action, want := range map[string]int{"profile.create_second": 1, "client.create": 1, "contact.link_self": 1, "portal.permit": 1, "portal.invite": 1, "client.reassign": 1} {
		if n := d.count(`SELECT count(*) FROM decisions WHERE action = $1 AND allow`, action); n < want {
			t.Errorf("%s: %d decisions on record", action, n)
		}
	}
}

// Scopes and practices of callers hold for profiles and for the portal.
func TestCallersOfProfilesAndPortal(t *testing.T) {
	d := family(t)
	with := func(scopes []string, practices ...string) *desk {
		return &desk{Server: d.Server, t: t, db: d.db, actor: "admin-1",
			key: d.makeKey(web.NewKey{Scopes: scopes, Practices: practices, AllPractices: len(practices) == 0})}
	}
	administer, profiles, portal := with([]string{"administer"}), with([]string{"profiles"}), with([]string{"portal"})
	d.refused(administer.call("GET", clients, ""), 403, "not-allowed")
	d.ok(profiles.call("GET", clients, ""), 200)
	d.refused(profiles.call("GET", p1+"/settings", ""), 403, "not-allowed")
	d.ok(administer.call("GET", p1+"/settings", ""), 200)
	d.refused(profiles.portal("portal-1", "GET", "/profiles", ""), 403, "not-allowed")
	d.refused(portal.call("GET", clients, ""), 403, "not-allowed")
	d.ok(portal.portal("portal-1", "GET", "/profiles", ""), 200)
	d.refused(portal.portal("", "GET", "/profiles", ""), 400, "actor-missing")
	d.refused(portal.portal(strings.Repeat("x", 129), "GET", "/profiles", ""), 400, "malformed")

	// A caller of another practice finds neither the code nor the profile.
	i := d.ok(d.call("POST", clients+"/client-1/contacts/client/invitation", ""), 201)
	body := `{"code": "` + i.body["code"].(string) + `"}`
	abroad := with([]string{"portal"}, "practice-2")
	d.refused(abroad.portal("portal-1", "POST", "/invitations/accept", body), 404, "not-found")
	d.ok(with([]string{"portal"}, "practice-1").portal("portal-1", "POST", "/invitations/accept", body), 201)
	if a := d.ok(abroad.portal("portal-1", "GET", "/profiles", ""), 200); string(a.text) != `{"profiles":[]}` {
		t.Errorf("%s", a.text)
	}
	d.refused(abroad.portal("portal-1", "POST", "/session", `{"client": "client-1"}`), 404, "not-found")
	d.refused(portal.portal("portal-1", "POST", "/session", `{"client": "`+strings.Repeat("x", 129)+`"}`), 404, "not-found")

	// Who may not see a client learns nothing of it on any of these routes (promise P8).
	for _, c := range []struct{ method, path, body string }{
		{"GET", "", ""}, {"PATCH", "", `{"label": "X"}`}, {"DELETE", "", ""}, {"POST", "/archive", ""}, {"POST", "/reactivate", `{"confirm": true}`},
		{"POST", "/merge", ""}, {"GET", "/contacts", ""}, {"POST", "/contacts", `{"person": {"name": "X"}, "relationship": "parent"}`},
		{"DELETE", "/contacts/client", ""}, {"POST", "/contacts/client/invitation", ""}, {"PUT", "/contacts/client/portal", `{"enabled": true, "permissions": []}`},
		{"PUT", "/portal-features", `{"features": []}`}, {"POST", "/second-profile", second},
	} {
		for _, actor := range []string{"practitioner-2", "admin-2", "removed-1", "invited-1"} {
			there := d.refused(d.as(actor).call(c.method, clients+"/client-1"+c.path, c.body, "Idempotency-Key", "x"), 404, "not-found")
			none := d.refused(d.as(actor).call(c.method, clients+"/client-x"+c.path, c.body, "Idempotency-Key", "x"), 404, "not-found")
			if strings.ReplaceAll(string(none.text), "client-x", "client-1") != string(there.text) {
				t.Errorf("%s %s: %s can tell", c.method, c.path, actor)
			}
		}
	}
}

// Bytes that are no text do not reach the database.
func TestOddIdempotencyKey(t *testing.T) {
	d := family(t)
	r := httptest.NewRequest("POST", clients+"/client-1/second-profile", strings.NewReader(second))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+d.key)
	r.Header.Set("Chartgate-Actor", "admin-1")
	r.Header.Set("Idempotency-Key", "\xff\xfe")
	response, err := d.App.Test(r, -1)
	if err != nil || response.StatusCode != 400 {
		t.Errorf("%v, %v", response, err)
	}
}
