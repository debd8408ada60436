package roster_test

import (
	"strings"
	"testing"

	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/roster"

	"github.com/google/go-cmp/cmp"
)

// family is a practice with a person of two profiles, and a parent.
var family = []string{
	"practices.csv", "id,name\npractice-1,P\npractice-2,P\n",
	"clients.csv", "id,practice,first_name,last_name,email\nfirst,practice-1,C,C,first@example.com\nsecond,practice-1,C,C,\nthird,practice-1,C,C,\n" +
		"single,practice-1,C,C,single@example.com\nelsewhere,practice-2,C,C,elsewhere@example.com\n",
	"contacts.csv", "id,practice,client,name,email\nself,practice-1,first,,\nparent,practice-1,,A Parent,parent@example.com\nabroad,practice-2,,A Parent,parent@example.com\n",
	"portal.csv", "client,contact,relationship,login,enabled,permissions\nfirst,client,,portal-1,,\nsecond,self,self,portal-1,true,\"legal_sex,view_appointments\"\nfirst,parent,parent,,,\n",
}

func TestContactsAndPortalAreImported(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	report := load(t, pool, folder(t, family...))
	if report.Contacts != (roster.Counts{Inserted: 3}) || report.Portal != (roster.Counts{Inserted: 3}) {
		t.Errorf("%+v", report)
	}
	rows := func() []string {
		return texts(t, pool, `SELECT client, concat_ws(' ', contact, relationship, login, enabled, permissions, accepted_at IS NOT NULL) FROM portal_access
			UNION ALL SELECT 'link', concat_ws(' ', client, contact, linked_by) FROM contact_links
			UNION ALL SELECT 'star', concat_ws(' ', client, primary_profile) FROM profile_stars`)
	}
	want := []string{
		"first client portal-1 t {} t", "first parent parent f {} f",
		"link first parent operator-1", "link second self operator-1",
		"second self self portal-1 t {view_appointments,legal_sex} t",
		"star first first", "star second first",
	}
	if diff := cmp.Diff(want, rows()); diff != "" {
		t.Error(diff)
	}
	again := load(t, pool, folder(t, family...))
	if again.Contacts != (roster.Counts{Unchanged: 3}) || again.Portal != (roster.Counts{Unchanged: 3}) {
		t.Errorf("again: %+v", again)
	}
	if got := one(t, pool, `SELECT count(*)::text FROM feed WHERE kind = 'portal'`); got != "2" {
		t.Errorf("%s rows in the feed", got)
	}
	// What is not said stays; a blank login is taken away, and is heard.
	changed := load(t, pool, folder(t, "portal.csv", "client,contact,login\nsecond,self,\n", "contacts.ndjson", `{"id": "parent", "practice": "practice-1", "email": "new@example.com"}`+"\n"))
	if changed.Portal != (roster.Counts{Changed: 1}) || changed.Contacts != (roster.Counts{Changed: 1}) {
		t.Errorf("changed: %+v", changed)
	}
	want[4] = "second self self t {view_appointments,legal_sex} f"
	if diff := cmp.Diff(want, rows()); diff != "" {
		t.Error(diff)
	}
}

