package profiles

import (
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
)

func TestRule65_149_ArchivedClientsAndTheirPortal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1", Label: "OT", Assigned: "practitioner-2"})
	self := b.second("second-1")
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	b.accepted("second-1", self.ID, "portal-1")
	b.permit("second-1", self.ID, true, "view_appointments")
	b.enters("portal-1", "client-1", "second-1")

	// The secondary is archived and comes back as it was.
	c, err := b.Archive(t.Context(), admin, "practice-1", "second-1")
	if must(t, c, err).Status != "archived" {
		t.Errorf("%+v", c)
	}
	b.enters("portal-1", "client-1")
	b.inPortal("portal-1", "portal.appointments.view", "second-1", "archived")
	b.staff("practitioner-2", "chart.open", "second-1", "assigned")
	b.staff("practitioner-2", "demographics.write", "second-1", "archived")
	_, err = b.Reactivate(t.Context(), admin, "practice-1", "second-1", false)
	problem(t, err, "malformed")
	b.enters("portal-1", "client-1")
	c, err = b.Reactivate(t.Context(), admin, "practice-1", "second-1", true)
	must(t, c, err)
	b.enters("portal-1", "client-1", "second-1")
	b.inPortal("portal-1", "portal.appointments.view", "second-1", "portal_access")

	// The primary is archived: its login still reaches the secondary.
	c, err = b.Archive(t.Context(), admin, "practice-1", "client-1")
	must(t, c, err)
	b.enters("portal-1", "second-1")
	b.inPortal("portal-1", "portal.appointments.view", "second-1", "portal_access")
	b.unchanged(0, func() { problem(t, b.Delete(t.Context(), admin, "practice-1", "client-1"), "has-linked-profiles") })
	if err := b.Unlink(t.Context(), admin, "practice-1", "second-1", self.ID); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), admin, "practice-1", "client-1"); err != nil {
		t.Error(err)
	}
}

func TestRule132to134_EmailsAreUniqueInAPractice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, same := range []string{"client-1@example.org", "CLIENT-1@Example.ORG"} {
		b.unchanged(1, func() {
			_, err := b.Create(t.Context(), admin, "practice-1", NewClient{FirstName: "Client", LastName: "One", Email: same})
			problem(t, err, "email-refused")
		})
	}
	b.link("client-2", NewContact{Person: &Person{Name: "Contact One", Email: "Contact@example.org"}, Relationship: "parent"})
	b.unchanged(1, func() {
		_, err := b.Change(t.Context(), admin, "practice-1", "client-2", ClientChange{Email: text("contact@EXAMPLE.org")})
		problem(t, err, "email-refused")
	})
	b.unchanged(1, func() {
		_, _, err := b.AddContact(t.Context(), admin, "practice-1", "client-2", NewContact{Person: &Person{Name: "Contact Two", Email: "client-1@EXAMPLE.org"}, Relationship: "spouse"})
		problem(t, err, "email-refused")
	})
	for range 3 { // blanks never collide (rule 133)
		b.client(NewClient{FirstName: "Client", LastName: "One"})
		b.client(NewClient{FirstName: "Client", LastName: "One", Email: "  "})
	}
	b.client(NewClient{Email: "client-4@example.org"}) // that of another practice (rule 134)
	// An address that is given up is free.
	c, err := b.Change(t.Context(), admin, "practice-1", "client-1", ClientChange{Email: text("")})
	if must(t, c, err); c.Details.Email != "" {
		t.Errorf("%+v", c.Details)
	}
	b.client(NewClient{Email: "client-1@example.org"})
}

