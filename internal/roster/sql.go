package roster

// prepareStaging makes the tables that files are copied into. A NULL is what a
// file does not say; n numbers the rows of a kind over all its files. They end
// with the transaction.
const prepareStaging = `
SET LOCAL work_mem = '64MB';
SET LOCAL jit = off;
CREATE TEMP TABLE roster_practices (n bigint NOT NULL, file int NOT NULL, line int NOT NULL,
  id text COLLATE "C" NOT NULL, name text, preset text, overrides text) ON COMMIT DROP;
CREATE TEMP TABLE roster_members (n bigint NOT NULL, file int NOT NULL, line int NOT NULL,
  practice text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, name text, email text, roles text[], status text,
  owner boolean, full_clinical_access boolean, billing_enabled boolean) ON COMMIT DROP;
CREATE TEMP TABLE roster_clients (n bigint NOT NULL, file int NOT NULL, line int NOT NULL,
  id text COLLATE "C" NOT NULL, practice text COLLATE "C", first_name text, last_name text, label text, email text,
  assigned text COLLATE "C", status text,
  email_folded text GENERATED ALWAYS AS (nullif(lower(btrim(email) COLLATE "und-x-icu"), '')) STORED) ON COMMIT DROP;
CREATE TEMP TABLE roster_grants (n bigint NOT NULL, file int NOT NULL, line int NOT NULL,
  client text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, scope text, not_before timestamptz, expires_at timestamptz,
  reason text, granted_by text COLLATE "C") ON COMMIT DROP;
CREATE TEMP TABLE roster_faults (file int NOT NULL, line int NOT NULL, col text NOT NULL, why text NOT NULL,
  other_file int, other_line int) ON COMMIT DROP;`

// freeze keeps writers out from the first check to the commit: what was found
// right stays right. Readers go on.
const freeze = `
ANALYZE roster_practices, roster_members, roster_clients, roster_grants;
LOCK TABLE practices, users, members, clients, grants IN SHARE ROW EXCLUSIVE MODE`

// What will be there after the import, as far as others refer to it.
const (
	createMembersAfter = `
CREATE TEMP TABLE roster_members_after ON COMMIT DROP AS
SELECT coalesce(s.practice, m.practice) AS practice, coalesce(s.user_id, m.user_id) AS user_id,
       coalesce(s.status, m.status, 'active') AS status
  FROM roster_members s FULL JOIN members m ON m.practice = s.practice AND m.user_id = s.user_id`

	createPracticesAfter = `
CREATE TEMP TABLE roster_practices_after ON COMMIT DROP AS
SELECT coalesce(s.id, p.id) AS id, coalesce(s.preset, p.preset, 'seed') AS preset,
       coalesce(s.overrides::jsonb, p.overrides, '{}') ->> 'grant_default_scope' AS scope
  FROM roster_practices s FULL JOIN practices p ON p.id = s.id`

	analyzeAfter = `ANALYZE roster_members_after, roster_practices_after`

	// createGrantsReady finds for each row of a file the grant that it means, if
	// there is one, and what the grant will be. A row that says when it begins
	// means the grant that begins then. One that does not means a grant with the
	// same scope and end, else the one in force. $1 presets, $2 the default scope
	// of each, $3 the actor, $4 no end.
	createGrantsReady = `
CREATE TEMP TABLE roster_grants_ready ON COMMIT DROP AS
SELECT r.*, r.existing IS NOT NULL AND (r.scope, r.expires_at, r.reason, r.granted_by) IS DISTINCT FROM (r.old_scope, r.old_end, r.old_reason, r.old_by) AS changed
  FROM (SELECT s.n, s.file, s.line, s.client, s.user_id, coalesce(c.practice, sc.practice) AS practice, g.id AS existing,
               coalesce(s.scope, g.scope, p.scope, d.scope) AS scope,
               coalesce(s.not_before, g.not_before, now()) AS not_before,
               coalesce(s.expires_at, g.expires_at, $4::timestamptz) AS expires_at,
               coalesce(s.reason, g.reason, '') AS reason,
               coalesce(s.granted_by, g.granted_by, $3::text) AS granted_by,
               g.scope AS old_scope, g.expires_at AS old_end, g.reason AS old_reason, g.granted_by AS old_by
          FROM roster_grants s
          LEFT JOIN clients c ON c.id = s.client
          LEFT JOIN (SELECT id, min(practice) AS practice FROM roster_clients
                      WHERE id IN (SELECT client FROM roster_grants) GROUP BY id) sc ON sc.id = s.client
          LEFT JOIN roster_practices_after p ON p.id = coalesce(c.practice, sc.practice)
          LEFT JOIN (SELECT unnest($1::text[]) AS preset, unnest($2::text[]) AS scope) d ON d.preset = p.preset
          LEFT JOIN LATERAL (
               SELECT * FROM (
                      SELECT *, (s.scope IS NULL OR scope = s.scope)
                                AND (expires_at = s.expires_at OR (s.expires_at IS NULL AND expires_at > now())) AS same
                        FROM grants WHERE client = s.client AND user_id = s.user_id) o
                WHERE o.not_before = s.not_before
                   OR s.not_before IS NULL AND (o.same OR (o.not_before <= now() AND now() < o.expires_at))
                ORDER BY o.same DESC, o.not_before DESC LIMIT 1) g ON true) r`
)

