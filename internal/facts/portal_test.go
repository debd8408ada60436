package facts_test

import (
	"reflect"
	"testing"

	"chartgate/internal/authz"

	"github.com/google/go-cmp/cmp"
)

// portal gives c1 a login of its own and a parent who has one too.
const portal = `
UPDATE practices SET portal_features = '{view_appointments,messages,legal_sex}' WHERE id = 'p1';
UPDATE clients SET portal_features = '{messages,legal_sex,upload_documents}' WHERE id = 'c1';
INSERT INTO portal_access (practice, client, contact, relationship, login, enabled, permissions) VALUES
  ('p1', 'c1', 'client', NULL, 'own-1', true, '{}'), ('p1', 'c1', 'k1', 'parent', 'parent-1', true, '{view_appointments,legal_sex}'),
  ('p1', 'c2', 'k1', 'self', 'parent-1', false, '{}');`

func enter(login, client string) authz.Request {
	return authz.Request{Subject: authz.Subject{Type: authz.SubjectPortal, ID: login}, Action: "portal.profile.enter",
		Resource: authz.Resource{Type: "client", ID: client}}
}

func (b bench) askPortal(t *testing.T, login, client string) authz.Facts {
	t.Helper()
	f, err := b.source.Facts(t.Context(), enter(login, client))
	if err != nil {
		t.Fatal(err)
	}
	b.source.Wait()
	return f
}

func TestPortalFacts(t *testing.T) {
	b := setup(t, "")
	b.exec(t, portal)
	b.poll(t)
	for _, c := range []struct {
		login, client string
		want          *authz.Portal
	}{
		{"own-1", "c1", &authz.Portal{Contact: "client", Enabled: true, Own: true, Permissions: []string{}, Features: []string{"messages", "legal_sex"}}},
		{"parent-1", "c1", &authz.Portal{Contact: "k1", Enabled: true, Relationship: "parent", Permissions: []string{"view_appointments", "legal_sex"},
			Features: []string{"messages", "legal_sex"}}},
		{"parent-1", "c2", &authz.Portal{Contact: "k1", Relationship: "self", Permissions: []string{}, Features: []string{"view_appointments", "messages", "legal_sex"}}},
		{"own-1", "c2", nil},
		{"own-1", "c9", nil},
		{"own-1", "c7", nil},
		{"a1", "c1", nil},
	} {
		for range 2 { // from Postgres, then from memory
			f := b.askPortal(t, c.login, c.client)
			if diff := cmp.Diff(c.want, f.Portal); diff != "" || f.Member != nil || f.Grant != nil {
				t.Errorf("%s on %s: %+v (-want +got)\n%s", c.login, c.client, f, diff)
			}
		}
	}
	if n := b.source.Counts().Memory.Load(); n < 6 {
		t.Errorf("%d answers came from memory", n)
	}
	if f := b.ask(t, "parent-1", "c1"); f.Portal != nil {
		t.Error("a user of staff with the id of a portal login got its access")
	}
}