func TestRule135_136_ALinkGivesStaffNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1", Label: "OT", Assigned: "practitioner-2"})
	b.second("second-1")
	for _, action := range []string{"client.list", "chart.open", "demographics.read", "appointment.read", "billing.read", "diagnosis.read"} {
		b.staff("practitioner-1", action, "client-1", "assigned")
		b.staff("practitioner-1", action, "second-1", "no_basis")
		b.staff("practitioner-2", action, "second-1", "assigned")
		b.staff("practitioner-2", action, "client-1", "no_basis")
	}
	for _, client := range []string{"client-1", "second-1"} {
		b.staff("practitioner-full", "chart.open", client, "full_clinical_access")
		b.staff("admin-1", "chart.open", client, "administrator")
	}
	// What shows of the first profile on the second is name and relationship.
	contacts, err := b.Contacts(t.Context(), user("practitioner-2"), "practice-1", "second-1")
	if must(t, contacts, err); len(contacts) != 1 || contacts[0].Name != "Client One" || contacts[0].Relationship != "self" {
		t.Errorf("%+v", contacts)
	}
	_, err = b.Client(t.Context(), user("practitioner-2"), "practice-1", "client-1")
	problem(t, err, "not-found")
	seen, err := b.Client(t.Context(), user("practitioner-2"), "practice-1", "second-1")
	if must(t, seen, err); seen.Details == nil || seen.Details.Primary != "client-1" || seen.Details.Email != "" {
		t.Errorf("%+v", seen.Details)
	}
}

func TestRule137_LinksThatCannotBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1", Label: "OT"})
	b.client(NewClient{ID: "third-1", Label: "PT"})
	b.client(NewClient{ID: "with-email", Email: "own@example.org"})
	b.second("second-1")
	for what, c := range map[string]struct{ client, to string }{
		"another practice":          {"third-1", "client-4"},
		"itself":                    {"client-1", "client-1"},
		"a secondary":               {"third-1", "second-1"},
		"without an e-mail":         {"third-1", "client-2"},
		"the reverse":               {"client-1", "second-1"},
		"a primary as secondary":    {"client-1", "with-email"},
		"a second primary":          {"second-1", "with-email"},
		"with an e-mail of its own": {"with-email", "client-1"},
		"nothing":                   {"third-1", "client-9"},
	} {
		b.unchanged(0, func() {
			_, _, err := b.AddContact(t.Context(), admin, "practice-1", c.client, NewContact{ExistingClient: c.to, Relationship: "self"})
			if p := problem(t, err, "link-refused"); len(p.Fields) != 1 || p.Fields[0].Pointer != "/existing_client" {
				t.Errorf("%s: %+v", what, p)
			}
		})
	}
	for _, n := range []NewContact{
		{Person: &Person{Name: "Contact One"}, Relationship: "self"}, // a stranger as himself
		{ExistingContact: "contact-9", Relationship: "parent"},       // nobody
	} {
		b.unchanged(0, func() {
			_, _, err := b.AddContact(t.Context(), admin, "practice-1", "third-1", n)
			problem(t, err, "link-refused")
		})
	}
	// The same link again changes nothing.
	b.unchanged(0, func() {
		_, created, err := b.AddContact(t.Context(), admin, "practice-1", "second-1", NewContact{ExistingClient: "client-1", Relationship: "self"})
		if err != nil || created {
			t.Errorf("%v, %v", created, err)
		}
	})
	// What the star rests on stays: the primary's e-mail, and none on the second.
	b.unchanged(0, func() {
		_, err := b.Change(t.Context(), admin, "practice-1", "client-1", ClientChange{Email: text("")})
		problem(t, err, "has-linked-profiles")
		_, err = b.Change(t.Context(), admin, "practice-1", "second-1", ClientChange{Email: text("ot@example.org")})
		problem(t, err, "email-refused")
	})
}

func TestRule138_145_WithoutInvitationAndSwitchNothingIsThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1", Label: "OT"})
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	self := b.second("second-1")
	b.permit("second-1", self.ID, true, "view_appointments") // switched on, not invited
	b.enters("portal-1", "client-1")
	b.inPortal("portal-1", "portal.profile.enter", "second-1", "no_basis")
	b.permit("second-1", self.ID, false)
	b.accepted("second-1", self.ID, "portal-1") // invited, not switched on
	b.enters("portal-1", "client-1")
	b.inPortal("portal-1", "portal.profile.enter", "second-1", "portal_off")
	b.permit("second-1", self.ID, true)
	b.enters("portal-1", "client-1", "second-1")
	entries, err := b.Profiles(t.Context(), portal("portal-1"), every)
	if must(t, entries, err); !slices.Equal(entries, []Entry{{Client: "client-1", Self: true}, {Client: "second-1", Label: "OT", Self: true}}) {
		t.Errorf("%+v", entries)
	}
}