func TestContactsAndPortalThatCannotBe(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	load(t, pool, folder(t, family...))
	for _, c := range []struct{ name, file, rows, want string }{
		{"nobody", "contacts.csv", "id,practice\nx,practice-1\n", "contacts.csv:2: name: is missing"},
		{"a reserved id", "contacts.csv", "id,practice,name\nclient,practice-1,N\n", "contacts.csv:2: id: cannot be client"},
		{"twice", "contacts.csv", "id,practice,name\nx,practice-1,N\nx,practice-1,N\n", "contacts.csv:3: id: this contact stands already in contacts.csv:2"},
		{"no practice", "contacts.csv", "id,practice,name\nx,practice-9,N\n", "contacts.csv:2: practice: there is no such practice"},
		{"of another practice", "contacts.csv", "id,practice,name\nabroad,practice-1,N\n", "contacts.csv:2: id: cannot be used in this practice"},
		{"a client with a name", "contacts.csv", "id,practice,client,name\nx,practice-1,second,N\n", "contacts.csv:2: name: and e-mail of a contact who is a client stand there"},
		{"no client", "contacts.csv", "id,practice,client\nx,practice-1,elsewhere\n", "contacts.csv:2: client: is no client of the practice"},
		{"somebody else", "contacts.csv", "id,practice,client\nself,practice-1,second\n", "contacts.csv:2: client: cannot be changed"},
		{"one client twice", "contacts.csv", "id,practice,client\nx,practice-1,first\n", "contacts.csv:2: client: another contact is this client already"},
		{"a client's e-mail", "contacts.csv", "id,practice,name,email\nx,practice-1,N,FIRST@example.com\n", "contacts.csv:2: email: another client or contact"},
		{"a contact's e-mail", "contacts.csv", "id,practice,name,email\nx,practice-1,N,Parent@example.com\n", "contacts.csv:2: email: another client or contact"},
		{"a contact's e-mail for a client", "clients.csv", "id,practice,first_name,last_name,email\nx,practice-1,C,C,Parent@example.com\n", "clients.csv:2: email: a contact of the practice"},
		{"the primary's e-mail", "clients.csv", "id,practice,first_name,last_name,email\nfirst,practice-1,C,C,\n", "clients.csv:2: email: cannot be taken away"},
		{"an e-mail for a secondary", "clients.csv", "id,practice,first_name,last_name,email\nsecond,practice-1,C,C,x@example.com\n", "clients.csv:2: email: cannot be given"},
		{"no such client", "portal.csv", "client,contact\nx,client\n", "portal.csv:2: client: there is no such client"},
		{"no such contact", "portal.csv", "client,contact,relationship\nfirst,x,parent\n", "portal.csv:2: contact: is no contact"},
		{"a contact of another practice", "portal.csv", "client,contact,relationship\nfirst,abroad,parent\n", "portal.csv:2: contact: is no contact"},
		{"the client himself as a parent", "portal.csv", "client,contact,relationship\nfirst,client,parent\n", "portal.csv:2: relationship: is none of the client himself"},
		{"no relationship", "portal.csv", "client,contact\nthird,parent\n", "portal.csv:2: relationship: is missing"},
		{"another relationship", "portal.csv", "client,contact,relationship\nfirst,parent,spouse\n", "portal.csv:2: relationship: cannot be changed"},
		{"an unknown relationship", "portal.csv", "client,contact,relationship\nfirst,parent,friend\n", "portal.csv:2: relationship: must be one of"},
		{"an unknown permission", "portal.csv", "client,contact,permissions\nfirst,parent,everything\n", "portal.csv:2: permissions: there is no permission"},
		{"twice", "portal.csv", "client,contact,relationship\nthird,parent,other\nthird,parent,other\n", "portal.csv:3: contact: this contact of the client stands already"},
		{"a login twice", "portal.csv", "client,contact,login\nfirst,parent,portal-1\n", "portal.csv:2: login: is another contact of this client"},
		{"a stranger as himself", "portal.csv", "client,contact,relationship\nthird,parent,self\n", "portal.csv:2: contact: is no client"},
		{"himself", "portal.csv", "client,contact,relationship\nfirst,self,self\n", "portal.csv:2: contact: is the client himself"},
		{"with an e-mail of its own", "portal.csv", "client,contact,relationship\nsingle,self,self\n", "portal.csv:2: contact: cannot be the primary profile while"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rejected := refused(t, pool, folder(t, c.file, c.rows))
			if len(rejected.Faults) == 0 || !strings.HasPrefix(rejected.Faults[0].String(), c.want) {
				t.Errorf("%v\nwant %s", rejected, c.want)
			}
		})
	}
	for name, c := range map[string]struct{ contacts, portal, want string }{
		"a chain":           {"x,practice-1,second\n", "third,x,self\n", "is linked to another profile himself"},
		"the reverse":       {"x,practice-1,single\n", "first,x,self\n", "cannot be the primary profile: others point to this one"},
		"two primaries":     {"x,practice-1,single\n", "second,x,self\n", "cannot be the primary profile: this one has another"},
		"without an e-mail": {"x,practice-1,third\n", "single,x,self\n", "has no e-mail"},
	} {
		rejected := refused(t, pool, folder(t, "contacts.csv", "id,practice,client\n"+c.contacts, "portal.csv", "client,contact,relationship\n"+c.portal))
		if !strings.Contains(rejected.Error(), "portal.csv:2: contact: "+c.want) {
			t.Errorf("%s: %v", name, rejected)
		}
	}
}
