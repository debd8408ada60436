package profiles

import (
	"fmt"
	"slices"
	"testing"

	"chartgate/internal/authz"
)

func TestCreateAssignsToWhom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct{ who, assigned, want, problem string }{
		{"practitioner-1", "", "practitioner-1", ""},
		{"practitioner-1", "practitioner-1", "practitioner-1", ""},
		{"practitioner-1", "practitioner-2", "", "not-allowed"},
		{"admin-1", "", "", ""},
		{"admin-1", "practitioner-2", "practitioner-2", ""},
		{"admin-practitioner", "", "admin-practitioner", ""},
		{"admin-practitioner", "practitioner-2", "practitioner-2", ""},
		{"admin-1", "scheduler-1", "", "grantee-not-eligible"},
		{"admin-1", "removed-1", "", "grantee-not-eligible"},
		{"admin-1", "practitioner-3", "", "grantee-not-eligible"},
		{"scheduler-1", "", "", "not-allowed"},
		{"biller-1", "", "", "not-allowed"},
		{"removed-1", "", "", "not-found"},
		{"admin-2", "", "", "not-found"},
	} {
		got, err := b.Create(t.Context(), user(c.who), "practice-1", NewClient{FirstName: "Client", LastName: "New", Assigned: c.assigned})
		if c.problem != "" {
			problem(t, err, c.problem)
			continue
		}
		must(t, got, err)
		if assigned := b.texts(`SELECT coalesce(assigned, '') FROM clients WHERE id = $1`, got.ID)[0]; assigned != c.want {
			t.Errorf("%s creates for %q: assigned to %q, want %q", c.who, c.assigned, assigned, c.want)
		}
	}
	// Where the practice lets schedulers create, nobody is assigned, and he sees no details.
	b.exec(`UPDATE practices SET overrides = '{"scheduler_creates_clients": true}'`)
	got, err := b.Create(t.Context(), user("scheduler-1"), "practice-1", NewClient{FirstName: "Client", LastName: "New"})
	if must(t, got, err); got.Details != nil {
		t.Errorf("%+v", got.Details)
	}
}

func TestNewClientsAreHeldToTheirForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for pointer, n := range map[string]NewClient{
		"/id":         {ID: "a\nb", FirstName: "Client", LastName: "New"},
		"/first_name": {FirstName: " ", LastName: "New"},
		"/last_name":  {FirstName: "Client"},
		"/label":      {FirstName: "Client", LastName: "New", Label: "O\u0000T"},
		"/email":      {FirstName: "Client", LastName: "New", Email: "nobody"},
		"/assigned":   {FirstName: "Client", LastName: "New", Assigned: "a\x00"},
	} {
		b.unchanged(0, func() {
			_, err := b.Create(t.Context(), admin, "practice-1", n)
			if p := problem(t, err, "malformed"); len(p.Fields) != 1 || p.Fields[0].Pointer != pointer {
				t.Errorf("%s: %+v", pointer, p)
			}
		})
	}
	// An id that is taken, here or elsewhere, is refused alike (DOMAIN rule 106).
	for _, id := range []string{"client-1", "client-4"} {
		b.unchanged(0, func() {
			_, err := b.Create(t.Context(), admin, "practice-1", NewClient{ID: id, FirstName: "Client", LastName: "New"})
			if p := problem(t, err, "id-refused"); p.Detail != "this id cannot be used" {
				t.Errorf("%s", p.Detail)
			}
		})
	}
}

func TestChangesOfAClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c, err := b.Change(t.Context(), user("practitioner-1"), "practice-1", "client-1", ClientChange{LastName: text("Another"), Label: text("OT"), Email: text("new@example.org")})
	if must(t, c, err); c.LastName != "Another" || c.FirstName != "Client" || c.Label != "OT" || c.Details.Email != "new@example.org" {
		t.Errorf("%+v", c)
	}
	after := b.texts(`SELECT after::text FROM changes ORDER BY id DESC LIMIT 1`)[0]
	if after != `{"changed": ["last_name", "label", "email"]}` {
		t.Errorf("on record: %s", after)
	}
	b.unchanged(0, func() {
		same, err := b.Change(t.Context(), admin, "practice-1", "client-1", ClientChange{LastName: text("Another")})
		must(t, same, err)
		_, err = b.Change(t.Context(), admin, "practice-1", "client-1", ClientChange{FirstName: text("")})
		problem(t, err, "malformed")
		_, err = b.Change(t.Context(), user("biller-1"), "practice-1", "client-1", ClientChange{FirstName: text("X")})
		problem(t, err, "not-allowed")
		_, err = b.Change(t.Context(), user("practitioner-2"), "practice-1", "client-1", ClientChange{FirstName: text("X")})
		problem(t, err, "not-found")
	})
}

func TestWhatMayBeDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, id := range []string{"mistake", "granted", "used", "seen", "spouse-of"} {
		b.client(NewClient{ID: id})
	}
	b.exec(`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'granted', 'practitioner-1', 'admin-1'); DELETE FROM grants`)
	decision := `INSERT INTO decisions (id, at, subject_type, subject_id, action, resource_type, resource_id, client, allow, code, bases, release, body)
		VALUES (gen_random_uuid(), now(), 'user', 'admin-1', $2, 'client', $1, $1, $3, 'x', '{}', 'r', '')`
	b.exec(decision, "used", "chart.open", true)
	b.exec(decision, "seen", "chart.open", false)
	b.exec(decision, "seen", "client.list", true)
	b.link("client-1", NewContact{ExistingClient: "spouse-of", Relationship: "spouse"})
	for id, want := range map[string]string{"granted": "has-records", "used": "has-records", "spouse-of": "has-linked-profiles"} {
		b.unchanged(0, func() { problem(t, b.Delete(t.Context(), admin, "practice-1", id), want) })
	}
	for _, id := range []string{"mistake", "seen"} {
		if err := b.Delete(t.Context(), admin, "practice-1", id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	problem(t, b.Delete(t.Context(), admin, "practice-1", "mistake"), "not-found")
	problem(t, b.Delete(t.Context(), user("practitioner-1"), "practice-1", "client-1"), "not-allowed")
}

// A list is exactly the checks, page by page (promise P4).
func TestTheListIsTheChecks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`INSERT INTO clients (id, practice, assigned, first_name, last_name, status)
		SELECT 'many-' || n, 'practice-1', CASE WHEN n % 7 = 0 THEN 'practitioner-1' END, 'Client', 'Many', CASE WHEN n % 5 = 0 THEN 'archived' ELSE 'active' END FROM generate_series(1, 700) n;
		INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by)
		SELECT 'practice-1', 'many-' || n, 'practitioner-1', now() - interval '2 days', now() + (n % 3 - 1) * interval '1 day', 'admin-1' FROM generate_series(1, 90) n`)
	all := b.texts(`SELECT id::text FROM clients WHERE practice = 'practice-1' ORDER BY id COLLATE "C"`)
	whose := []string{"practitioner-1", "practitioner-2", "admin-1"}
	listed := map[string]bool{}
	for _, who := range whose {
		for _, id := range all {
			listed[who+" "+id] = b.decide(authz.Request{Subject: user(who), Action: "client.list", Resource: authz.Resource{Type: "client", ID: id}}).Allow
		}
	}
	for n, who := range slices.Repeat(whose, 5) {
		limit, from := []int{1, 2, 20, 200}[n%4], (n*271)%len(all)
		clients, next, err := b.Clients(t.Context(), user(who), "practice-1", b.cursor(all[from], "clients", "practice-1", who), limit)
		must(t, clients, err)
		want, more := []string{}, false
		for _, id := range all[from+1:] {
			if listed[who+" "+id] {
				if len(want) == limit {
					more = true
					break
				}
				want = append(want, id)
			}
		}
		got := []string{}
		for _, c := range clients {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, want) || (next != "") != more {
			t.Errorf("%s after %s, %d: got %v and next %q, want %v, more %v", who, all[from], limit, got, next, want, more)
		}
	}
	for _, bad := range []string{"x", b.cursor("client-1", "clients", "practice-2", "admin-1"), b.cursor("client-1", "clients", "practice-1", "admin-9")} {
		_, _, err := b.Clients(t.Context(), admin, "practice-1", bad, 10)
		problem(t, err, "bad-cursor")
	}
	_, _, err := b.Clients(t.Context(), user("admin-2"), "practice-1", "", 10)
	problem(t, err, "not-found")
}

func TestPortalFormIsChecked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.link("client-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"})
	b.unchanged(0, func() {
		_, err := b.Permit(t.Context(), admin, "practice-1", "client-1", k.ID, true, []string{"view_appointments", "everything"})
		if p := problem(t, err, "malformed"); p.Fields[0].Pointer != "/permissions/1" {
			t.Errorf("%+v", p)
		}
		_, err = b.SetFeatures(t.Context(), admin, "practice-1", []string{"everything"})
		problem(t, err, "malformed")
		_, err = b.Narrow(t.Context(), admin, "practice-1", "client-1", []string{"everything"})
		problem(t, err, "malformed")
		for i, n := range []NewContact{{Relationship: "parent"}, {ExistingClient: "client-2", ExistingContact: k.ID, Relationship: "parent"},
			{Person: &Person{Name: "X"}, Relationship: "friend"}, {Person: &Person{}, Relationship: "parent"}, {Person: &Person{Name: "X", Email: "x"}, Relationship: "parent"}} {
			if _, _, err := b.AddContact(t.Context(), admin, "practice-1", "client-1", n); err == nil {
				t.Errorf("%d was taken", i)
			} else {
				problem(t, err, "malformed")
			}
		}
		for _, who := range []string{"practitioner-2", "admin-2"} {
			_, err := b.Permit(t.Context(), user(who), "practice-1", "client-1", k.ID, true, nil)
			problem(t, err, "not-found")
		}
		_, err = b.SetFeatures(t.Context(), user("practitioner-1"), "practice-1", nil)
		problem(t, err, "not-allowed")
		_, err = b.Permit(t.Context(), admin, "practice-1", "client-1", "contact-9", true, nil)
		problem(t, err, "not-found")
		_, err = b.Invite(t.Context(), admin, "practice-1", "client-2", authz.ContactOwn) // no e-mail
		problem(t, err, "link-refused")
		_, err = b.Invite(t.Context(), admin, "practice-1", "client-1", "contact-9")
		problem(t, err, "not-found")
	})
	if got := fmt.Sprint(b.switcher("nobody")); got != "[]" {
		t.Errorf("%s", got)
	}
}
