package control

import (
	"testing"
)

// Every kind of change leaves who did it, to whom, what it was before and after,
// and why, in the transaction of the change and with the decision that allowed
// it.
func TestRule126_EveryChangeIsOnRecord(t *testing.T) {
	d := setup(t)
	d.exec(`UPDATE practices SET overrides = '{"grant_requires_reason": true}' WHERE id = 'practice-1'`)
	type entry struct {
		action, target, client, reason string
		before, after                  string // as text; "" for none
	}
	grantID := ""
	for _, c := range []struct {
		name         string
		actor        string
		method, path string
		body         string
		want         []entry
	}{
		{"give", "admin-1", "POST", "/clients/client-1/grants", `{"user": "practitioner-2", "scope": "view", "reason": "cover"}`,
			[]entry{{"access.manage", "practitioner-2", "client-1", "cover", "", "view"}}},
		{"save", "admin-1", "PUT", "/clients/client-1/access", `{"grants": [{"user": "practitioner-2", "scope": "collaborate", "reason": "more work"}]}`,
			[]entry{{"access.manage", "practitioner-2", "client-1", "", "view", "replaced"},
				{"access.manage", "practitioner-2", "client-1", "more work", "", "collaborate"}}},
		{"revoke", "admin-1", "DELETE", "/clients/client-1/grants/{grant}?reason=done", ``,
			[]entry{{"access.manage", "practitioner-2", "client-1", "done", "collaborate", "revoked"}}},
		{"reassign", "admin-1", "PUT", "/clients/client-1/assigned-practitioner", `{"user": "practitioner-2", "reason": "moved"}`,
			[]entry{{"client.reassign", "practitioner-2", "client-1", "moved", "practitioner-1", "practitioner-2"}}},
		{"full clinical access", "admin-1", "PUT", "/members/practitioner-1/full-clinical-access", `{"enabled": true, "reason": "lead"}`,
			[]entry{{"member.full_clinical_access", "practitioner-1", "", "lead", "false", "true"}}},
		{"roles", "admin-1", "PATCH", "/members/practitioner-1", `{"roles": ["scheduler"], "reason": "front desk"}`,
			[]entry{{"member.roles", "practitioner-1", "", "front desk", "practitioner", "scheduler"}}},
		{"settings", "admin-1", "PUT", "/settings", `{"preset": "help-centre", "overrides": {}}`,
			[]entry{{"settings.manage", "", "", "", "grant_requires_reason", "help-centre"}}},
		{"invite", "admin-1", "POST", "/members", `{"user": "practitioner-9", "name": "Practitioner Nine", "roles": ["practitioner"]}`,
			[]entry{{"member.invite", "practitioner-9", "", "", "", "invited"}}},
		{"accept", "practitioner-9", "POST", "/members/practitioner-9/accept", ``,
			[]entry{{"member.accept", "practitioner-9", "", "", "invited", "active"}}},
		{"remove", "admin-1", "POST", "/members/practitioner-9/remove", `{"reason": "left"}`,
			[]entry{{"member.remove", "practitioner-9", "", "left", "active", "removed"}}},
	} {
		path := c.path
		if path == "/clients/client-1/grants/{grant}?reason=done" {
			path = "/clients/client-1/grants/" + grantID + "?reason=done"
		}
		from := d.count(`SELECT coalesce(max(id), 0) FROM changes`)
		a := d.as(c.actor).call(c.method, p1+path, c.body, "If-Match", "*")
		if a.StatusCode >= 300 {
			t.Fatalf("%s: %d %s", c.name, a.StatusCode, a.text)
		}
		if n := d.count(`SELECT count(*) FROM changes WHERE id > $1`, from); n != len(c.want) {
			t.Errorf("%s: %d entries, want %d", c.name, n, len(c.want))
		}
		for _, e := range c.want {
			n := d.count(`SELECT count(*) FROM changes WHERE id > $1 AND practice = 'practice-1' AND actor = $2 AND action = $3
				AND coalesce(target, '') = $4 AND coalesce(client, '') = $5 AND reason = $6
				AND CASE WHEN $7 = '' THEN before IS NULL ELSE position($7 IN before::text) > 0 END AND position($8 IN after::text) > 0`,
				from, c.actor, e.action, e.target, e.client, e.reason, e.before, e.after)
			if n != 1 {
				t.Errorf("%s: no entry %+v", c.name, e)
			}
		}
		if n := d.count(`SELECT count(*) FROM changes c LEFT JOIN decisions d ON d.id = c.decision AND d.allow AND d.subject_id = c.actor AND d.action = $2
			WHERE c.id > $1 AND (d.id IS NULL) <> (c.action = 'member.accept')`, from, c.want[0].action); n != 0 {
			t.Errorf("%s: %d entries without the decision that allowed them", c.name, n)
		}
		if m := d.call("GET", access1, "").member("practitioner-2"); m["grant"] != nil {
			grantID = m["grant"].(map[string]any)["id"].(string)
		}
	}
	if n := d.count(`SELECT count(*) FROM changes WHERE concat(before, after) LIKE '%Practitioner%' OR concat(before, after) LIKE '%cover%'`); n != 0 {
		t.Error("a name or free text stands in before or after")
	}
}
