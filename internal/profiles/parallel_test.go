package profiles

import (
	"reflect"
	"sync"
	"testing"

	"chartgate/internal/authz"
)

// atOnce runs work of several at the same moment, and returns their errors.
func atOnce(t *testing.T, n int, work func(i int) error) []error {
	t.Helper()
	var (
		wait  sync.WaitGroup
		start = make(chan struct{})
		errs  = make([]error, n)
	)
	for i := range n {
		wait.Go(func() {
			<-start
			errs[i] = work(i)
		})
	}
	close(start)
	wait.Wait()
	return errs
}

// admins are two administrators, in turns.
func admins(i int) authz.Subject { return user([]string{"admin-1", "admin-9"}[i%2]) }

const rounds = 10

// Two administrators at the same link end with one link, one contact, one star
// and one notice.
func TestTwoAdministratorsAtOneLink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range rounds {
		second := b.client(NewClient{Label: "OT"}).ID
		contacts := make([]Contact, 4)
		created := make([]bool, 4)
		for _, err := range atOnce(t, 4, func(i int) (err error) {
			contacts[i], created[i], err = b.AddContact(t.Context(), admins(i), "practice-1", second, NewContact{ExistingClient: "client-1", Relationship: "self"})
			return err
		}) {
			if err != nil {
				t.Error(err)
			}
		}
		news := 0
		for i := range contacts {
			if contacts[i].ID != contacts[0].ID {
				t.Errorf("two contacts: %v", contacts)
			}
			if created[i] {
				news++
			}
		}
		if news != 1 {
			t.Errorf("%d links were made", news)
		}
		for _, table := range []string{"portal_access", "contact_links", "profile_stars", "notices"} {
			if n := b.count(`SELECT count(*) FROM `+table+` WHERE client = $1`, second); n != 1 {
				t.Errorf("%d rows in %s", n, table)
			}
		}
	}
	if n := b.count(`SELECT count(*) FROM contacts`); n != 1 {
		t.Errorf("%d contacts stand for one client", n)
	}
}

// Two who link two profiles to each other at once end with one star.
func TestALinkAndItsReverseAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range rounds {
		one := b.client(NewClient{Email: ""}).ID
		c, err := b.Change(t.Context(), admin, "practice-1", one, ClientChange{Email: text(one + "@example.org")})
		must(t, c, err)
		two := b.client(NewClient{}).ID
		three := b.client(NewClient{}).ID
		targets := [][2]string{{two, one}, {one, two}, {three, two}, {three, one}}
		errs := atOnce(t, len(targets), func(i int) error {
			_, _, err := b.AddContact(t.Context(), admins(i), "practice-1", targets[i][0], NewContact{ExistingClient: targets[i][1], Relationship: "self"})
			return err
		})
		for i, err := range errs {
			if ok := i == 0 || i == 3; ok != (err == nil) {
				t.Errorf("%v: %v", targets[i], err)
			} else if !ok {
				problem(t, err, "link-refused")
			}
		}
	}
}

// Two administrators at the same invitation leave one that holds, which is
// accepted once, whoever accepts at the same time.
func TestTwoAdministratorsAtOneInvitation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range rounds {
		k := b.link("client-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"})
		codes := make([]string, 4)
		for _, err := range atOnce(t, 4, func(i int) error {
			invitation, err := b.Invite(t.Context(), admins(i), "practice-1", "client-1", k.ID)
			codes[i] = invitation.Code
			return err
		}) {
			if err != nil {
				t.Error(err)
			}
		}
		if n := b.count(`SELECT count(*) FROM invitations WHERE contact = $1 AND used_at IS NULL AND cancelled_at IS NULL`, k.ID); n != 1 {
			t.Errorf("%d invitations hold", n)
		}
		logins := []string{"login-a-" + k.ID, "login-b-" + k.ID}
		accepted := 0
		for _, err := range atOnce(t, 8, func(i int) error {
			_, err := b.Accept(t.Context(), portal(logins[i%2]), codes[i/2], every)
			return err
		}) {
			if err == nil {
				accepted++
			}
		}
		if accepted != 1 {
			t.Errorf("accepted %d times", accepted)
		}
	}
}

// Two administrators at the same workflow call end with one second profile, and
// get the same answer.
func TestTwoAdministratorsAtOneWorkflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		before := b.count(`SELECT count(*) FROM clients`)
		answers := make([]Workflow, 4)
		for _, err := range atOnce(t, 4, func(i int) (err error) {
			answers[i], err = b.CreateSecond(t.Context(), admins(i), "practice-1", "client-1", wanted, Key{"key:1", key})
			return err
		}) {
			if err != nil {
				t.Error(err)
			}
		}
		for i := range answers {
			if !reflect.DeepEqual(answers[i], answers[0]) {
				t.Errorf("two answers:\n%+v\n%+v", answers[i], answers[0])
			}
		}
		if after := b.count(`SELECT count(*) FROM clients`); after != before+1 {
			t.Errorf("%d profiles were made", after-before)
		}
		if n := b.count(`SELECT count(*) FROM changes WHERE correlation = $1`, answers[0].Correlation); n != 5 {
			t.Errorf("%d records", n)
		}
		if n := b.count(`SELECT count(*) FROM notices WHERE correlation = $1`, answers[0].Correlation); n != 3 {
			t.Errorf("%d notices", n)
		}
	}
}

// Whoever is unlinked while he is linked, invited or accepts ends with all or
// nothing of it.
func TestUnlinkAgainstEverythingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range rounds {
		k := b.link("client-1", NewContact{Person: &Person{Name: "Contact One"}, Relationship: "parent"})
		i, err := b.Invite(t.Context(), admin, "practice-1", "client-1", k.ID)
		must(t, i, err)
		errs := atOnce(t, 5, func(n int) error {
			switch n {
			case 0:
				return b.Unlink(t.Context(), admin, "practice-1", "client-1", k.ID)
			case 1:
				_, err := b.Accept(t.Context(), portal("login-"+k.ID), i.Code, every)
				return err
			case 2:
				_, err := b.Permit(t.Context(), admin, "practice-1", "client-1", k.ID, true, authz.PortalPermissions)
				return err
			case 3:
				_, _, err := b.AddContact(t.Context(), admin, "practice-1", "client-2", NewContact{ExistingContact: k.ID, Relationship: "other"})
				return err
			}
			_, err := b.Invite(t.Context(), admin, "practice-1", "client-1", k.ID)
			return err
		})
		if errs[0] != nil {
			t.Error(errs[0])
		}
		for n, err := range errs[1:] {
			if err != nil {
				problem(t, err, map[int]string{0: "not-found", 1: "not-found", 2: "link-refused", 3: problemOf(err)}[n])
			}
		}
		b.enters("login-" + k.ID)
		if n := b.count(`SELECT count(*) FROM portal_access a WHERE NOT own AND NOT EXISTS (SELECT FROM contact_links l WHERE l.client = a.client AND l.contact = a.contact)`); n != 0 {
			t.Errorf("%d accesses without a link", n)
		}
	}
}

// problemOf is what a resent invitation may come to: the contact is gone, or
// has accepted already.
func problemOf(err error) string {
	if p, ok := err.(*authz.Problem); ok && p.Type == "redundant" {
		return "redundant"
	}
	return "not-found"
}