// Whatever of the portal is taken away, by whomever, is heard: by a sidecar
// that remembers, and by one that starts with what Redis holds.
func TestPortalChangesByRawSQLAreHeard(t *testing.T) {
	for name, address := range servers(t) {
		t.Run(name, func(t *testing.T) {
			b := setup(t, address)
			b.exec(t, portal)
			b.poll(t)
			b.askPortal(t, "parent-1", "c1")
			b.source = b.another(t)
			b.poll(t)
			if f := b.askPortal(t, "parent-1", "c1"); f.Portal == nil || b.source.Counts().Redis.Load() != 1 {
				t.Fatalf("a new sidecar was not answered from Redis: %+v", f.Portal)
			}
			for _, write := range []struct {
				sql   string
				check func(authz.Facts) bool
			}{
				{`UPDATE portal_access SET permissions = '{legal_sex}' WHERE contact = 'k1'`, func(f authz.Facts) bool { return reflect.DeepEqual(f.Portal.Permissions, []string{"legal_sex"}) }},
				{`UPDATE clients SET portal_features = '{}' WHERE id = 'c1'`, func(f authz.Facts) bool { return len(f.Portal.Features) == 0 }},
				{`UPDATE clients SET portal_features = NULL WHERE id = 'c1'`, func(f authz.Facts) bool { return len(f.Portal.Features) == 3 }},
				{`UPDATE practices SET portal_features = '{messages}' WHERE id = 'p1'`, func(f authz.Facts) bool { return reflect.DeepEqual(f.Portal.Features, []string{"messages"}) }},
				{`UPDATE portal_access SET enabled = false WHERE contact = 'k1'`, func(f authz.Facts) bool { return !f.Portal.Enabled }},
				{`UPDATE clients SET status = 'archived' WHERE id = 'c1'`, func(f authz.Facts) bool { return f.Client.Status == "archived" }},
				{`UPDATE portal_access SET login = 'parent-2' WHERE contact = 'k1'`, func(f authz.Facts) bool { return f.Portal == nil }},
				{`UPDATE portal_access SET login = 'parent-1' WHERE contact = 'k1'`, func(f authz.Facts) bool { return f.Portal != nil }},
				{`DELETE FROM portal_access WHERE contact = 'k1'`, func(f authz.Facts) bool { return f.Portal == nil }},
				{`INSERT INTO portal_access (practice, client, contact, relationship, login) VALUES ('p1', 'c1', 'k2', 'other', 'parent-1')`, func(f authz.Facts) bool { return f.Portal.Contact == "k2" }},
				{`TRUNCATE portal_access CASCADE`, func(f authz.Facts) bool { return f.Portal == nil }},
			} {
				b.askPortal(t, "parent-1", "c1") // memory and Redis hold what was true before
				b.exec(t, write.sql)
				b.poll(t)
				if f := b.askPortal(t, "parent-1", "c1"); !write.check(f) {
					t.Errorf("after %q, from memory: %+v %+v", write.sql, f.Client, f.Portal)
				}
				b.source = b.another(t)
				b.poll(t)
				if f := b.askPortal(t, "parent-1", "c1"); !write.check(f) {
					t.Errorf("after %q, by a new sidecar: %+v %+v", write.sql, f.Client, f.Portal)
				}
			}
		})
	}
}

// A client that moved to another practice takes no access along.
func TestRule107_CorruptPortalAccessIsIgnored(t *testing.T) {
	b := setup(t, "")
	b.exec(t, portal+`ALTER TABLE portal_access DROP CONSTRAINT portal_access_practice_client_fkey; UPDATE portal_access SET practice = 'p2'`)
	b.poll(t)
	if f := b.askPortal(t, "own-1", "c1"); f.Portal != nil || f.Client == nil {
		t.Errorf("an access of another practice became a fact: %+v", f.Portal)
	}
}

// Half of a change is never seen: an access of one read and the features of
// another stand beside each other only where a poll covers both.
func TestPortalFactsAreNotTorn(t *testing.T) {
	b := setup(t, "")
	b.exec(t, portal)
	b.poll(t)
	b.ask(t, "a1", "c1") // remembers the client and the practice
	b.exec(t, `UPDATE clients SET portal_features = '{}' WHERE id = 'c1'; UPDATE portal_access SET permissions = '{demographics}' WHERE contact = 'k1'`)
	if f := b.askPortal(t, "parent-1", "c1"); len(f.Portal.Features) != 0 || !reflect.DeepEqual(f.Portal.Permissions, []string{"demographics"}) {
		t.Errorf("torn: %+v", f.Portal)
	}
	b.exec(t, `UPDATE clients SET portal_features = NULL WHERE id = 'c1'; UPDATE portal_access SET permissions = '{legal_sex}' WHERE contact = 'k1'`)
	b.poll(t)
	if f := b.askPortal(t, "parent-1", "c1"); len(f.Portal.Features) != 3 || !reflect.DeepEqual(f.Portal.Permissions, []string{"legal_sex"}) {
		t.Errorf("after the poll: %+v", f.Portal)
	}
}
