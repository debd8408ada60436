package roster

// What will be there of contacts and the portal after the import, as far as
// others refer to it.
const (
	createContactsAfter = `
CREATE TEMP TABLE roster_contacts_after ON COMMIT DROP AS
SELECT coalesce(s.id, k.id) AS id, coalesce(s.practice, k.practice) AS practice, coalesce(nullif(s.client, ''), k.client) AS client,
       s.n, CASE WHEN s.email IS NULL THEN k.email_folded ELSE s.email_folded END AS email_folded
  FROM roster_contacts s FULL JOIN contacts k ON k.id = s.id`

	// createPortalReady adds to each row its practice, who the contact is, and
	// what is there already. $1 the actor.
	createPortalReady = `
CREATE TEMP TABLE roster_portal_ready ON COMMIT DROP AS
SELECT s.*, $1::text AS linked_by, coalesce(c.practice, sc.practice) AS practice, k.practice AS contact_practice, k.client AS person,
       a.client IS NOT NULL AS existing, a.relationship AS old_relationship,
       coalesce(nullif(s.relationship, ''), a.relationship) AS wanted,
       CASE WHEN s.login IS NULL THEN a.login::text ELSE nullif(s.login, '') END AS login_after
  FROM roster_portal s
  LEFT JOIN clients c ON c.id = s.client
  LEFT JOIN (SELECT id, min(practice) AS practice FROM roster_clients
              WHERE id IN (SELECT client FROM roster_portal) GROUP BY id) sc ON sc.id = s.client
  LEFT JOIN roster_contacts_after k ON k.id = s.contact
  LEFT JOIN portal_access a ON a.client = s.client AND a.contact = s.contact`

	// createStarsAfter are the profiles that point to another one.
	createStarsAfter = `
CREATE TEMP TABLE roster_stars_after ON COMMIT DROP AS
SELECT client::text, person::text, n FROM roster_portal_ready WHERE wanted = 'self' AND person IS NOT NULL
UNION ALL
SELECT t.client, t.primary_profile, NULL FROM profile_stars t WHERE NOT t.is_primary
   AND NOT EXISTS (SELECT FROM roster_portal_ready r WHERE r.wanted = 'self' AND r.client = t.client AND r.person = t.primary_profile)`
)

