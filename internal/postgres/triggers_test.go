package postgres_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fedBy returns the keys, sorted and once each, that work put into the feed.
func (s store) fedBy(work func()) []string {
	s.t.Helper()
	mark := s.texts(`SELECT coalesce(max(id), 0)::text FROM feed`)
	work()
	return s.texts(`SELECT DISTINCT concat_ws(' ', kind, nullif(a, ''), nullif(b, '')) FROM feed WHERE id > $1::bigint ORDER BY 1`, mark[0])
}

// Every writer is in the feed, however it writes: no statement of raw SQL, no
// TRUNCATE and no restore with triggers off goes round it (promise P6).
func TestEveryWriteIsFed(t *testing.T) {
	for _, c := range []struct {
		name, statement string
		want            []string
	}{
		{"settings", `UPDATE practices SET preset = 'help-centre' WHERE id = 'practice-1'`, []string{"settings practice-1"}},
		{"new practice", `INSERT INTO practices (id) VALUES ('practice-3')`, []string{"settings practice-3"}},
		{"roles", `UPDATE members SET roles = '{}' WHERE user_id = 'practitioner-1'`, []string{"member practice-1 practitioner-1"}},
		{"many members", `UPDATE members SET billing_enabled = false`, []string{
			"member practice-1 admin-1", "member practice-1 practitioner-1", "member practice-1 practitioner-2", "member practice-2 practitioner-3"}},
		{"another user", `UPDATE members SET user_id = 'practitioner-3' WHERE user_id = 'admin-1'`, []string{
			"member practice-1 admin-1", "member practice-1 practitioner-3"}},
		{"member gone", `DELETE FROM members WHERE user_id = 'admin-1'`, []string{"member practice-1 admin-1"}},
		{"assigned", `UPDATE clients SET assigned = NULL WHERE id = 'client-1'`, []string{"client client-1"}},
		{"archived", `UPDATE clients SET status = 'archived' WHERE practice = 'practice-1'`, []string{"client client-1", "client client-2"}},
		{"renamed id", `UPDATE clients SET id = 'client-9' WHERE id = 'client-2'`, []string{"client client-2", "client client-9"}},
		{"names are no facts", `UPDATE clients SET first_name = 'Another', email = 'a@example.org' WHERE id = 'client-1'`, []string{}},
		{"client gone with its grants", `DELETE FROM clients WHERE id = 'client-1'`, []string{"client client-1", "grant client-1 practitioner-2", "portal client-1 portal-1"}},
		{"grant", `INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-2', 'practitioner-1', 'admin-1')`, []string{"grant client-2 practitioner-1"}},
		{"grant moved", `UPDATE grants SET client = 'client-2', user_id = 'practitioner-1'`, []string{"grant client-1 practitioner-2", "grant client-2 practitioner-1"}},
		{"revoke", `DELETE FROM grants`, []string{"grant client-1 practitioner-2"}},
		{"upsert", `INSERT INTO practices (id, preset) VALUES ('practice-1', 'help-centre'), ('practice-3', 'seed')
			ON CONFLICT (id) DO UPDATE SET preset = excluded.preset`, []string{"settings practice-1", "settings practice-3"}},
		{"merge", `MERGE INTO clients c USING (VALUES ('client-1')) v (id) ON c.id = v.id WHEN MATCHED THEN UPDATE SET status = 'archived'`, []string{"client client-1"}},
		{"the practice's portal", `UPDATE practices SET portal_features = '{}' WHERE id = 'practice-1'`, []string{"settings practice-1"}},
		{"a client's portal", `UPDATE clients SET portal_features = '{messages}' WHERE id = 'client-1'`, []string{"client client-1"}},
		{"portal access", `INSERT INTO portal_access (practice, client, contact, login, enabled) VALUES ('practice-1', 'client-2', 'client', 'portal-1', true)`, []string{"portal client-2 portal-1"}},
		{"a contact without a login", `INSERT INTO portal_access (practice, client, contact, enabled) VALUES ('practice-1', 'client-2', 'client', true)`, []string{}},
		{"an invitation is accepted", `UPDATE portal_access SET login = 'portal-2' WHERE contact = 'contact-1'`, []string{"portal client-1 portal-2"}},
		{"another login", `UPDATE portal_access SET login = 'portal-2' WHERE contact = 'client'`, []string{"portal client-1 portal-1", "portal client-1 portal-2"}},
		{"portal permissions", `UPDATE portal_access SET permissions = '{view_appointments}', enabled = true`, []string{"portal client-1 portal-1"}},
		{"an invitation is no fact", `UPDATE portal_access SET invited_at = now()`, []string{}},
		{"unlinked", `DELETE FROM portal_access`, []string{"portal client-1 portal-1"}},
		{"truncate portal access", `TRUNCATE portal_access CASCADE`, []string{"all"}},
		{"nothing is hit", `DELETE FROM grants WHERE client = 'client-2'`, []string{}},
		{"truncate grants", `TRUNCATE grants`, []string{"all"}},
		{"truncate clients", `TRUNCATE clients CASCADE`, []string{"all"}},
		{"truncate everything", `TRUNCATE practices, users CASCADE`, []string{"all"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			if diff := cmp.Diff(c.want, s.fedBy(func() { s.run(c.statement) })); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", c.statement, diff)
			}
		})
		t.Run(c.name+" in a replica", func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			want := c.want
			if c.name == "client gone with its grants" {
				want = want[:1] // foreign keys do not cascade there
			}
			if diff := cmp.Diff(want, s.fedBy(func() { s.inReplica(c.statement) })); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", c.statement, diff)
			}
		})
	}
}

