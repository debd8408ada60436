package profiles

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"chartgate/internal/authz"
)

var wanted = SecondProfile{Practitioner: "practitioner-2", Label: "OT", Manage: true, Permissions: []string{"view_appointments"}, Invite: true}

func (b *bench) createSecond(key string) (Workflow, error) {
	return b.CreateSecond(b.t.Context(), admin, "practice-1", "client-1", wanted, Key{Caller: "key:1", Key: key})
}

// states are the steps of a failed call, by their problem.
func states(t *testing.T, err error) []string {
	t.Helper()
	var p *authz.Problem
	if !errors.As(err, &p) {
		t.Fatalf("got %v", err)
	}
	steps, _ := p.Extra["steps"].([]Step)
	list := []string{}
	for _, s := range steps {
		list = append(list, s.Name+" "+s.State)
		if (s.At == nil) != (s.State == "waiting") {
			t.Errorf("step %+v", s)
		}
	}
	return list
}

func TestRule131_151_TheWholeWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, who := range []string{"practitioner-1", "practitioner-2", "practitioner-full", "scheduler-1"} {
		b.unchanged(0, func() {
			_, err := b.CreateSecond(t.Context(), user(who), "practice-1", "client-1", wanted, Key{"key:1", "one"})
			if want := map[bool]string{true: "not-found", false: "not-allowed"}[who == "practitioner-2"]; want != "" {
				problem(t, err, want)
			}
		})
	}
	w, err := b.createSecond("one")
	must(t, w, err)
	if w.Profile.FirstName != "Client" || w.Profile.LastName != "One" || w.Profile.Label != "OT" || w.Profile.Details.Email != "" ||
		w.Profile.Details.Assigned != "practitioner-2" || w.Profile.Details.Primary != "client-1" {
		t.Errorf("profile %+v %+v", w.Profile, w.Profile.Details)
	}
	if w.Contact.Name != "Client One" || w.Contact.Relationship != "self" || !w.Contact.Portal.Enabled ||
		!slices.Equal(w.Contact.Portal.Permissions, []string{"view_appointments"}) || w.Contact.Portal.InvitedAt == nil || w.Contact.Portal.AcceptedAt != nil {
		t.Errorf("contact %+v", w.Contact)
	}
	second := w.Profile.ID
	for _, action := range []string{"chart.open", "demographics.write", "portal.permit", "appointment.manage", "document.send"} {
		b.staff("practitioner-2", action, second, "assigned")
		b.staff("practitioner-2", action, "client-1", "no_basis")
		b.staff("practitioner-1", action, "client-1", "assigned")
		b.staff("practitioner-1", action, second, "no_basis")
	}
	for _, client := range []string{"client-1", second} {
		b.staff("admin-1", "chart.open", client, "administrator")
		b.staff("practitioner-full", "chart.open", client, "full_clinical_access")
	}
	// Each step is on record, under one correlation.
	actions := b.texts(`SELECT action FROM changes WHERE correlation = $1 ORDER BY id`, w.Correlation)
	if !slices.Equal(actions, []string{"client.create", "contact.link_self", "portal.permit", "portal.permit", "client.reassign"}) {
		t.Errorf("on record: %v", actions)
	}
	notices := b.texts(`SELECT kind FROM notices WHERE correlation = $1 ORDER BY id`, w.Correlation)
	if !slices.Equal(notices, []string{"link", "invitation", "permission"}) {
		t.Errorf("notices: %v", notices)
	}
	// The second practitioner goes on by himself: he asks for the code, and the
	// client has one login for both.
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	i, err := b.Invite(t.Context(), user("practitioner-2"), "practice-1", second, w.Contact.ID)
	must(t, i, err)
	got, err := b.Accept(t.Context(), portal("portal-1"), i.Code, every)
	must(t, got, err)
	b.enters("portal-1", "client-1", second)
}

