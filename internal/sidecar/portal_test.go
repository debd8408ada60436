package sidecar

import (
	"fmt"
	"testing"
)

// family is one person with two profiles and one login.
const family = `
INSERT INTO portal_access (practice, client, contact, relationship, login, enabled, permissions) VALUES
  ('practice-1', 'client-1', 'client', NULL, 'portal-1', true, '{}'),
  ('practice-1', 'client-2', 'contact-1', 'self', 'portal-1', true, '{view_appointments}'),
  ('practice-1', 'client-2', 'contact-2', 'parent', 'parent-1', false, '{view_appointments}')`

// portalQuestion asks for a login, in the profile that it entered.
func portalQuestion(login, action, client, entered string) string {
	context := ""
	if entered != "" {
		context = fmt.Sprintf(`,"context":{"portal_profile":%q}`, entered)
	}
	resource := fmt.Sprintf(`{"type":"client","id":%q}`, client)
	if action == "portal.documents.view" {
		resource = fmt.Sprintf(`{"type":"document","id":"form-1","properties":{"client":%q,"kind":"intake","recipient":"contact-1"}}`, client)
	}
	return fmt.Sprintf(`{"subject":{"type":"portal_user","id":%q},"action":{"name":%q},"resource":%s%s}`, login, action, resource, context)
}

// The services behind the portal ask the sidecar; the profile that was entered
// is in the context of what they ask (DOMAIN rule 142). To a login that may not
// enter a profile, it looks as if there were none (promise P8).
func TestPortalQuestions(t *testing.T) {
	r := onPostgres(t)
	if _, err := r.owner.Exec(t.Context(), family); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ login, action, client, entered, want string }{
		{"portal-1", "portal.profile.enter", "client-1", "", "allow portal_own"},
		{"portal-1", "portal.profile.enter", "client-2", "client-1", "allow portal_access"},
		{"portal-1", "portal.appointments.view", "client-2", "client-2", "allow portal_access"},
		{"portal-1", "portal.appointments.view", "client-2", "client-1", "deny other_profile"},
		{"portal-1", "portal.appointments.view", "client-2", "", "deny other_profile"},
		{"portal-1", "portal.information.manage", "client-2", "client-2", "deny permission"},
		{"portal-1", "portal.information.manage", "client-1", "client-1", "allow portal_own"},
		{"portal-1", "portal.documents.view", "client-2", "client-2", "allow portal_access"},
		{"portal-1", "portal.documents.view", "client-1", "client-1", "deny permission"},
		{"portal-1", "chart.open", "client-1", "client-1", "deny no_basis"},
		{"parent-1", "portal.profile.enter", "client-2", "", "deny no_basis"}, // exactly: portal_off
		{"parent-1", "portal.appointments.view", "client-1", "client-2", "deny no_basis"},
		{"nobody", "portal.appointments.view", "client-2", "client-2", "deny no_basis"},
		{"nobody", "portal.appointments.view", "client-9", "client-9", "deny no_basis"}, // there is none
	} {
		question := portalQuestion(c.login, c.action, c.client, c.entered)
		if got := r.asCode(t, question); got != c.want {
			t.Errorf("%s: %s, want %s", question, got, c.want)
		}
		result := r.do(t, "POST", "/v1/data/authz/allow", `{"input":`+question+`}`).object(t)["result"]
		if result != (c.want[:5] == "allow") {
			t.Errorf("OPA, %s: %v", question, result)
		}
	}
}