// A write after a savepoint is fed under the transaction that makes it visible.
func TestFeedNamesTheWholeTransaction(t *testing.T) {
	s := setup(t)
	conn, err := s.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var whole, fed string
	for _, statement := range []string{`BEGIN`, `SAVEPOINT a`, `UPDATE clients SET status = 'archived' WHERE id = 'client-1'`, `RELEASE a`} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text, (SELECT xid::text FROM feed ORDER BY id DESC LIMIT 1)`).Scan(&whole, &fed); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if whole != fed {
		t.Errorf("the feed says transaction %s, it was %s", fed, whole)
	}
}

// A statement of very many rows is one row in the feed.
func TestAnImportIsFedOnce(t *testing.T) {
	s := setup(t)
	for _, statement := range []string{
		`INSERT INTO clients (id, practice, first_name, last_name) SELECT 'many-' || n, 'practice-1', 'Client', 'Many' FROM generate_series(1, 10001) n`,
		`INSERT INTO grants (practice, client, user_id, granted_by) SELECT 'practice-1', 'many-' || n, 'practitioner-1', 'admin-1' FROM generate_series(1, 10001) n`,
		`DELETE FROM grants WHERE user_id = 'practitioner-1'`,
		`UPDATE clients SET status = 'archived' WHERE id LIKE 'many-%'`,
		`DELETE FROM clients WHERE id LIKE 'many-%'`,
		`INSERT INTO clients (id, practice, first_name, last_name) SELECT 'more-' || n, 'practice-1', 'Client', 'More' FROM generate_series(1, 10001) n`,
		`INSERT INTO portal_access (practice, client, contact, login) SELECT 'practice-1', 'more-' || n, 'client', 'portal-' || n FROM generate_series(1, 10001) n`,
		`UPDATE portal_access SET enabled = true WHERE client LIKE 'more-%'`,
	} {
		if got := s.fedBy(func() { s.run(statement) }); !slices.Equal(got, []string{"all"}) {
			t.Errorf("%s: fed %d rows", statement, len(got))
		}
	}
}

// past compares the open rows of the histories with the tables they follow.
const past = `
SELECT 'practices' WHERE EXISTS (TABLE practices_now EXCEPT TABLE practices_then) OR EXISTS (TABLE practices_then EXCEPT TABLE practices_now)
UNION ALL SELECT 'members' WHERE EXISTS (TABLE members_now EXCEPT TABLE members_then) OR EXISTS (TABLE members_then EXCEPT TABLE members_now)
UNION ALL SELECT 'clients' WHERE EXISTS (TABLE clients_now EXCEPT TABLE clients_then) OR EXISTS (TABLE clients_then EXCEPT TABLE clients_now)
UNION ALL SELECT 'grants' WHERE EXISTS (TABLE grants_now EXCEPT TABLE grants_then) OR EXISTS (TABLE grants_then EXCEPT TABLE grants_now)
UNION ALL SELECT 'portal_access' WHERE EXISTS (TABLE portal_now EXCEPT TABLE portal_then) OR EXISTS (TABLE portal_then EXCEPT TABLE portal_now)`

const pastViews = `
CREATE VIEW practices_now AS SELECT id::text, preset, overrides, portal_features FROM practices;
CREATE VIEW practices_then AS SELECT id, preset, overrides, portal_features FROM practices_history WHERE valid_to = 'infinity';
CREATE VIEW members_now AS SELECT practice::text, user_id::text, id, roles, status, owner, full_clinical_access, billing_enabled FROM members;
CREATE VIEW members_then AS SELECT practice, user_id, id, roles, status, owner, full_clinical_access, billing_enabled FROM members_history WHERE valid_to = 'infinity';
CREATE VIEW clients_now AS SELECT id::text, practice::text, assigned::text, status, portal_features FROM clients;
CREATE VIEW clients_then AS SELECT id, practice, assigned, status, portal_features FROM clients_history WHERE valid_to = 'infinity';
CREATE VIEW grants_now AS SELECT id, practice::text, client::text, user_id::text, scope, not_before, expires_at, reason, granted_by::text, granted_at FROM grants;
CREATE VIEW grants_then AS SELECT id, practice, client, user_id, scope, not_before, expires_at, reason, granted_by, granted_at FROM grants_history WHERE valid_to = 'infinity';
CREATE VIEW portal_now AS SELECT practice::text, client::text, contact::text, own, relationship, login::text, enabled, permissions FROM portal_access;
CREATE VIEW portal_then AS SELECT practice, client, contact, own, relationship, login, enabled, permissions FROM portal_access_history WHERE valid_to = 'infinity'`

// Whatever is written, in whatever order, the open rows of the histories are
// the tables, and no moment has two rows for one key.
func TestHistoryFollowsTheTables(t *testing.T) {
	s := setup(t)
	s.run(pastViews)
	statements := []string{
		`UPDATE practices SET preset = CASE preset WHEN 'seed' THEN 'help-centre' ELSE 'seed' END`,
		`UPDATE practices SET overrides = '{"list_only": true}' WHERE id = 'practice-1'`,
		`UPDATE members SET billing_enabled = NOT billing_enabled WHERE practice = 'practice-1'`,
		`UPDATE members SET status = 'removed' WHERE user_id = 'practitioner-2'`,
		`UPDATE members SET status = 'active', id = gen_random_uuid() WHERE status = 'removed'`,
		`UPDATE clients SET assigned = 'practitioner-1' WHERE practice = 'practice-1'`,
		`UPDATE clients SET assigned = NULL WHERE id IN ('client-1', 'client-4')`,
		`UPDATE clients SET first_name = 'Another'`,
		`UPDATE clients SET status = CASE status WHEN 'active' THEN 'archived' ELSE 'active' END WHERE id <> 'client-4'`,
		`INSERT INTO grants (practice, client, user_id, granted_by) SELECT 'practice-1', id, 'practitioner-2', 'admin-1'
			FROM clients c WHERE practice = 'practice-1' AND NOT EXISTS (SELECT FROM grants g WHERE g.client = c.id AND g.user_id = 'practitioner-2')`,
		`UPDATE grants SET scope = 'view', reason = 'cover'`,
		`DELETE FROM grants WHERE client = 'client-1'`,
		`DELETE FROM clients WHERE id = 'client-2'`,
		`INSERT INTO clients (id, practice, first_name, last_name) VALUES ('client-2', 'practice-1', 'Client', 'Two') ON CONFLICT DO NOTHING`,
		`TRUNCATE grants`,
		`UPDATE practices SET portal_features = CASE WHEN portal_features = '{}' THEN '{messages}' ELSE '{}' END::text[]`,
		`UPDATE clients SET portal_features = CASE WHEN portal_features IS NULL THEN '{messages}' END::text[] WHERE id = 'client-1'`,
		`UPDATE portal_access SET enabled = NOT enabled`,
		`UPDATE portal_access SET login = CASE login WHEN 'portal-1' THEN 'portal-9' ELSE 'portal-1' END, permissions = '{legal_sex}' WHERE contact = 'client'`,
		`UPDATE portal_access SET invited_at = clock_timestamp()`,
		`DELETE FROM portal_access WHERE contact = 'contact-1'`,
		`INSERT INTO portal_access (practice, client, contact, relationship) VALUES ('practice-1', 'client-1', 'contact-1', 'other') ON CONFLICT DO NOTHING`,
	}
	rapid.Check(t, func(r *rapid.T) {
		statement := rapid.SampledFrom(statements).Draw(r, "statement")
		s.run(statement)
		if wrong := s.texts(past); len(wrong) > 0 {
			r.Fatalf("the history of %v is not what the table says", wrong)
		}
		for _, table := range []struct{ name, key string }{
			{"practices_history", "id"}, {"members_history", "practice, user_id"}, {"clients_history", "id"}, {"grants_history", "id"}, {"portal_access_history", "client, contact"},
		} {
			twice := s.texts(fmt.Sprintf(`SELECT concat_ws(' ', %[2]s) FROM (SELECT %[2]s, valid_from, valid_to,
				lead(valid_from) OVER (PARTITION BY %[2]s ORDER BY valid_from, valid_to) AS next FROM %[1]s) h WHERE next < valid_to OR valid_to < valid_from`, table.name, table.key))
			if len(twice) > 0 {
				r.Fatalf("%s: two rows for one moment of %v", table.name, twice)
			}
		}
	})
}

// The version behind the ETag of Manage Access is raised by every writer.
func TestGrantVersionIsRaisedByEveryWriter(t *testing.T) {
	s := setup(t)
	version := func(client string) string {
		t.Helper()
		list := s.texts(`SELECT coalesce((SELECT version FROM grant_versions WHERE client = $1), 0)::text`, client)
		return list[0]
	}
	for _, statement := range []string{
		`UPDATE grants SET scope = 'view' WHERE client = 'client-1'`,
		`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-1', 'practitioner-1', 'admin-1')`,
		`DELETE FROM grants WHERE user_id = 'practitioner-1'`,
		`UPDATE members SET status = 'removed' WHERE user_id = 'practitioner-2'`,
		`TRUNCATE grants`,
	} {
		before, other := version("client-1"), version("client-2")
		s.run(statement)
		if version("client-1") == before {
			t.Errorf("%s: client-1 is still at %s", statement, before)
		}
		if version("client-2") != other {
			t.Errorf("%s: client-2 was raised from %s", statement, other)
		}
	}
	before := version("client-2")
	s.run(`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-1', 'practitioner-1', 'admin-1')`)
	s.run(`UPDATE grants SET client = 'client-2'`)
	if version("client-2") == before {
		t.Error("a grant that moved to client-2 did not raise its version")
	}
}

