package profiles

// Locks (see lock). The practice's and the members' rows are held against
// change until the end of the transaction: FOR SHARE lets others hold them too.
const (
	selectPractice = `SELECT preset, overrides, portal_features FROM practices WHERE id = $1`
	sharePractice  = selectPractice + ` FOR SHARE`
	holdPractice   = selectPractice + ` FOR NO KEY UPDATE`

	shareMembers = `SELECT user_id, id::text, roles, status, owner, full_clinical_access, billing_enabled
		FROM members WHERE practice = $1 AND user_id = ANY ($2) ORDER BY user_id FOR SHARE`

	selectActive = `SELECT EXISTS (SELECT FROM members WHERE practice = $1 AND user_id = $2 AND status = 'active')`

	lockClients  = `SELECT id FROM clients WHERE practice = $1 AND id = ANY ($2) ORDER BY id`
	shareClients = lockClients + ` FOR SHARE`
	holdClients  = lockClients + ` FOR UPDATE`

	selectClients = `SELECT c.id, c.first_name, c.last_name, c.label, coalesce(c.email, ''), coalesce(c.assigned, ''), c.status,
			c.portal_features, coalesce(s.primary_profile, '')
		FROM clients c LEFT JOIN profile_stars s ON s.client = c.id
		WHERE c.practice = $1 AND c.id = ANY ($2) ORDER BY c.id`
)

// Clients.
const (
	insertClient = `INSERT INTO clients (id, practice, assigned, first_name, last_name, label, email)
		VALUES ($1, $2, nullif($3, ''), $4, $5, $6, nullif(btrim($7), ''))`

	updateClient = `UPDATE clients SET first_name = $3, last_name = $4, label = $5, email = nullif(btrim($6), '') WHERE practice = $1 AND id = $2`

	updateStatus = `UPDATE clients SET status = $3 WHERE practice = $1 AND id = $2`

	deleteClient = `DELETE FROM clients WHERE practice = $1 AND id = $2`

	// What keeps a client from being deleted: profiles and contacts that are
	// linked to it, grants that were ever given, and decisions that let somebody
	// use its chart or its portal.
	selectHindrances = `SELECT
		EXISTS (SELECT FROM profile_stars WHERE client = $2 OR (practice = $1 AND primary_profile = $2)) OR
		EXISTS (SELECT FROM contacts k JOIN contact_links l ON l.practice = k.practice AND l.contact = k.id WHERE k.client = $2),
		EXISTS (SELECT FROM grants_history WHERE client = $2),
		EXISTS (SELECT FROM decisions WHERE client = $2 AND allow AND action = ANY ($3))`

	deletePerson = `DELETE FROM contacts WHERE practice = $1 AND client = $2`

	closeGrantOf = `DELETE FROM grants WHERE practice = $1 AND client = $2 AND user_id = $3 AND expires_at > clock_timestamp() RETURNING id::text`

	updateAssigned = `UPDATE clients SET assigned = $3 WHERE practice = $1 AND id = $2`
)

// Contacts and links.
const (
	contactColumns = `a.contact, coalesce(a.relationship, ''), coalesce(a.login, ''), a.enabled, a.permissions, a.invited_at, a.accepted_at,
			coalesce(k.client, ''), coalesce(p.first_name || ' ' || p.last_name, k.name, '')`

	selectContacts = `SELECT ` + contactColumns + `
		FROM portal_access a
		LEFT JOIN contacts k ON k.practice = a.practice AND k.id = a.contact
		LEFT JOIN clients p ON p.id = CASE WHEN a.own THEN a.client ELSE k.client END
		WHERE a.practice = $1 AND a.client = $2 AND ($3 = '' OR a.contact = $3) ORDER BY a.own DESC, a.contact`

	insertPerson = `INSERT INTO contacts (id, practice, name, email) VALUES ($1, $2, $3, nullif(btrim($4), ''))`

	insertClientPerson = `INSERT INTO contacts (id, practice, client) VALUES ($1, $2, $3) ON CONFLICT (client) WHERE client IS NOT NULL DO NOTHING`
	holdClientPerson   = `SELECT id FROM contacts WHERE practice = $1 AND client = $2 FOR KEY SHARE`

	selectPerson = `SELECT coalesce(client, '') FROM contacts WHERE practice = $1 AND id = $2`
	holdPerson   = selectPerson + ` FOR KEY SHARE`
	claimPerson  = `SELECT id FROM contacts WHERE practice = $1 AND id = $2 FOR UPDATE`

	selectPersonsClients = `SELECT client FROM contact_links WHERE practice = $1 AND contact = $2 ORDER BY client`

	insertAccess = `INSERT INTO portal_access (practice, client, contact, relationship, enabled, permissions) VALUES ($1, $2, $3, nullif($4, ''), $5, $6)`
	insertLink   = `INSERT INTO contact_links (practice, client, contact, linked_by) VALUES ($1, $2, $3, $4)`
	deleteAccess = `DELETE FROM portal_access WHERE practice = $1 AND client = $2 AND contact = $3`
	deleteOrphan = `DELETE FROM contacts k WHERE k.practice = $1 AND k.id = $2 AND NOT EXISTS (SELECT FROM contact_links l WHERE l.practice = k.practice AND l.contact = k.id)`

	insertPrimary   = `INSERT INTO profile_stars (practice, client, primary_profile) VALUES ($1, $2, $2) ON CONFLICT (client) DO NOTHING`
	insertSecondary = `INSERT INTO profile_stars (practice, client, primary_profile) VALUES ($1, $2, $3)`
	deleteSecondary = `DELETE FROM profile_stars WHERE practice = $1 AND client = $2 AND NOT is_primary`
	deletePrimary   = `DELETE FROM profile_stars p WHERE p.practice = $1 AND p.client = $2 AND p.is_primary
		AND NOT EXISTS (SELECT FROM profile_stars s WHERE s.practice = p.practice AND s.primary_profile = p.client AND NOT s.is_primary)`

	selectRelationship = `SELECT coalesce(relationship, '') FROM portal_access WHERE practice = $1 AND client = $2 AND contact = $3`

	// Whom a search finds: clients and contacts whose name or address holds $2,
	// after ($3, $4), by name and id. A client is found once, as a client.
	selectFound = `SELECT kind, id, name, label FROM (
			SELECT 'client' AS kind, id::text, first_name || ' ' || last_name AS name, label, coalesce(email_folded, '') AS email FROM clients WHERE practice = $1
			UNION ALL
			SELECT 'contact', id::text, name, '', coalesce(email_folded, '') FROM contacts WHERE practice = $1 AND client IS NULL) found
		WHERE (strpos(lower(name), lower($2)) > 0 OR strpos(email, lower($2)) > 0 OR strpos(lower(label), lower($2)) > 0)
		  AND (name COLLATE "C", id COLLATE "C") > ($3, $4)
		ORDER BY name COLLATE "C", id COLLATE "C" LIMIT $5`
)

