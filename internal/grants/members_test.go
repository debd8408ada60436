package grants

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
)

func (b *bench) member(user string) Member {
	b.t.Helper()
	m, err := b.Member(b.t.Context(), admin, "practice-1", user)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func TestMembersAreListedByUser(t *testing.T) {
	b := setup(t)
	members, err := b.Members(t.Context(), admin, "practice-1")
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, m := range members {
		users = append(users, m.User)
	}
	if !slices.IsSorted(users) || len(users) != 10 || slices.Contains(users, "practitioner-3") {
		t.Errorf("members: %v", users)
	}
	if _, err = b.Members(t.Context(), user("practitioner-1"), "practice-1"); err == nil {
		t.Error("a practitioner lists members")
	}
	_, err = b.Member(t.Context(), admin, "practice-1", "practitioner-3")
	problem(t, err, "not-found")
}

func TestRule59_InviteAndAccept(t *testing.T) {
	b := setup(t)
	m, err := b.Invite(t.Context(), admin, "practice-1", Invitation{User: "practitioner-9", Name: "Practitioner Nine", Email: "nine@practice.example",
		Roles: []string{"scheduler", "practitioner", "scheduler"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Member{User: "practitioner-9", Name: "Practitioner Nine", Status: "invited", Roles: []string{"practitioner", "scheduler"},
		BillingEnabled: true, membership: m.membership}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("invited: %+v", m)
	}
	if c := b.lastChange(); c.Action != "member.invite" || c.Target != "practitioner-9" || c.Before != nil || c.After["status"] != "invited" || c.Decision == nil {
		t.Errorf("record: %+v", c)
	}
	if n := b.count(`SELECT count(*) FROM changes WHERE changes::text ILIKE '%nine%' AND changes::text ILIKE '%practice.example%'`); n != 0 {
		t.Error("a name or e-mail is on record")
	}
	// Rule 59.
	b.exec(`UPDATE clients SET assigned = 'practitioner-9' WHERE id = 'client-3'`)
	b.opens("practitioner-9", "client-3")

	for who, want := range map[string]string{"admin-1": "not-allowed", "practitioner-1": "not-allowed", "admin-2": "not-found", "nobody": "not-found"} {
		b.unchanged(func() {
			_, err := b.Accept(t.Context(), user(who), "practice-1", "practitioner-9")
			problem(t, err, want)
		})
	}
	_, err = b.Accept(t.Context(), authz.Subject{Type: authz.SubjectPortal, ID: "practitioner-9"}, "practice-1", "practitioner-9")
	problem(t, err, "not-found")
	if m, err = b.Accept(t.Context(), user("practitioner-9"), "practice-1", "practitioner-9"); err != nil || m.Status != "active" {
		t.Fatalf("accept: %+v, %v", m, err)
	}
	if c := b.lastChange(); c.Action != "member.accept" || c.Actor != "practitioner-9" || c.Before["status"] != "invited" || c.After["status"] != "active" {
		t.Errorf("record: %+v", c)
	}
	b.opens("practitioner-9", "client-3", "assigned")
	b.unchanged(func() {
		if _, err = b.Accept(t.Context(), user("practitioner-9"), "practice-1", "practitioner-9"); err != nil {
			t.Errorf("accepted twice: %v", err)
		}
		for _, who := range []string{"removed-1", "nobody", "practitioner-3"} {
			_, err = b.Accept(t.Context(), user(who), "practice-1", who)
			problem(t, err, "not-found")
		}
	})
}

func TestInviteRefuses(t *testing.T) {
	b := setup(t)
	good := Invitation{User: "practitioner-9", Name: "Practitioner Nine", Roles: []string{"practitioner"}}
	edit := func(f func(i *Invitation)) Invitation { i := good; f(&i); return i }
	for pointer, i := range map[string]Invitation{
		"/user":    edit(func(i *Invitation) { i.User = "a\tb" }),
		"/name":    edit(func(i *Invitation) { i.Name = " " }),
		"/email":   edit(func(i *Invitation) { i.Email = "nobody" }),
		"/roles/1": edit(func(i *Invitation) { i.Roles = []string{"practitioner", "owner"} }),
	} {
		b.unchanged(func() {
			_, err := b.Invite(t.Context(), admin, "practice-1", i)
			if p := problem(t, err, "malformed"); len(p.Fields) != 1 || p.Fields[0].Pointer != pointer {
				t.Errorf("%s: %+v", pointer, p)
			}
		})
	}
	for _, user := range []string{"practitioner-1", "invited-1"} {
		b.unchanged(func() {
			_, err := b.Invite(t.Context(), admin, "practice-1", edit(func(i *Invitation) { i.User = user }))
			problem(t, err, "id-refused")
		})
	}
	b.unchanged(func() {
		_, err := b.Invite(t.Context(), user("practitioner-1"), "practice-1", good)
		problem(t, err, "not-allowed")
		_, err = b.Invite(t.Context(), admin, "practice-2", good)
		problem(t, err, "not-found")
		_, err = b.Invite(t.Context(), admin, "practice-none", good)
		problem(t, err, "not-found")
	})
}

func TestRule57_58_NothingRevivesAfterAReinvitation(t *testing.T) {
	b := setup(t)
	b.give("client-2", Terms{User: "practitioner-1"})
	b.give("client-3", Terms{User: "practitioner-1", NotBefore: inDays(3)})
	b.exec(`UPDATE members SET billing_enabled = false, full_clinical_access = true WHERE user_id = 'practitioner-1'`)
	before := b.member("practitioner-1")
	if err := b.Remove(t.Context(), admin, "practice-1", "practitioner-1", map[string]string{"client-1": "practitioner-2"}, "left"); err != nil {
		t.Fatal(err)
	}
	// Rule 57, whatever names him: raw SQL past every rule.
	b.exec(`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-3', 'practitioner-1', 'admin-1')`)
	b.exec(`UPDATE clients SET assigned = 'practitioner-1' WHERE id = 'client-old'`)
	b.opens("practitioner-1", "client-3")
	b.opens("practitioner-1", "client-old")

	m, err := b.Invite(t.Context(), admin, "practice-1", Invitation{User: "practitioner-1", Name: "Practitioner One", Roles: []string{"practitioner"}})
	if err != nil {
		t.Fatal(err)
	}
	if m.membership == before.membership || m.FullClinicalAccess || m.Owner || !m.BillingEnabled || m.Status != "invited" {
		t.Errorf("invited again: %+v", m)
	}
	if _, err := b.Accept(t.Context(), user("practitioner-1"), "practice-1", "practitioner-1"); err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{"client-1", "client-2", "client-3", "client-old"} {
		b.opens("practitioner-1", client)
	}
	if n := b.count(`SELECT count(*) FROM grants WHERE user_id = 'practitioner-1'`); n != 0 {
		t.Errorf("%d grants of the former membership stand", n)
	}
}

func TestRule38_39_40_FullClinicalAccess(t *testing.T) {
	b := setup(t)
	set := func(actor authz.Subject, who string, on bool) error {
		_, err := b.SetFullClinicalAccess(t.Context(), actor, "practice-1", who, on, "cover")
		return err
	}
	for _, actor := range []string{"practitioner-1", "practitioner-full", "scheduler-1"} {
		b.unchanged(func() { problem(t, set(user(actor), actor, true), "not-allowed") })
	}
	b.unchanged(func() {
		problem(t, set(user("admin-2"), "practitioner-1", true), "not-found")
		problem(t, set(admin, "removed-1", true), "not-found")
		problem(t, set(admin, "practitioner-3", true), "not-found")
	})
	if err := set(admin, "practitioner-2", true); err != nil {
		t.Fatal(err)
	}
	if c := b.lastChange(); c.Action != "member.full_clinical_access" || c.Before["full_clinical_access"] != false ||
		c.After["full_clinical_access"] != true || c.Reason != "cover" || len(c.After) != 1 {
		t.Errorf("record: %+v", c)
	}
	b.opens("practitioner-2", "client-1", "full_clinical_access")
	b.unchanged(func() {
		if err := set(admin, "practitioner-2", true); err != nil {
			t.Error(err)
		}
	})
	// Rule 40: the flag waits for the role.
	if err := set(admin, "scheduler-1", true); err != nil {
		t.Fatal(err)
	}
	b.opens("scheduler-1", "client-1")
	if _, err := b.ChangeMember(t.Context(), admin, "practice-1", "scheduler-1", MemberChange{Roles: []string{"scheduler", "practitioner"}}); err != nil {
		t.Fatal(err)
	}
	b.opens("scheduler-1", "client-1", "full_clinical_access")
	// Rule 39: his own, of which the other administrators are told, once for each change.
	told := func() int {
		return b.count(`SELECT count(*) FROM notices WHERE kind = 'full_clinical_access'`)
	}
	if n := told(); n != 0 {
		t.Errorf("%d notices of somebody else's full clinical access", n)
	}
	b.exec(`UPDATE members SET roles = '{administrator,practitioner}' WHERE user_id = 'admin-1'`)
	for range 2 {
		if err := set(admin, "admin-1", true); err != nil {
			t.Errorf("his own: %v", err)
		}
	}
	if n := told(); n != b.count(`SELECT count(*) FROM members WHERE practice = 'practice-1' AND 'administrator' = ANY (roles) AND status = 'active'`)-1 || n == 0 {
		t.Errorf("%d administrators were told", n)
	}
	if n := b.count(`SELECT count(*) FROM notices WHERE member = 'admin-1' OR practice <> 'practice-1'`); n != 0 {
		t.Errorf("%d notices to himself, or to another practice", n)
	}
}

func TestRule8_WithoutFullAccessTheGrantStays(t *testing.T) {
	b := setup(t)
	b.give("client-1", Terms{User: "practitioner-full"})
	b.opens("practitioner-full", "client-1", "client_grant", "full_clinical_access")
	if _, err := b.SetFullClinicalAccess(t.Context(), admin, "practice-1", "practitioner-full", false, ""); err != nil {
		t.Fatal(err)
	}
	b.opens("practitioner-full", "client-1", "client_grant")
	b.opens("practitioner-full", "client-3")
}

func TestRule63_ChangeMember(t *testing.T) {
	b := setup(t)
	off := false
	m, err := b.ChangeMember(t.Context(), admin, "practice-1", "practitioner-1", MemberChange{Roles: []string{"scheduler"}, BillingEnabled: &off, Reason: "new work"})
	if err != nil || !slices.Equal(m.Roles, []string{"scheduler"}) || m.BillingEnabled {
		t.Fatalf("changed: %+v, %v", m, err)
	}
	if c := b.lastChange(); c.Action != "member.roles" || !reflect.DeepEqual(c.Before, map[string]any{"roles": []any{"practitioner"}, "billing_enabled": true}) ||
		!reflect.DeepEqual(c.After, map[string]any{"roles": []any{"scheduler"}, "billing_enabled": false}) {
		t.Errorf("record: %+v", c)
	}
	b.opens("practitioner-1", "client-1") // rule 63
	b.unchanged(func() {
		_, err := b.ChangeMember(t.Context(), user("practitioner-2"), "practice-1", "practitioner-2", MemberChange{Roles: []string{"administrator"}})
		problem(t, err, "not-allowed")
		_, err = b.ChangeMember(t.Context(), admin, "practice-1", "removed-1", MemberChange{Roles: []string{"administrator"}})
		problem(t, err, "not-found")
		_, err = b.ChangeMember(t.Context(), admin, "practice-1", "practitioner-2", MemberChange{Reason: strings.Repeat("x", maxReason+1)})
		problem(t, err, "malformed")
	})
}

func TestAnAdministratorStays(t *testing.T) {
	b := setup(t)
	if _, err := b.ChangeMember(t.Context(), admin, "practice-1", "admin-1", MemberChange{Roles: []string{"practitioner"}}); err != nil {
		t.Fatalf("one of two: %v", err)
	}
	owner := user("owner-1")
	b.unchanged(func() {
		_, err := b.ChangeMember(t.Context(), owner, "practice-1", "owner-1", MemberChange{Roles: []string{}})
		problem(t, err, "last-administrator")
	})
	if _, err := b.ChangeMember(t.Context(), owner, "practice-1", "invited-1", MemberChange{Roles: []string{"administrator"}}); err != nil {
		t.Fatal(err)
	}
	b.unchanged(func() { // one who has not accepted does not count
		_, err := b.ChangeMember(t.Context(), owner, "practice-1", "owner-1", MemberChange{Roles: []string{"practitioner"}})
		problem(t, err, "last-administrator")
	})
	if _, err := b.Accept(t.Context(), user("invited-1"), "practice-1", "invited-1"); err != nil {
		t.Fatal(err)
	}
	b.unchanged(func() {
		_, err := b.ChangeMember(t.Context(), owner, "practice-1", "owner-1", MemberChange{Roles: []string{"practitioner"}})
		problem(t, err, "owner-stays")
	})
	b.exec(`UPDATE members SET owner = false WHERE user_id = 'owner-1'`)
	if err := b.Remove(t.Context(), owner, "practice-1", "owner-1", nil, ""); err != nil {
		t.Fatalf("himself, one of two: %v", err)
	}
	b.unchanged(func() {
		problem(t, b.Remove(t.Context(), user("invited-1"), "practice-1", "invited-1", nil, ""), "last-administrator")
	})
}

func TestRule60_TheOwnerCannotBeRemoved(t *testing.T) {
	b := setup(t)
	b.unchanged(func() {
		problem(t, b.Remove(t.Context(), admin, "practice-1", "owner-1", nil, ""), "owner-stays")
		problem(t, b.Remove(t.Context(), user("practitioner-1"), "practice-1", "practitioner-2", nil, ""), "not-allowed")
		problem(t, b.Remove(t.Context(), admin, "practice-1", "practitioner-3", nil, ""), "not-found")
	})
}

func TestRule61_RemovalNeedsASuccessorForEachActiveClient(t *testing.T) {
	b := setup(t)
	b.exec(`UPDATE clients SET assigned = 'practitioner-1' WHERE id = 'client-3'`)
	b.give("client-2", Terms{User: "practitioner-1"})
	b.give("client-3", Terms{User: "practitioner-2"}) // superseded when he becomes its practitioner
	b.give("client-3", Terms{User: "user-both"})
	remove := func(successors map[string]string) error {
		return b.Remove(t.Context(), admin, "practice-1", "practitioner-1", successors, "left")
	}
	b.unchanged(func() {
		p := problem(t, remove(map[string]string{"client-3": "practitioner-2"}), "successors-missing")
		if !reflect.DeepEqual(p.Extra["clients"], []string{"client-1"}) {
			t.Errorf("clients: %v", p.Extra)
		}
		for _, bad := range []string{"scheduler-1", "invited-1", "removed-1", "practitioner-3", "nobody", "practitioner-1", "admin-1"} {
			p := problem(t, remove(map[string]string{"client-1": "practitioner-2", "client-3": bad}), "grantee-not-eligible")
			if len(p.Fields) != 1 || p.Fields[0].Pointer != "/successors/client-3" {
				t.Errorf("%s: %+v", bad, p)
			}
		}
		both := map[string]string{"client-1": "practitioner-2", "client-3": "practitioner-2"}
		for _, odd := range []string{"client-2", "client-old", "client-4", "a/b"} {
			both[odd] = "practitioner-2"
			problem(t, remove(both), "malformed")
			delete(both, odd)
		}
	})
	if err := remove(map[string]string{"client-1": "practitioner-2", "client-3": "practitioner-2"}); err != nil {
		t.Fatal(err)
	}
	b.opens("practitioner-2", "client-1", "assigned")
	b.opens("practitioner-2", "client-3", "assigned")
	b.opens("user-both", "client-3", "client_grant")
	if n := b.count(`SELECT count(*) FROM clients WHERE id = 'client-old' AND assigned IS NULL`); n != 1 {
		t.Error("the archived client is not left unassigned")
	}
	if m := b.member("practitioner-1"); m.Status != "removed" {
		t.Errorf("member: %+v", m)
	}
	for _, client := range []string{"client-1", "client-2", "client-3", "client-old"} {
		b.opens("practitioner-1", client)
	}
	// Rule 126: what went with him is on record, each with its client.
	for sql, want := range map[string]int{
		`SELECT count(*) FROM changes WHERE action = 'client.reassign' AND before ->> 'assigned' = 'practitioner-1' AND reason = 'left'`: 3,
		`SELECT count(*) FROM changes WHERE client = 'client-2' AND target = 'practitioner-1' AND after ->> 'closed' = 'member_removed'`: 1,
		`SELECT count(*) FROM changes WHERE client = 'client-3' AND target = 'practitioner-2' AND after ->> 'closed' = 'superseded'`:     1,
		`SELECT count(*) FROM changes WHERE action = 'member.remove' AND target = 'practitioner-1' AND after ->> 'status' = 'removed'`:   1,
	} {
		if n := b.count(sql); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
	b.unchanged(func() {
		if err := remove(nil); err != nil {
			t.Errorf("removed twice: %v", err)
		}
	})
}