func TestRule150_RepeatedAndResumed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	once := func() {
		t.Helper()
		if n := b.count(`SELECT count(*) FROM clients WHERE practice = 'practice-1' AND last_name = 'One'`); n != 2 {
			t.Errorf("there are %d profiles", n)
		}
	}
	// Step two fails: the first profile has no e-mail.
	b.exec(`UPDATE clients SET email = NULL WHERE id = 'client-1'`)
	_, err := b.createSecond("one")
	problem(t, err, "link-refused")
	if got := states(t, err); !slices.Equal(got, []string{"create done", "link failed", "portal waiting", "assign waiting"}) {
		t.Errorf("%v", got)
	}
	b.exec(`UPDATE clients SET email = 'client-1@example.org' WHERE id = 'client-1'`)
	// Step three fails, where a part breaks down.
	b.exec(`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
		CREATE TRIGGER broken BEFORE UPDATE ON portal_access EXECUTE FUNCTION broken()`)
	for range 2 {
		_, err = b.createSecond("one")
		if !errors.Is(err, authz.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		if got := states(t, err); !slices.Equal(got, []string{"create done", "link done", "portal failed", "assign waiting"}) {
			t.Errorf("%v", got)
		}
		once()
	}
	b.exec(`DROP TRIGGER broken ON portal_access`)
	// Step four fails: the practitioner left meanwhile.
	b.exec(`UPDATE members SET status = 'removed' WHERE user_id = 'practitioner-2'`)
	_, err = b.createSecond("one")
	problem(t, err, "grantee-not-eligible")
	if got := states(t, err); !slices.Equal(got, []string{"create done", "link done", "portal done", "assign failed"}) {
		t.Errorf("%v", got)
	}
	b.exec(`UPDATE members SET status = 'active' WHERE user_id = 'practitioner-2'`)
	w, err := b.createSecond("one")
	must(t, w, err)
	once()
	// Repeated, it answers as it did, whatever came after.
	b.permit(w.Profile.ID, w.Contact.ID, false)
	b.unchanged(0, func() {
		again, err := b.createSecond("one")
		if must(t, again, err); !reflect.DeepEqual(again.Steps, w.Steps) || again.Profile.ID != w.Profile.ID || !again.Contact.Portal.Enabled {
			t.Errorf("%+v\n%+v", again, w)
		}
	})
	// The same key for something else is refused, and another key is another call.
	b.unchanged(0, func() {
		other := wanted
		other.Label = "PT"
		_, err := b.CreateSecond(t.Context(), admin, "practice-1", "client-1", other, Key{"key:1", "one"})
		problem(t, err, "key-reused")
	})
	third, err := b.createSecond("two")
	if must(t, third, err); third.Profile.ID == w.Profile.ID {
		t.Error("another key is the same call")
	}
}

func TestTheWorkflowIsRefusedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	b.second("second-1")
	for what, c := range map[string]struct {
		client, problem string
		change          func(*SecondProfile)
	}{
		"no practitioner":           {"client-1", "malformed", func(p *SecondProfile) { p.Practitioner = "" }},
		"no label":                  {"client-1", "malformed", func(p *SecondProfile) { p.Label = " " }},
		"an unknown permission":     {"client-1", "malformed", func(p *SecondProfile) { p.Permissions = []string{"everything"} }},
		"a scheduler":               {"client-1", "grantee-not-eligible", func(p *SecondProfile) { p.Practitioner = "scheduler-1" }},
		"a removed member":          {"client-1", "grantee-not-eligible", func(p *SecondProfile) { p.Practitioner = "removed-1" }},
		"of another practice":       {"client-1", "grantee-not-eligible", func(p *SecondProfile) { p.Practitioner = "practitioner-3" }},
		"a secondary":               {"second-1", "link-refused", func(*SecondProfile) {}},
		"another practice's client": {"client-4", "not-found", func(*SecondProfile) {}},
		"no client":                 {"client-9", "not-found", func(*SecondProfile) {}},
	} {
		b.unchanged(0, func() {
			p := wanted
			c.change(&p)
			_, err := b.CreateSecond(t.Context(), admin, "practice-1", c.client, p, Key{"key:1", what})
			problem(t, err, c.problem)
		})
	}
}

func TestSomebodyElseWasAssignedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
		CREATE TRIGGER broken BEFORE UPDATE ON portal_access EXECUTE FUNCTION broken()`)
	_, err := b.createSecond("one")
	states(t, err)
	b.exec(`DROP TRIGGER broken ON portal_access; UPDATE clients SET assigned = 'practitioner-full' WHERE label = 'OT'`)
	_, err = b.createSecond("one")
	problem(t, err, "assigned-meanwhile")
	// His grant is closed when he is assigned.
	b.exec(`UPDATE clients SET assigned = NULL WHERE label = 'OT';
		INSERT INTO grants (practice, client, user_id, granted_by) SELECT 'practice-1', id, 'practitioner-2', 'admin-1' FROM clients WHERE label = 'OT'`)
	w, err := b.createSecond("one")
	must(t, w, err)
	if n := b.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Errorf("%d grants are left", n)
	}
}