// A removed member keeps neither grants nor assigned clients, also when raw SQL
// or a restore removes him (DOMAIN rules 57, 58).
func TestRemovedMemberKeepsNothing(t *testing.T) {
	remove := `UPDATE members SET status = 'removed' WHERE practice = 'practice-1' AND user_id IN ('practitioner-1', 'practitioner-2')`
	for name, work := range map[string]func(store){
		"raw SQL":      func(s store) { s.run(remove) },
		"in a replica": func(s store) { s.inReplica(remove) },
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			fed := s.fedBy(func() { work(s) })
			if left := s.texts(`SELECT client::text FROM grants UNION ALL SELECT id FROM clients WHERE practice = 'practice-1' AND assigned IS NOT NULL`); len(left) > 0 {
				t.Errorf("they keep %v", left)
			}
			want := []string{"client client-1", "grant client-1 practitioner-2", "member practice-1 practitioner-1", "member practice-1 practitioner-2"}
			if diff := cmp.Diff(want, fed); diff != "" {
				t.Errorf("feed (-want +got)\n%s", diff)
			}
			if kept := s.texts(`SELECT assigned::text FROM clients WHERE id = 'client-4'`); kept[0] != "practitioner-3" {
				t.Error("a member of another practice lost his client")
			}
			s.run(`UPDATE members SET status = 'active' WHERE user_id = 'practitioner-2'`)
			if left := s.texts(`SELECT client::text FROM grants`); len(left) > 0 {
				t.Errorf("coming back revived grants on %v", left)
			}
		})
	}
}
