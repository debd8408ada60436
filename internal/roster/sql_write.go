package roster

// kindWrites brings the staged rows of one kind into the facts, in five steps:
// settle forgets the rows that change nothing; prepare does what the others
// wait for; update writes what is there and changes; forget forgets those;
// insert writes the rest. Update and insert take the rows $1 < n <= $2 and
// return how many they wrote, by practice.
type kindWrites struct{ kind, settle, prepare, update, forget, insert string }

var writes = []kindWrites{
	{Practices, settlePractices, "", updatePractices, forgetPractices, insertPractices},
	{Members, settleMembers, insertUsers, updateMembers, forgetMembers, insertMembers},
	{Clients, settleClients, releaseEmails, updateClients, forgetClients, insertClients},
	{Grants, settleGrants, "", updateGrants, forgetGrants, insertGrants},
}

const (
	settlePractices = `
DELETE FROM roster_practices s USING practices p
 WHERE p.id = s.id AND p.name = coalesce(s.name, p.name) AND p.preset = coalesce(s.preset, p.preset)
   AND p.overrides = coalesce(s.overrides::jsonb, p.overrides)`

	updatePractices = `
WITH written AS (
UPDATE practices p
   SET name = coalesce(s.name, p.name), preset = coalesce(s.preset, p.preset), overrides = coalesce(s.overrides::jsonb, p.overrides)
  FROM roster_practices s
 WHERE p.id = s.id AND s.n > $1 AND s.n <= $2
RETURNING p.id)
SELECT id, count(*) FROM written GROUP BY id`

	forgetPractices = `DELETE FROM roster_practices s USING practices p WHERE p.id = s.id`

	insertPractices = `
WITH written AS (
INSERT INTO practices (id, name, preset, overrides)
SELECT id, coalesce(name, ''), coalesce(preset, 'seed'), coalesce(overrides::jsonb, '{}')
  FROM roster_practices WHERE n > $1 AND n <= $2
RETURNING id)
SELECT id, count(*) FROM written GROUP BY id`

	// settleMembers: the order of roles says nothing.
	settleMembers = `
DELETE FROM roster_members s USING members m
 WHERE m.practice = s.practice AND m.user_id = s.user_id
   AND m.name = s.name
   AND (s.email IS NULL OR s.email = coalesce(m.email, ''))
   AND (s.roles IS NULL OR (s.roles @> m.roles AND s.roles <@ m.roles))
   AND m.status = coalesce(s.status, m.status) AND m.owner = coalesce(s.owner, m.owner)
   AND m.full_clinical_access = coalesce(s.full_clinical_access, m.full_clinical_access)
   AND m.billing_enabled = coalesce(s.billing_enabled, m.billing_enabled)`

	insertUsers = `INSERT INTO users (id) SELECT DISTINCT user_id FROM roster_members ON CONFLICT DO NOTHING`

	// updateMembers: who was removed and comes back is another membership, and
	// nothing of the old one revives (DOMAIN rule 58). Removal takes full
	// clinical access.
	updateMembers = `
WITH written AS (
UPDATE members m
   SET id = CASE WHEN m.status = 'removed' AND s.status <> 'removed' THEN gen_random_uuid() ELSE m.id END,
       name = s.name, email = CASE WHEN s.email IS NULL THEN m.email ELSE nullif(s.email, '') END,
       roles = coalesce(s.roles, m.roles), status = coalesce(s.status, m.status), owner = coalesce(s.owner, m.owner),
       full_clinical_access = coalesce(s.full_clinical_access, m.full_clinical_access AND coalesce(s.status, m.status) <> 'removed'),
       billing_enabled = coalesce(s.billing_enabled, m.billing_enabled)
  FROM roster_members s
 WHERE m.practice = s.practice AND m.user_id = s.user_id AND s.n > $1 AND s.n <= $2
RETURNING m.practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	forgetMembers = `DELETE FROM roster_members s USING members m WHERE m.practice = s.practice AND m.user_id = s.user_id`

	insertMembers = `
WITH written AS (
INSERT INTO members (practice, user_id, name, email, roles, status, owner, full_clinical_access, billing_enabled)
SELECT practice, user_id, name, nullif(email, ''), coalesce(roles, '{}'), coalesce(status, 'active'), coalesce(owner, false),
       coalesce(full_clinical_access, false), coalesce(billing_enabled, true)
  FROM roster_members WHERE n > $1 AND n <= $2
RETURNING practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	settleClients = `
DELETE FROM roster_clients s USING clients c
 WHERE c.id = s.id AND c.first_name = s.first_name AND c.last_name = s.last_name AND c.label = coalesce(s.label, c.label)
   AND (s.email IS NULL OR s.email = coalesce(c.email, ''))
   AND (s.assigned IS NULL OR s.assigned = coalesce(c.assigned, ''))
   AND c.status = coalesce(s.status, c.status)`

	// releaseEmails lets clients of one import pass an e-mail on, whatever the
	// order in which their rows are written. Until theirs is, the givers have a
	// placeholder: who must have an e-mail has one at any time.
	releaseEmails = `
UPDATE clients c SET email = 'moving:' || md5(c.id)
  FROM roster_clients s
 WHERE c.id = s.id AND s.email IS NOT NULL AND c.email_folded IS DISTINCT FROM s.email_folded
   AND EXISTS (SELECT FROM roster_clients o WHERE o.practice = c.practice AND o.email_folded = c.email_folded AND o.id <> c.id)`

	updateClients = `
WITH written AS (
UPDATE clients c
   SET first_name = s.first_name, last_name = s.last_name, label = coalesce(s.label, c.label),
       email = CASE WHEN s.email IS NULL THEN c.email ELSE nullif(s.email, '') END,
       assigned = CASE WHEN s.assigned IS NULL THEN c.assigned ELSE nullif(s.assigned, '') END,
       status = coalesce(s.status, c.status)
  FROM roster_clients s
 WHERE c.id = s.id AND s.n > $1 AND s.n <= $2
RETURNING c.practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	// forgetClients puts the new clients into the order of their ids: rows that
	// come in the order of an index are written in a quarter less time.
	forgetClients = `
CREATE TEMP TABLE roster_clients_new ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY s.id) AS n, s.id, s.practice, s.assigned, s.status, s.first_name, s.last_name, s.label, s.email
  FROM roster_clients s WHERE NOT EXISTS (SELECT FROM clients c WHERE c.id = s.id)`

	insertClients = `
WITH written AS (
INSERT INTO clients (id, practice, assigned, status, first_name, last_name, label, email)
SELECT id, practice, nullif(assigned, ''), coalesce(status, 'active'), first_name, last_name, coalesce(label, ''), nullif(email, '')
  FROM roster_clients_new WHERE n > $1 AND n <= $2
RETURNING practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	settleGrants = `DELETE FROM roster_grants_ready WHERE existing IS NOT NULL AND NOT changed`

	updateGrants = `
WITH written AS (
UPDATE grants g
   SET scope = r.scope, expires_at = r.expires_at, reason = r.reason, granted_by = r.granted_by
  FROM roster_grants_ready r
 WHERE g.id = r.existing AND r.n > $1 AND r.n <= $2
RETURNING g.practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	forgetGrants = `DELETE FROM roster_grants_ready WHERE existing IS NOT NULL`

	insertGrants = `
WITH written AS (
INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, reason, granted_by)
SELECT practice, client, user_id, scope, not_before, expires_at, reason, granted_by
  FROM roster_grants_ready WHERE n > $1 AND n <= $2
 ORDER BY client, user_id, not_before
RETURNING practice)
SELECT practice, count(*) FROM written GROUP BY practice`
)

// Foreign keys are checked by cached plans, one row at a time. A plan that is
// made while members are few reads the whole table for each row; with these
// two around the inserts it takes the index.
const (
	byIndexOnly = `SET LOCAL enable_seqscan = off`
	byAnyPlan   = `SET LOCAL enable_seqscan = on`

	analyzeFacts = `ANALYZE practices, users, members, clients, grants, clients_history, grants_history, feed`
)