// The portal.
const (
	updateAccess = `UPDATE portal_access SET enabled = $4, permissions = $5 WHERE practice = $1 AND client = $2 AND contact = $3`
	markInvited  = `UPDATE portal_access SET invited_at = clock_timestamp() WHERE practice = $1 AND client = $2 AND contact = $3`

	cancelInvitations = `UPDATE invitations SET cancelled_at = clock_timestamp()
		WHERE practice = $1 AND client = $2 AND contact = $3 AND used_at IS NULL AND cancelled_at IS NULL`
	insertInvitation = `INSERT INTO invitations (practice, client, contact, hash, created_by, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp() + $6) RETURNING expires_at`

	findInvitation = `SELECT practice, client FROM invitations WHERE hash = $1`
	holdInvitation = `SELECT i.contact, i.used_by IS NOT NULL AND i.used_by = $2, i.used_at IS NULL AND i.cancelled_at IS NULL AND clock_timestamp() < i.expires_at
		FROM invitations i WHERE i.hash = $1 FOR UPDATE`
	useInvitation = `UPDATE invitations SET used_at = clock_timestamp(), used_by = $2 WHERE hash = $1`

	// The logins of the person behind a contact of a client: of the client
	// himself, where he is one, and of every profile that he is a contact of.
	selectLoginsOf = `WITH person AS (
			SELECT CASE WHEN $3 = 'client' THEN $2::text ELSE (SELECT client::text FROM contacts WHERE practice = $1 AND id = $3) END AS client)
		SELECT DISTINCT a.login FROM portal_access a, person
		 WHERE a.practice = $1 AND a.login IS NOT NULL AND (
			(NOT a.own AND a.contact = $3) OR
			(a.own AND a.client = person.client) OR
			(NOT a.own AND a.contact IN (SELECT id FROM contacts k WHERE k.practice = $1 AND k.client = person.client)))`

	acceptAccess = `UPDATE portal_access SET login = $4, accepted_at = clock_timestamp() WHERE practice = $1 AND client = $2 AND contact = $3`

	selectEntries = `SELECT a.practice, a.client, a.own OR a.relationship = 'self', c.label FROM portal_access a JOIN clients c ON c.id = a.client
		WHERE a.login = $1 AND ($2 = '' OR a.client = $2) ORDER BY a.own DESC, a.client`

	updateOffered  = `UPDATE practices SET portal_features = $2 WHERE id = $1`
	updateNarrowed = `UPDATE clients SET portal_features = $3 WHERE practice = $1 AND id = $2`
)

// The second-profile workflow.
const (
	insertWorkflow = `INSERT INTO workflows (caller, practice, client, key, fingerprint, profile, steps) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (caller, practice, client, key) DO NOTHING`
	holdWorkflow = `SELECT id::text, fingerprint, profile, steps, answer FROM workflows
		WHERE caller = $1 AND practice = $2 AND client = $3 AND key = $4 FOR UPDATE`
	updateWorkflow = `UPDATE workflows SET steps = $2, answer = $3 WHERE id = $1::text::uuid`
)

// Notices.
const (
	insertNotice = `INSERT INTO notices (kind, practice, client, contact, details, correlation) VALUES ($1, $2, $3, $4, $5, $6)`

	// claimNotices takes due notices for a while: whoever took them and died
	// leaves them due again. $1 how many, $2 for how long.
	claimNotices = `UPDATE notices n SET attempts = n.attempts + 1, next_at = clock_timestamp() + $2
		FROM (SELECT id FROM notices WHERE delivered_at IS NULL AND dead_at IS NULL AND next_at <= clock_timestamp()
		       ORDER BY next_at, id LIMIT $1 FOR UPDATE SKIP LOCKED) due
		WHERE n.id = due.id RETURNING n.id, n.at, n.kind, n.practice, coalesce(n.client, ''), coalesce(n.contact, ''), coalesce(n.member, ''), n.details, n.correlation, n.attempts`

	markDelivered = `UPDATE notices SET delivered_at = clock_timestamp(), fault = '' WHERE id = $1 AND delivered_at IS NULL`
	markFailed    = `UPDATE notices SET next_at = clock_timestamp() + $2, fault = $3, dead_at = CASE WHEN $4 THEN clock_timestamp() END
		WHERE id = $1 AND delivered_at IS NULL`
)
