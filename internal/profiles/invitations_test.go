package profiles

import (
	"testing"

	"chartgate/internal/authz"
)

// A code is good for one acceptance, until its end, and until the next one.
func TestInvitationCodes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	k := b.link("client-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"})
	invite := func() Invitation {
		t.Helper()
		i, err := b.Invite(t.Context(), user("practitioner-1"), "practice-1", "client-1", k.ID)
		return must(t, i, err)
	}
	refuses := func(login, code string) {
		t.Helper()
		b.unchanged(0, func() {
			_, err := b.Accept(t.Context(), portal(login), code, every)
			problem(t, err, "not-found")
		})
	}
	refuses("portal-1", "")
	refuses("portal-1", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	first := invite()
	second := invite()
	refuses("portal-1", first.Code) // a later one was sent
	b.exec(`UPDATE invitations SET expires_at = clock_timestamp() WHERE cancelled_at IS NULL`)
	refuses("portal-1", second.Code) // ended
	third := invite()
	b.exec(`UPDATE clients SET status = 'archived' WHERE id = 'client-1'`)
	refuses("portal-1", third.Code)
	b.exec(`UPDATE clients SET status = 'active' WHERE id = 'client-1'`)
	b.unchanged(0, func() {
		_, err := b.Accept(t.Context(), portal("portal-1"), third.Code, func(practice string) bool { return practice == "practice-2" })
		problem(t, err, "not-found")
	})
	got, err := b.Accept(t.Context(), portal("portal-1"), " "+third.Code+"\n", every)
	if must(t, got, err) != "client-1" {
		t.Errorf("accepted for %s", got)
	}
	b.unchanged(0, func() { // the same person presses twice
		again, err := b.Accept(t.Context(), portal("portal-1"), third.Code, every)
		must(t, again, err)
	})
	refuses("portal-2", third.Code) // used
	b.unchanged(0, func() {
		_, err := b.Invite(t.Context(), admin, "practice-1", "client-1", k.ID)
		problem(t, err, "redundant")
	})
	// Invitations end with the link.
	other := b.link("client-1", NewContact{Person: &Person{Name: "Contact Two"}, Relationship: "parent"})
	i, err := b.Invite(t.Context(), admin, "practice-1", "client-1", other.ID)
	must(t, i, err)
	if err := b.Unlink(t.Context(), admin, "practice-1", "client-1", other.ID); err != nil {
		t.Fatal(err)
	}
	refuses("portal-3", i.Code)
}

// One person has one login in a practice, by whichever profile it was accepted.
func TestOnePersonOneLogin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	self := b.second("second-1")
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	i, err := b.Invite(t.Context(), admin, "practice-1", "second-1", self.ID)
	must(t, i, err)
	b.unchanged(0, func() { // somebody who got hold of the code does not get to the person's profiles
		_, err := b.Accept(t.Context(), portal("stranger-1"), i.Code, every)
		problem(t, err, "link-refused")
	})
	got, err := b.Accept(t.Context(), portal("portal-1"), i.Code, every)
	must(t, got, err)

	// The other way round, and for a contact who is no client.
	b.client(NewClient{ID: "third-1", Email: "third@example.org"})
	b.client(NewClient{ID: "fourth-1"})
	k := b.link("fourth-1", NewContact{ExistingClient: "third-1", Relationship: "spouse"})
	b.accepted("fourth-1", k.ID, "portal-3")
	own, err := b.Invite(t.Context(), admin, "practice-1", "third-1", authz.ContactOwn)
	must(t, own, err)
	_, err = b.Accept(t.Context(), portal("stranger-1"), own.Code, every)
	problem(t, err, "link-refused")
	got, err = b.Accept(t.Context(), portal("portal-3"), own.Code, every)
	must(t, got, err)

	parent := b.link("third-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"})
	b.accepted("third-1", parent.ID, "parent-1")
	again := b.link("fourth-1", NewContact{ExistingContact: parent.ID, Relationship: "guardian"})
	i, err = b.Invite(t.Context(), admin, "practice-1", "fourth-1", again.ID)
	must(t, i, err)
	_, err = b.Accept(t.Context(), portal("portal-3"), i.Code, every)
	problem(t, err, "link-refused")
	got, err = b.Accept(t.Context(), portal("parent-1"), i.Code, every)
	must(t, got, err)

	// A login is one contact of a client at most.
	twice := b.link("third-1", NewContact{Person: &Person{Name: "Contact Two"}, Relationship: "other"})
	i, err = b.Invite(t.Context(), admin, "practice-1", "third-1", twice.ID)
	must(t, i, err)
	b.unchanged(0, func() {
		_, err := b.Accept(t.Context(), portal("parent-1"), i.Code, every)
		problem(t, err, "link-refused")
	})
}

// Unlinked and linked again, nothing revives.
func TestNothingRevives(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	self := b.second("second-1")
	b.accepted("second-1", self.ID, "portal-1")
	b.permit("second-1", self.ID, true, authz.PortalPermissions...)
	if err := b.Unlink(t.Context(), admin, "practice-1", "second-1", self.ID); err != nil {
		t.Fatal(err)
	}
	k := b.second("second-1")
	if k.Portal.Enabled || len(k.Portal.Permissions) != 0 || k.Portal.InvitedAt != nil || k.Portal.AcceptedAt != nil {
		t.Errorf("%+v", k.Portal)
	}
	b.enters("portal-1")
	// The client's own login can be taken away and given anew.
	b.accepted("client-1", authz.ContactOwn, "portal-1")
	b.enters("portal-1", "client-1")
	if err := b.Unlink(t.Context(), admin, "practice-1", "client-1", authz.ContactOwn); err != nil {
		t.Fatal(err)
	}
	b.enters("portal-1")
	b.accepted("client-1", authz.ContactOwn, "portal-2")
	b.enters("portal-2", "client-1")
}

// The practice may give new contacts permissions from the start.
func TestDefaultPermissionsOfNewContacts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(`UPDATE practices SET overrides = '{"portal_default_permissions": ["view_appointments"]}'`)
	k := b.link("client-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"})
	if k.Portal.Enabled || len(k.Portal.Permissions) != 1 {
		t.Errorf("%+v", k.Portal)
	}
}
