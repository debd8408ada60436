package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
)

// privileges lists all that a role may do with the tables, columns and
// sequences of the schema, through whatever it was granted: what goes for a
// whole table in one line, else column by column.
const privileges = `
WITH tables AS (SELECT c.oid, c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f')),
whole AS (SELECT t.oid, t.relname, p FROM tables t, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p WHERE has_table_privilege($1, t.oid, p))
SELECT p || ' ' || relname FROM whole
UNION ALL
SELECT column_p.p || ' ' || t.relname || '.' || a.attname FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped,
  unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) column_p (p)
  WHERE has_column_privilege($1, t.oid, a.attnum, column_p.p) AND NOT EXISTS (SELECT FROM whole w WHERE w.oid = t.oid AND w.p = column_p.p)
UNION ALL
SELECT p || ' ' || relname FROM pg_class, unnest('{USAGE,SELECT,UPDATE}'::text[]) p
  WHERE relnamespace = 'public'::regnamespace AND relkind = 'S' AND has_sequence_privilege($1, pg_class.oid, p)
UNION ALL
SELECT 'CREATE in schema' WHERE has_schema_privilege($1, 'public', 'CREATE')
UNION ALL
SELECT p || ' on database' FROM unnest('{CREATE,TEMPORARY}'::text[]) p WHERE has_database_privilege($1, current_database(), p)
UNION ALL
SELECT 'OWNER of ' || relname FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = $1)
UNION ALL
SELECT 'MEMBER of ' || r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles me ON me.oid = m.member WHERE me.rolname = $1
UNION ALL
SELECT 'ATTRIBUTE of role' FROM pg_roles WHERE rolname = $1 AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
ORDER BY 1`

