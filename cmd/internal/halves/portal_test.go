package halves_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/postgres/pgtest"
)

// The demo's person has one login and two profiles. What control changes of
// them, the sidecar answers by at the next request (DOMAIN rule 147).
func TestPortalOfTheDemo(t *testing.T) {
	c := config(t)
	c.RedisURL = pgtest.Redis(t)
	half, err := halves.Sidecar(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	sidecar := serve(t, half)
	if half, err = halves.Control(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	control := serve(t, half)
	views := func(client string) bool {
		t.Helper()
		status, answer := call(t, http.MethodPost, sidecar+"/access/v1/evaluation", `{"subject":{"type":"portal_user","id":"portal-1"},"action":{"name":"portal.appointments.view"},
			"resource":{"type":"client","id":"`+client+`"},"context":{"portal_profile":"`+client+`"}}`)
		var d struct{ Decision bool }
		if err := json.Unmarshal([]byte(answer), &d); err != nil || status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		return d.Decision
	}
	change := func(method, path, body string, want int) {
		t.Helper()
		if status, answer := call(t, method, control+"/api/v1/practices/practice-1"+path, body); status != want {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
	}
	both := func(first, second bool, when string) {
		t.Helper()
		if views("client-1") != first || views("client-1-ot") != second {
			t.Errorf("%s: client-1 %v, client-1-ot %v", when, views("client-1"), views("client-1-ot"))
		}
	}
	both(true, true, "as it is loaded")
	change(http.MethodPut, "/clients/client-1-ot/contacts/contact-1/portal", `{"enabled":true,"permissions":[]}`, 200)
	both(true, false, "without the permission")
	change(http.MethodPut, "/clients/client-1-ot/contacts/contact-1/portal", `{"enabled":true,"permissions":["view_appointments"]}`, 200)
	both(true, true, "with it")
	change(http.MethodPut, "/portal-settings", `{"features":["messages"]}`, 200)
	both(false, false, "the practice does not offer it")
	change(http.MethodPut, "/portal-settings", `{"features":["view_appointments"]}`, 200)
	change(http.MethodPost, "/clients/client-1/archive", "", 200)
	both(false, true, "the first profile is archived")
	change(http.MethodDelete, "/clients/client-1-ot/contacts/contact-1", "", 200)
	both(false, false, "unlinked")
	change(http.MethodPost, "/clients/client-1/reactivate", `{"confirm":true}`, 200)
	both(true, false, "reactivated")
}

// What is wrong with the notices' webhook is told before anything starts.
func TestNoticesThatCannotBeSent(t *testing.T) {
	const secret = "a secret of sixteen"
	for _, c := range []struct{ webhook, secret, want string }{
		{"", "", ""},
		{"https://mail.example.com/notices", secret, ""},
		{"https://mail.example.com/notices", "", "CHARTGATE_NOTICE_SECRET"},
		{"mail.example.com", secret, "--notice-webhook"},
		{"", secret, "--notice-webhook must be set"},
	} {
		faults := halves.Notices{Webhook: c.webhook}.Faults(halves.Secrets{NoticeSecret: c.secret})
		if (c.want == "") != (len(faults) == 0) || len(faults) > 0 && !strings.Contains(faults[0].Error(), c.want) {
			t.Errorf("%q with %q: %v", c.webhook, c.secret, faults)
		}
	}
}