func TestRule139to141_SwitchFeatureNarrowingAndPermission(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1", Label: "OT"})
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	self := b.second("second-1")
	b.accepted("second-1", self.ID, "portal-1")
	const view, book, information = "portal.appointments.view", "portal.appointments.request", "portal.information.manage"
	ask := func(wants ...string) {
		t.Helper()
		for i, action := range []string{"portal.profile.enter", view, book, information} {
			b.inPortal("portal-1", action, "second-1", wants[i])
		}
	}
	const yes, no = "portal_access", "permission"
	b.permit("second-1", self.ID, true)
	ask(yes, no, no, no)
	b.permit("second-1", self.ID, true, "view_appointments")
	ask(yes, yes, no, no)
	b.permit("second-1", self.ID, true, "manage_information")
	ask(yes, no, no, yes)
	b.permit("second-1", self.ID, true, "online_booking")
	ask(yes, no, no, no)
	b.permit("second-1", self.ID, true, "view_appointments", "online_booking")
	ask(yes, yes, yes, no)
	features, err := b.Narrow(t.Context(), admin, "practice-1", "second-1", []string{"view_appointments"})
	must(t, features, err)
	ask(yes, yes, no, no)
	features, err = b.Narrow(t.Context(), admin, "practice-1", "second-1", authz.PortalFeatures)
	must(t, features, err)
	ask(yes, yes, yes, no)
	features, err = b.SetFeatures(t.Context(), admin, "practice-1", []string{"online_booking", "messages"})
	must(t, features, err)
	ask(yes, no, no, no)
	if features, err = b.Features(t.Context(), admin, "practice-1"); !slices.Equal(features, []string{"online_booking", "messages"}) {
		t.Errorf("%v, %v", features, err)
	}
	b.inPortal("portal-1", "portal.messages.send", "client-1", "portal_own")
	b.permit("second-1", self.ID, false, "view_appointments")
	ask("portal_off", "portal_off", "portal_off", "portal_off")
}

func TestRule142_OneProfileAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	self := b.second("second-1")
	b.accepted("second-1", self.ID, "portal-1")
	b.permit("second-1", self.ID, true, "view_appointments")
	r := authz.Request{Subject: portal("portal-1"), Action: "portal.appointments.view", Resource: authz.Resource{Type: "client", ID: "second-1"}, Context: authz.Context{PortalProfile: "client-1"}}
	if d := b.decide(r); d.Code != "other_profile" {
		t.Errorf("%+v", d)
	}
	session, err := b.Enter(t.Context(), portal("portal-1"), "second-1", every)
	must(t, session, err)
	entered, err := b.Entered(t.Context(), portal("portal-1"), session.Token, every)
	if must(t, entered, err); entered.Client != "second-1" || !entered.ExpiresAt.Equal(session.ExpiresAt) {
		t.Errorf("%+v", entered)
	}
	r.Context.PortalProfile = entered.Client
	if d := b.decide(r); d.Code != "portal_access" {
		t.Errorf("%+v", d)
	}
	// A session is its login's alone, cannot be made up, and ends with the access.
	for _, bad := range []string{"", "x", session.Token[1:], strings.ToUpper(session.Token), session.Token + "AA"} {
		_, err := b.Entered(t.Context(), portal("portal-1"), bad, every)
		problem(t, err, "not-found")
	}
	_, err = b.Entered(t.Context(), portal("portal-2"), session.Token, every)
	problem(t, err, "not-found")
	b.permit("second-1", self.ID, false)
	_, err = b.Entered(t.Context(), portal("portal-1"), session.Token, every)
	problem(t, err, "not-found")
	_, err = b.Enter(t.Context(), portal("portal-1"), "second-1", every)
	problem(t, err, "not-found")
	_, err = b.Enter(t.Context(), portal("portal-1"), "client-9", every)
	problem(t, err, "not-found")
}

