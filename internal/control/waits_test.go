package control

import (
	"fmt"
	"strings"
	"testing"
)

// takesNothing are routes that do not read, and change no fact.
var takesNothing = map[string]bool{
	"POST /api/v1/practices/{practice}/explain":                true,
	"POST /api/v1/practices/{practice}/settings/difference":    true,
	"POST /portal/v1/session":                                  true,
	"POST /api/v1/practices/{practice}/clients/{client}/merge": true, // never succeeds
}

// Schedule 2: a success is answered only after a wait of its own, also where
// there was nothing left to do: it may repeat a call whose server died between
// its commit and its wait. Every route that changes facts is called here, and
// what can be repeated is.
func TestEverySuccessOfAChangeWaits(t *testing.T) {
	d := setup(t)
	const (
		members = "/api/v1/practices/{practice}/members"
		clients = "/api/v1/practices/{practice}/clients"
		one     = clients + "/{client}"
	)
	called := map[string]bool{}
	// change calls a route that must succeed, and returns its answer. Its address
	// is the document's, and behind # the one that is called.
	change := func(d0 *desk, method, address, body string, headers ...string) answer {
		t.Helper()
		template, path, ok := strings.Cut(address, "#")
		if !ok {
			path = template
		}
		route := method + " " + template
		called[route] = true
		before := d.settled.Load()
		a := d0.call(method, path, body, headers...)
		if a.StatusCode >= 300 {
			t.Fatalf("%s: %d %s", route, a.StatusCode, a.text)
		}
		if d.settled.Load() == before {
			t.Errorf("%s answered %d without a wait: %s", route, a.StatusCode, a.text)
		}
		return a
	}
	twice := func(d0 *desk, method, address, body string) answer {
		t.Helper()
		a := change(d0, method, address, body)
		change(d0, method, address, body)
		return a
	}
	at := func(template, rest string) string { return template + "#" + p1 + rest }

	change(d, "POST", at(members, "/members"), `{"user":"user-9","name":"User Nine","roles":["practitioner"]}`)
	twice(d.as("user-9"), "POST", at(members+"/{user}/accept", "/members/user-9/accept"), "")
	twice(d, "PATCH", at(members+"/{user}", "/members/user-9"), `{"roles":["practitioner","biller"]}`)
	twice(d, "PUT", at(members+"/{user}/full-clinical-access", "/members/user-9/full-clinical-access"), `{"enabled":true}`)
	twice(d, "PUT", at(one+"/assigned-practitioner", "/clients/client-3/assigned-practitioner"), `{"user":"user-9"}`)
	twice(d, "PUT", at(one+"/assigned-practitioner", "/clients/client-3/assigned-practitioner"), `{"user":null}`)
	grant := twice(d, "POST", at(one+"/grants", "/clients/client-1/grants"), `{"user":"practitioner-2"}`).body["id"].(string)
	twice(d, "DELETE", at(one+"/grants/{grant}", "/clients/client-1/grants/"+grant), "")
	for range 2 { // the second saves what stands
		tag := d.ok(d.call("GET", access1, ""), 200).Header.Get("ETag")
		change(d, "PUT", at(one+"/access", "/clients/client-1/access"), `{"grants":[{"user":"practitioner-2"}]}`, "If-Match", tag)
		tag = d.ok(d.call("GET", p1+"/settings", ""), 200).Header.Get("ETag")
		change(d, "PUT", at("/api/v1/practices/{practice}/settings", "/settings"), `{"preset":"seed","overrides":{"hide_unassigned":true}}`, "If-Match", tag)
	}
	twice(d, "POST", at(members+"/{user}/remove", "/members/user-9/remove"), `{"successors":{}}`)

	change(d, "POST", at(clients, "/clients"), `{"id":"client-9","first_name":"Client","last_name":"Nine","email":"client-9@example.com"}`)
	twice(d, "PATCH", at(one, "/clients/client-9"), `{"label":"L"}`)
	twice(d, "POST", at(one+"/archive", "/clients/client-9/archive"), `{}`)
	twice(d, "POST", at(one+"/reactivate", "/clients/client-9/reactivate"), `{"confirm":true}`)
	change(d, "DELETE", at(one, "/clients/client-9"), "")

	d.exec(`UPDATE clients SET email = 'client-1@example.com' WHERE id = 'client-1'`)
	second := `{"practitioner":"practitioner-2","label":"OT","manage":true,"permissions":[],"invite":true}`
	for range 2 {
		change(d, "POST", at(one+"/second-profile", "/clients/client-1/second-profile"), second, "Idempotency-Key", "key-1")
	}
	contact := change(d, "POST", at(one+"/contacts", "/clients/client-2/contacts"), `{"person":{"name":"Contact One"},"relationship":"parent"}`).body["id"].(string)
	code := change(d, "POST", at(one+"/contacts/{contact}/invitation", "/clients/client-2/contacts/"+contact+"/invitation"), "").body["code"]
	for range 2 {
		change(d, "POST", "/portal/v1/invitations/accept", fmt.Sprintf(`{"code":%q}`, code), "Chartgate-Portal-User", "portal-9")
	}
	twice(d, "PUT", at(one+"/contacts/{contact}/portal", "/clients/client-2/contacts/"+contact+"/portal"), `{"enabled":true,"permissions":["view_appointments"]}`)
	twice(d, "PUT", at(one+"/portal-features", "/clients/client-2/portal-features"), `{"features":["messages"]}`)
	twice(d, "PUT", at("/api/v1/practices/{practice}/portal-settings", "/portal-settings"), `{"features":["messages"]}`)
	change(d, "DELETE", at(one+"/contacts/{contact}", "/clients/client-2/contacts/"+contact), "")

	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			if method == "GET" {
				continue
			}
			route := method + " " + path
			if !strings.HasPrefix(path, "/api/v1/policy/") && !takesNothing[route] && !called[route] {
				t.Errorf("%s was not called: does its success wait?", route)
			}
		}
	}
}