// migrated is a database that was migrated where it stands: a copy of the
// template has all privileges but those on the database itself.
func migrated(t *testing.T) string {
	t.Helper()
	url := pgtest.EmptyURL(t)
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

// The sidecar's role reads the facts, the feed and the hashed keys, and appends
// decisions. It can do nothing else: no name or e-mail of a client, no change
// record, no history, not even its own decisions.
func TestSidecarRoleCanDoNothingElse(t *testing.T) {
	s := store{pgtest.PoolAs(t, migrated(t), ""), t}
	want := []string{
		"INSERT decisions", "INSERT record_settings", "SELECT activation", "SELECT api_keys", "SELECT clients.assigned", "SELECT clients.id",
		"SELECT clients.portal_features", "SELECT clients.practice", "SELECT clients.status", "SELECT deployment", "SELECT feed",
		"SELECT feed_low", "SELECT goose_db_version", "SELECT grants.client", "SELECT grants.expires_at", "SELECT grants.id",
		"SELECT grants.not_before", "SELECT grants.practice", "SELECT grants.scope", "SELECT grants.user_id", "SELECT members.billing_enabled",
		"SELECT members.full_clinical_access", "SELECT members.id", "SELECT members.owner", "SELECT members.practice", "SELECT members.roles",
		"SELECT members.status", "SELECT members.user_id", "SELECT portal_access.client", "SELECT portal_access.contact",
		"SELECT portal_access.enabled", "SELECT portal_access.login", "SELECT portal_access.own", "SELECT portal_access.permissions",
		"SELECT portal_access.practice", "SELECT portal_access.relationship", "SELECT practices.id", "SELECT practices.overrides",
		"SELECT practices.portal_features", "SELECT practices.preset",
	}
	if diff := cmp.Diff(want, s.texts(privileges, postgres.RoleSidecar)); diff != "" {
		t.Errorf("privileges of the sidecar (-want +got)\n%s", diff)
	}
}

// Control writes the facts, and only appends to the records: neither it nor
// the sidecar can change or remove what was recorded.
func TestControlRoleOwnsNothing(t *testing.T) {
	s := store{pgtest.PoolAs(t, migrated(t), ""), t}
	want := []string{
		"DELETE api_keys", "DELETE clients", "DELETE contact_links", "DELETE contacts", "DELETE grants", "DELETE idempotency",
		"DELETE invitations", "DELETE members", "DELETE notices", "DELETE portal_access", "DELETE practices", "DELETE profile_stars",
		"DELETE releases", "DELETE sidecars", "DELETE users", "DELETE workflows", "INSERT activation", "INSERT api_keys", "INSERT changes",
		"INSERT clients", "INSERT contact_links", "INSERT contacts", "INSERT decisions", "INSERT grants", "INSERT idempotency",
		"INSERT invitations", "INSERT legal_holds", "INSERT members", "INSERT notices", "INSERT portal_access", "INSERT practices",
		"INSERT profile_stars", "INSERT record_settings", "INSERT releases", "INSERT sidecars", "INSERT users", "INSERT workflows",
		"SELECT activation", "SELECT api_keys", "SELECT chains", "SELECT changes", "SELECT checkpoints", "SELECT clients",
		"SELECT clients_history", "SELECT contact_links", "SELECT contacts", "SELECT decisions", "SELECT deployment", "SELECT emails",
		"SELECT feed", "SELECT feed_low", "SELECT goose_db_version", "SELECT grant_versions", "SELECT grants", "SELECT grants_history",
		"SELECT idempotency", "SELECT invitations", "SELECT ledger", "SELECT legal_holds", "SELECT members", "SELECT members_history",
		"SELECT notices", "SELECT portal_access", "SELECT portal_access_history", "SELECT practices", "SELECT practices_history",
		"SELECT profile_stars", "SELECT purged", "SELECT record_settings", "SELECT releases", "SELECT sidecars", "SELECT users",
		"SELECT workflows", "UPDATE activation", "UPDATE api_keys", "UPDATE clients", "UPDATE contact_links", "UPDATE contacts", "UPDATE grants",
		"UPDATE idempotency", "UPDATE invitations", "UPDATE legal_holds.released_at", "UPDATE legal_holds.released_by", "UPDATE members",
		"UPDATE notices", "UPDATE portal_access", "UPDATE practices", "UPDATE profile_stars", "UPDATE releases", "UPDATE sidecars",
		"UPDATE users", "UPDATE workflows", "USAGE release_revision",
	}
	if diff := cmp.Diff(want, s.texts(privileges, postgres.RoleControl)); diff != "" {
		t.Errorf("privileges of control (-want +got)\n%s", diff)
	}
}

// What the lists above say holds when it is tried, on connections that took
// the role: writing facts, reading names, changing records, making tables.
func TestRolesAreHeldToTheirPrivileges(t *testing.T) {
	url := migrated(t)
	owner := store{pgtest.PoolAs(t, url, ""), t}
	owner.run(`INSERT INTO practices (id) VALUES ('practice-1')`)
	owner.run(`INSERT INTO users (id) VALUES ('admin-1')`)
	const decide = `INSERT INTO decisions (id, at, subject_type, subject_id, action, resource_type, resource_id, allow, code, bases, release, body)
		VALUES (gen_random_uuid(), now(), 'user', 'admin-1', 'chart.open', 'client', 'client-1', false, 'no_basis', '{}', 'r', '')`

	sidecar := store{pgtest.PoolAs(t, url, postgres.RoleSidecar), t}
	sidecar.run(decide)
	sidecar.texts(`SELECT id FROM practices`)
	for _, statement := range []string{
		`SELECT first_name FROM clients`, `SELECT email FROM clients`, `SELECT name FROM contacts`, `SELECT invited_at FROM portal_access`, `SELECT name FROM members`, `SELECT * FROM decisions`, `SELECT * FROM changes`,
		`UPDATE practices SET preset = 'seed'`, `INSERT INTO users (id) VALUES ('u')`, `DELETE FROM grants`, `TRUNCATE grants`,
		`DELETE FROM decisions`, `UPDATE api_keys SET revoked_at = NULL`, `INSERT INTO feed (kind) VALUES ('all')`,
		`CREATE TABLE mine (a int)`, `CREATE TEMPORARY TABLE mine (a int)`, `ALTER TABLE decisions DISABLE TRIGGER ALL`, `SET session_replication_role = replica`,
	} {
		sidecar.refuses(noPrivilege, statement)
	}

	control := store{pgtest.PoolAs(t, url, postgres.RoleControl), t}
	control.run(decide)
	control.run(`INSERT INTO changes (actor, action) VALUES ('admin-1', 'settings.manage')`)
	control.run(`UPDATE practices SET preset = 'help-centre' WHERE id = 'practice-1'`)
	if got := control.texts(`SELECT preset FROM practices_history WHERE valid_to = 'infinity'`); len(got) != 1 || got[0] != "help-centre" {
		t.Errorf("a write by control left the history at %v", got)
	}
	for _, statement := range []string{
		`DELETE FROM decisions`, `UPDATE changes SET actor = 'x'`, `TRUNCATE changes`, `INSERT INTO feed (kind) VALUES ('all')`, `DELETE FROM feed`, `DELETE FROM emails`,
		`UPDATE grants_history SET valid_to = now()`, `TRUNCATE grants`, `CREATE TABLE mine (a int)`, `ALTER TABLE grants DISABLE TRIGGER ALL`,
		`DROP TRIGGER fed_delete ON grants`, `SET session_replication_role = replica`,
	} {
		control.refuses(noPrivilege, statement)
	}
}