func TestRule143_144_ContactsOfOneProfileHaveNothingOnTheOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	b.second("second-1")
	spouse := b.link("client-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "spouse"})
	guardian := b.link("second-1", NewContact{Person: &Person{Name: "Contact Two"}, Relationship: "guardian"})
	for _, k := range []struct{ client, contact, login string }{{"client-1", spouse.ID, "spouse-1"}, {"second-1", guardian.ID, "guardian-1"}} {
		b.accepted(k.client, k.contact, k.login)
		b.permit(k.client, k.contact, true, authz.PortalPermissions...)
	}
	b.enters("spouse-1", "client-1")
	b.enters("guardian-1", "second-1")
	b.inPortal("spouse-1", "portal.profile.enter", "second-1", "no_basis")
	b.inPortal("guardian-1", "portal.profile.enter", "client-1", "no_basis")
}

func TestRule147_UnlinkEndsThePortalEntry(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	self := b.second("second-1")
	b.accepted("second-1", self.ID, "portal-1")
	b.permit("second-1", self.ID, true)
	b.enters("portal-1", "client-1", "second-1")
	problem(t, b.Unlink(t.Context(), user("practitioner-1"), "practice-1", "second-1", self.ID), "not-found")
	if err := b.Unlink(t.Context(), admin, "practice-1", "second-1", self.ID); err != nil {
		t.Fatal(err)
	}
	b.enters("portal-1", "client-1")
	b.inPortal("portal-1", "portal.profile.enter", "second-1", "no_basis")
	problem(t, b.Unlink(t.Context(), admin, "practice-1", "second-1", self.ID), "not-found")
	if n := b.count(`SELECT count(*) FROM clients WHERE id IN ('client-1', 'second-1') AND status = 'active'`); n != 2 {
		t.Errorf("%d charts stay", n)
	}
	// The star is gone: the second may have an e-mail, and be linked to again.
	c, err := b.Change(t.Context(), admin, "practice-1", "second-1", ClientChange{Email: text("ot@example.org")})
	must(t, c, err)
	b.client(NewClient{ID: "third-1"})
	b.link("third-1", NewContact{ExistingClient: "second-1", Relationship: "self"})
}

func TestRule148_ProfilesAreNeverMerged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, who := range []string{"admin-1", "practitioner-1", "practitioner-full"} {
		if p := problem(t, b.Merge(t.Context(), user(who), "practice-1", "client-1"), "profiles-stay-separate"); !strings.Contains(p.Detail, "documentation") {
			t.Errorf("it does not say why: %s", p.Detail)
		}
	}
	problem(t, b.Merge(t.Context(), user("practitioner-2"), "practice-1", "client-1"), "not-found")
}