const (
	// clientEmailOfContact: an e-mail passes from a contact to a client in two imports.
	clientEmailOfContact = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'email', 'a contact of the practice has this e-mail'
  FROM roster_clients s JOIN contacts k ON k.practice = s.practice AND k.email_folded = s.email_folded`

	clientEmailOfStar = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'email', CASE WHEN t.is_primary THEN 'cannot be taken away: other profiles of this client rest on it'
         ELSE 'cannot be given: this profile is linked to another one, which has the e-mail' END
  FROM roster_clients s JOIN profile_stars t ON t.client = s.id
 WHERE s.email IS NOT NULL AND (s.email_folded IS NOT NULL) <> t.is_primary`

	contactTwice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'id', 'this contact stands already in', f.file, f.line
  FROM (SELECT id, min(n) AS first FROM roster_contacts GROUP BY id HAVING count(*) > 1) t
  JOIN roster_contacts s ON s.id = t.id AND s.n <> t.first
  JOIN roster_contacts f ON f.n = t.first`

	contactWithoutPractice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'practice', 'there is no such practice'
  FROM roster_contacts s
 WHERE s.practice IS NOT NULL AND NOT EXISTS (SELECT FROM roster_practices_after p WHERE p.id = s.practice)`

	contactElsewhere = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'id', 'cannot be used in this practice: ids are unique across practices'
  FROM roster_contacts s JOIN contacts k ON k.id = s.id
 WHERE k.practice <> s.practice`

	contactWho = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'name', CASE WHEN a.client IS NULL THEN 'is missing; only a contact who is a client has his name there'
         ELSE 'and e-mail of a contact who is a client stand there' END
  FROM roster_contacts s JOIN roster_contacts_after a ON a.id = s.id AND a.n = s.n LEFT JOIN contacts k ON k.id = s.id
 WHERE CASE WHEN a.client IS NULL THEN coalesce(s.name, k.name, '') = '' ELSE coalesce(s.name, '') <> '' OR coalesce(s.email, '') <> '' END`

	contactClient = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'client', 'is no client of the practice'
  FROM roster_contacts s
 WHERE s.client <> '' AND NOT EXISTS (SELECT FROM clients c WHERE c.id = s.client AND c.practice = s.practice)
   AND NOT EXISTS (SELECT FROM roster_clients c WHERE c.id = s.client AND c.practice = s.practice)`

	contactChanged = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'client', 'cannot be changed: who a contact is stays'
  FROM roster_contacts s JOIN contacts k ON k.id = s.id
 WHERE s.client IS NOT NULL AND s.client <> coalesce(k.client, '')`

	contactClientTwice = `
INSERT INTO roster_faults
SELECT DISTINCT ON (s.n) s.file, s.line, 'client', 'another contact is this client already'
  FROM roster_contacts s JOIN roster_contacts_after a ON a.client = s.client AND a.id <> s.id
 WHERE s.client <> ''`

	// contactEmail compares with clients and contacts as they will be.
	contactEmail = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'email', 'another client or contact of the practice has this e-mail'
  FROM roster_contacts s
 WHERE s.email_folded IS NOT NULL AND (
       EXISTS (SELECT FROM roster_contacts_after a WHERE a.practice = s.practice AND a.email_folded = s.email_folded AND a.id <> s.id)
    OR EXISTS (SELECT FROM roster_clients c WHERE c.practice = s.practice AND c.email_folded = s.email_folded)
    OR EXISTS (SELECT FROM emails e WHERE e.practice = s.practice AND e.folded = s.email_folded
         AND NOT EXISTS (SELECT FROM contacts k WHERE k.practice = e.practice AND k.email_folded = e.folded)
         AND NOT EXISTS (SELECT FROM clients c JOIN roster_clients o ON o.id = c.id AND o.email IS NOT NULL
                          WHERE c.practice = e.practice AND c.email_folded = e.folded)))`

	portalTwice = `
INSERT INTO roster_faults
SELECT s.file, s.line, 'contact', 'this contact of the client stands already in', f.file, f.line
  FROM (SELECT client, contact, min(n) AS first FROM roster_portal GROUP BY client, contact HAVING count(*) > 1) t
  JOIN roster_portal s ON s.client = t.client AND s.contact = t.contact AND s.n <> t.first
  JOIN roster_portal f ON f.n = t.first`

	portalWithoutClient = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'client', 'there is no such client'
  FROM roster_portal_ready r WHERE r.practice IS NULL`

	portalWithoutContact = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'contact', 'is no contact of the client''s practice'
  FROM roster_portal_ready r
 WHERE r.contact <> 'client' AND r.practice IS NOT NULL AND r.contact_practice IS DISTINCT FROM r.practice`

	portalRelationship = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'relationship', CASE WHEN r.contact = 'client' THEN 'is none of the client himself'
         WHEN r.wanted IS NULL THEN 'is missing' ELSE 'cannot be changed: the contact has another one' END
  FROM roster_portal_ready r
 WHERE CASE WHEN r.contact = 'client' THEN r.wanted IS NOT NULL
            ELSE r.wanted IS NULL OR (r.existing AND r.wanted <> r.old_relationship) END`

	portalSelf = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'contact', CASE WHEN r.person IS NULL THEN 'is no client, and so cannot be this one himself' ELSE 'is the client himself: write client' END
  FROM roster_portal_ready r
 WHERE (r.wanted = 'self' AND r.person IS NULL AND r.contact_practice IS NOT NULL) OR r.person = r.client`

	portalLogin = `
INSERT INTO roster_faults
SELECT DISTINCT ON (r.n) r.file, r.line, 'login', 'is another contact of this client'
  FROM roster_portal_ready r
 WHERE r.login_after IS NOT NULL AND (
       EXISTS (SELECT FROM roster_portal_ready o WHERE o.client = r.client AND o.n <> r.n AND o.login_after = r.login_after)
    OR EXISTS (SELECT FROM portal_access a WHERE a.client = r.client AND a.login = r.login_after AND a.contact <> r.contact
         AND NOT EXISTS (SELECT FROM roster_portal_ready o WHERE o.client = a.client AND o.contact = a.contact)))`

	// portalStar: the profiles of one person point to the one that has the e-mail
	// (DOMAIN rule 137).
	portalStar = `
INSERT INTO roster_faults
SELECT r.file, r.line, 'contact', w.why
  FROM roster_portal_ready r
  CROSS JOIN LATERAL (SELECT CASE
         WHEN EXISTS (SELECT FROM roster_stars_after t WHERE t.client = r.person) THEN 'is linked to another profile himself: name the primary one'
         WHEN EXISTS (SELECT FROM roster_stars_after t WHERE t.person = r.client) THEN 'cannot be the primary profile: others point to this one'
         WHEN EXISTS (SELECT FROM roster_stars_after t WHERE t.client = r.client AND t.person <> r.person) THEN 'cannot be the primary profile: this one has another'
         WHEN NOT coalesce((SELECT s.email_folded IS NOT NULL FROM roster_clients s WHERE s.id = r.person AND s.email IS NOT NULL LIMIT 1),
                           (SELECT c.has_email FROM clients c WHERE c.id = r.person), false) THEN 'has no e-mail, which the portal login rests on'
         WHEN coalesce((SELECT s.email_folded IS NOT NULL FROM roster_clients s WHERE s.id = r.client AND s.email IS NOT NULL LIMIT 1),
                       (SELECT c.has_email FROM clients c WHERE c.id = r.client), false) THEN 'cannot be the primary profile while this one has an e-mail' END AS why) w
 WHERE r.wanted = 'self' AND r.person IS NOT NULL AND r.person <> r.client AND w.why IS NOT NULL`
)

// Writes of contacts and of the portal; see kindWrites.
const (
	settleContacts = `
DELETE FROM roster_contacts s USING contacts k
 WHERE k.id = s.id AND k.name = coalesce(s.name, k.name) AND (s.email IS NULL OR s.email = coalesce(k.email, ''))`

	updateContacts = `
WITH written AS (
UPDATE contacts k SET name = coalesce(s.name, k.name), email = CASE WHEN s.email IS NULL THEN k.email ELSE nullif(s.email, '') END
  FROM roster_contacts s
 WHERE k.id = s.id AND s.n > $1 AND s.n <= $2
RETURNING k.practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	forgetContacts = `DELETE FROM roster_contacts s USING contacts k WHERE k.id = s.id`

	insertContacts = `
WITH written AS (
INSERT INTO contacts (id, practice, client, name, email)
SELECT id, practice, nullif(client, ''), coalesce(name, ''), nullif(email, '') FROM roster_contacts WHERE n > $1 AND n <= $2
RETURNING practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	settlePortal = `
DELETE FROM roster_portal_ready r USING portal_access a
 WHERE a.client = r.client AND a.contact = r.contact
   AND a.login IS NOT DISTINCT FROM r.login_after AND a.enabled = coalesce(r.enabled, a.enabled)
   AND (r.permissions IS NULL OR (r.permissions @> a.permissions AND r.permissions <@ a.permissions))`

	insertStars = `
INSERT INTO profile_stars (practice, client, primary_profile)
SELECT DISTINCT practice, person, person FROM roster_portal_ready WHERE wanted = 'self' AND NOT existing
    ON CONFLICT (client) DO NOTHING;
INSERT INTO profile_stars (practice, client, primary_profile)
SELECT practice, client, person FROM roster_portal_ready WHERE wanted = 'self' AND NOT existing
    ON CONFLICT (client) DO NOTHING`

	updatePortal = `
WITH written AS (
UPDATE portal_access a
   SET login = r.login_after, enabled = coalesce(r.enabled, a.enabled), permissions = coalesce(r.permissions, a.permissions),
       accepted_at = CASE WHEN r.login_after IS NULL THEN NULL WHEN a.login = r.login_after THEN a.accepted_at ELSE now() END
  FROM roster_portal_ready r
 WHERE a.client = r.client AND a.contact = r.contact AND r.n > $1 AND r.n <= $2
RETURNING a.practice)
SELECT practice, count(*) FROM written GROUP BY practice`

	forgetPortal = `DELETE FROM roster_portal_ready WHERE existing`

	// insertPortal: the client himself has his access switched on, others only
	// if the file says so. Who has a login has accepted.
	insertPortal = `
WITH written AS (
INSERT INTO portal_access (practice, client, contact, relationship, login, enabled, permissions, invited_at, accepted_at)
SELECT practice, client, contact, wanted, login_after, coalesce(enabled, contact = 'client'), coalesce(permissions, '{}'),
       CASE WHEN login_after IS NOT NULL THEN now() END, CASE WHEN login_after IS NOT NULL THEN now() END
  FROM roster_portal_ready WHERE n > $1 AND n <= $2
RETURNING practice, client, contact),
linked AS (
INSERT INTO contact_links (practice, client, contact, linked_by)
SELECT practice, client, contact, linked_by FROM roster_portal_ready WHERE n > $1 AND n <= $2 AND contact <> 'client')
SELECT practice, count(*) FROM written GROUP BY practice`
)