// checks note in roster_faults what is wrong with staged rows. Each keeps to
// rows that say what it looks at.
var checks = []struct{ kind, sql string }{
	{Practices, practiceTwice},
	{Members, memberTwice}, {Members, memberWithoutPractice}, {Members, memberRemovedOwner}, {Members, memberRemovedAccess},
	{Clients, clientTwice}, {Clients, clientWithoutPractice}, {Clients, clientElsewhere}, {Clients, clientAssigned},
	{Clients, clientEmailTwice}, {Clients, clientEmailTaken},
	{Grants, grantWithoutClient}, {Grants, grantWithoutMember}, {Grants, grantEndsEarly}, {Grants, grantTwice}, {Grants, grantOverlaps},
}

const (
	practiceTwice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'id', 'this practice stands already in', f.file, f.line
  FROM (SELECT id, min(n) AS first FROM roster_practices GROUP BY id HAVING count(*) > 1) t
  JOIN roster_practices s ON s.id = t.id AND s.n <> t.first
  JOIN roster_practices f ON f.n = t.first`

	memberTwice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'user', 'this member of the practice stands already in', f.file, f.line
  FROM (SELECT practice, user_id, min(n) AS first FROM roster_members GROUP BY practice, user_id HAVING count(*) > 1) t
  JOIN roster_members s ON s.practice = t.practice AND s.user_id = t.user_id AND s.n <> t.first
  JOIN roster_members f ON f.n = t.first`

	memberWithoutPractice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'practice', 'there is no such practice'
  FROM roster_members s
 WHERE NOT EXISTS (SELECT FROM roster_practices_after p WHERE p.id = s.practice)`

	memberRemovedOwner = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'status', 'the owner of a practice cannot be removed'
  FROM roster_members s LEFT JOIN members m ON m.practice = s.practice AND m.user_id = s.user_id
 WHERE coalesce(s.status, m.status) = 'removed' AND coalesce(s.owner, m.owner)`

	// memberRemovedAccess: where the file does not speak of it, removal takes it.
	memberRemovedAccess = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'full_clinical_access', 'a removed member cannot have it'
  FROM roster_members s LEFT JOIN members m ON m.practice = s.practice AND m.user_id = s.user_id
 WHERE coalesce(s.status, m.status) = 'removed' AND s.full_clinical_access`

	clientTwice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'id', 'this client stands already in', f.file, f.line
  FROM (SELECT id, min(n) AS first FROM roster_clients GROUP BY id HAVING count(*) > 1) t
  JOIN roster_clients s ON s.id = t.id AND s.n <> t.first
  JOIN roster_clients f ON f.n = t.first`

	clientWithoutPractice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'practice', 'there is no such practice'
  FROM roster_clients s
 WHERE s.practice IS NOT NULL AND NOT EXISTS (SELECT FROM roster_practices_after p WHERE p.id = s.practice)`

	// clientElsewhere: DOMAIN rule 106. It does not say whose the id is.
	clientElsewhere = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'id', 'cannot be used in this practice: ids are unique across practices'
  FROM roster_clients s JOIN clients c ON c.id = s.id
 WHERE c.practice <> s.practice`

	clientAssigned = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'assigned', CASE WHEN m.user_id IS NULL THEN 'is no member of the practice' ELSE 'is a removed member' END
  FROM roster_clients s LEFT JOIN roster_members_after m ON m.practice = s.practice AND m.user_id = s.assigned
 WHERE s.assigned <> '' AND s.practice IS NOT NULL AND (m.user_id IS NULL OR m.status = 'removed')`

	clientEmailTwice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'email', 'another client of the practice has this e-mail in', f.file, f.line
  FROM (SELECT practice, email_folded, min(n) AS first FROM roster_clients
         WHERE email_folded IS NOT NULL AND practice IS NOT NULL GROUP BY practice, email_folded HAVING count(*) > 1) t
  JOIN roster_clients s ON s.practice = t.practice AND s.email_folded = t.email_folded AND s.n <> t.first
  JOIN roster_clients f ON f.n = t.first
 WHERE s.id <> f.id`

	// clientEmailTaken leaves out who gives his e-mail up in the same import.
	clientEmailTaken = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'email', 'another client of the practice has this e-mail'
  FROM roster_clients s JOIN clients c ON c.practice = s.practice AND c.email_folded = s.email_folded AND c.id <> s.id
 WHERE s.email_folded IS NOT NULL
   AND NOT EXISTS (SELECT FROM roster_clients o WHERE o.id = c.id AND o.email IS NOT NULL)`

	grantWithoutClient = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'client', 'there is no such client'
  FROM roster_grants_ready r WHERE r.practice IS NULL`

	grantWithoutMember = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'user', CASE WHEN m.user_id IS NULL THEN 'is no member of the client''s practice' ELSE 'is a removed member' END
  FROM roster_grants_ready r LEFT JOIN roster_members_after m ON m.practice = r.practice AND m.user_id = r.user_id
 WHERE r.practice IS NOT NULL AND (m.user_id IS NULL OR m.status = 'removed')`

	grantEndsEarly = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'expires_at',
       CASE WHEN s.not_before IS NULL AND r.existing IS NULL THEN 'lies in the past; a grant that has ended must say not_before' ELSE 'must be later than the beginning' END
  FROM roster_grants_ready r JOIN roster_grants s ON s.n = r.n
 WHERE r.expires_at <= r.not_before`

	grantTwice = `
INSERT INTO roster_faults
SELECT DISTINCT ON (r.n) r.file, r.line, 'not_before', 'overlaps the grant of the same user on the same client in', f.file, f.line
  FROM roster_grants_ready r
  JOIN roster_grants_ready f ON f.client = r.client AND f.user_id = r.user_id AND f.n < r.n
   AND f.not_before < r.expires_at AND r.not_before < f.expires_at
 ORDER BY r.n, f.n`

	// grantOverlaps leaves out the grants that the files speak of: those are
	// compared as they will be, by grantTwice.
	grantOverlaps = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'not_before', 'overlaps a grant that this user has on this client'
  FROM roster_grants_ready r
 WHERE EXISTS (SELECT FROM grants g WHERE g.client = r.client AND g.user_id = r.user_id
                  AND g.not_before < r.expires_at AND r.not_before < g.expires_at
                  AND NOT EXISTS (SELECT FROM roster_grants_ready x WHERE x.existing = g.id))`

	// selectFaults counts all and returns the first $1.
	selectFaults = `
SELECT file, line, col, why, other_file, other_line, count(*) OVER ()
  FROM roster_faults ORDER BY file, line, col, why LIMIT $1`
)