func TestRule152_153_WhoIsFoundAndWhatIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.link("client-1", NewContact{Person: &Person{Name: "Contact One", Email: "contact-1@example.org"}, Relationship: "parent"})
	b.link("client-2", NewContact{Person: &Person{Name: "Contact Two"}, Relationship: "parent"})
	names := func(who, text string) []string {
		t.Helper()
		found, more, err := b.Search(t.Context(), user(who), "practice-1", text)
		if must(t, found, err); more {
			t.Error("there are more")
		}
		list := []string{}
		for _, f := range found {
			list = append(list, f.Name)
		}
		return list
	}
	for _, c := range []struct {
		who, text string
		want      []string
	}{
		{"admin-1", "", []string{"Client One", "Client Two", "Contact One", "Contact Two"}},
		{"admin-1", "cLIENT o", []string{"Client One"}},
		{"admin-1", "CONTACT-1@", []string{"Contact One"}},
		{"admin-1", "%", []string{}},
		{"practitioner-1", "", []string{"Client One", "Contact One"}},
		{"practitioner-2", "", []string{"Client Two", "Contact Two"}},
		{"practitioner-2", "contact-1@", []string{}},
		{"practitioner-full", "", []string{"Client One", "Client Two", "Contact One", "Contact Two"}},
	} {
		if got := names(c.who, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s finds %q for %q, want %q", c.who, got, c.text, c.want)
		}
	}
	_, _, err := b.Search(t.Context(), user("admin-2"), "practice-1", "")
	problem(t, err, "not-found")
	_, _, err = b.Search(t.Context(), user("removed-1"), "practice-1", "")
	problem(t, err, "not-found")

	// An address of a client he cannot see: a neutral refusal, and the attempt is on record.
	_, err = b.Create(t.Context(), user("practitioner-2"), "practice-1", NewClient{FirstName: "Client", LastName: "New", Email: "client-1@example.org"})
	hidden := problem(t, err, "email-refused")
	_, err = b.Create(t.Context(), user("practitioner-1"), "practice-1", NewClient{FirstName: "Client", LastName: "New", Email: "client-1@example.org"})
	if seen := problem(t, err, "email-refused"); seen.Detail != hidden.Detail || strings.Contains(seen.Detail, "One") {
		t.Errorf("%q and %q", seen.Detail, hidden.Detail)
	}
	attempts := b.texts(`SELECT actor || ' ' || coalesce(before::text, '') || coalesce(after::text, '') FROM changes WHERE action = 'email.refused' ORDER BY id`)
	if !slices.Equal(attempts, []string{"practitioner-2 ", "practitioner-1 "}) {
		t.Errorf("on record: %q", attempts)
	}
	// He links nobody he cannot see, and is told no more than if there were nobody.
	for _, n := range []NewContact{{ExistingClient: "client-1", Relationship: "spouse"}, {ExistingClient: "client-9", Relationship: "spouse"}} {
		_, _, err := b.AddContact(t.Context(), user("practitioner-2"), "practice-1", "client-2", n)
		if p := problem(t, err, "link-refused"); p.Detail != "existing_client is no client that can be linked" {
			t.Errorf("%s", p.Detail)
		}
	}
	theirs, err := b.Contacts(t.Context(), admin, "practice-1", "client-1")
	must(t, theirs, err)
	_, _, err = b.AddContact(t.Context(), user("practitioner-2"), "practice-1", "client-2", NewContact{ExistingContact: theirs[0].ID, Relationship: "spouse"})
	problem(t, err, "link-refused")
}

func TestRule155_NoticesOfLinkUnlinkPermissionAndInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	self := b.second("second-1")
	i, err := b.Invite(t.Context(), admin, "practice-1", "second-1", self.ID)
	must(t, i, err)
	b.permit("second-1", self.ID, true)
	b.permit("second-1", self.ID, true) // nothing new
	b.permit("second-1", self.ID, true, "view_appointments")
	b.permit("second-1", self.ID, true)  // less than before
	b.permit("second-1", self.ID, false) // and less
	if err := b.Unlink(t.Context(), admin, "practice-1", "second-1", self.ID); err != nil {
		t.Fatal(err)
	}
	got := b.texts(`SELECT concat_ws(' ', kind, practice, client, contact = $1, details) FROM notices ORDER BY id`, self.ID)
	want := []string{
		`link practice-1 second-1 t {"person": "client-1", "relationship": "self"}`,
		`invitation practice-1 second-1 t {"person": "client-1"}`,
		`permission practice-1 second-1 t {"person": "client-1", "enabled": true, "permissions": []}`,
		`permission practice-1 second-1 t {"person": "client-1", "enabled": true, "permissions": ["view_appointments"]}`,
		`unlink practice-1 second-1 t {"person": "client-1"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// Neither notices nor records hold a code, a name or an address.
	for _, secret := range []string{i.Code, "Client", "One", "example.org"} {
		if n := b.count(`SELECT count(*) FROM (SELECT details::text AS line FROM notices UNION ALL SELECT concat(before, after, reason) FROM changes) all_lines WHERE strpos(line, $1) > 0`, secret); n > 0 {
			t.Errorf("%q stands in %d lines", secret, n)
		}
	}
	if n := b.count(`SELECT count(*) FROM invitations WHERE strpos(encode(hash, 'escape'), $1) > 0`, i.Code); n > 0 {
		t.Error("the code is kept in clear")
	}
}
