package grants

// Locks (see lock). The actor's and the members' rows are held against change
// until the end of the transaction: FOR SHARE lets others read and hold them too.
const (
	selectPractice = `SELECT preset, overrides FROM practices WHERE id = $1`
	sharePractice  = selectPractice + ` FOR SHARE`
	holdPractice   = selectPractice + ` FOR NO KEY UPDATE`

	selectClient = `SELECT id, assigned, status FROM clients WHERE practice = $1 AND id = $2`
	shareClient  = selectClient + ` FOR SHARE`
	holdClient   = selectClient + ` FOR UPDATE`

	shareMembers = `SELECT ` + memberColumns + ` FROM members m WHERE m.practice = $1 AND m.user_id = ANY ($2) ORDER BY m.user_id FOR SHARE`

	selectClock = `SELECT clock_timestamp()`
)

// Members.
const (
	memberColumns = `m.user_id, m.id::text, m.name, m.roles, m.status, m.owner, m.full_clinical_access, m.billing_enabled`

	selectMembers = `SELECT ` + memberColumns + ` FROM members m WHERE m.practice = $1 ORDER BY m.user_id`

	insertUser = `INSERT INTO users (id) VALUES ($1) ON CONFLICT DO NOTHING`

	// A removed member's row is used again, under a new membership id and with
	// nothing of the old membership but the user (DOMAIN rule 58).
	insertMember = `INSERT INTO members AS m (practice, user_id, name, email, roles, status) VALUES ($1, $2, $3, nullif($4, ''), $5, 'invited')
		ON CONFLICT (practice, user_id) DO UPDATE SET id = gen_random_uuid(), name = excluded.name, email = excluded.email,
			roles = excluded.roles, status = 'invited', owner = false, full_clinical_access = false, billing_enabled = true, created_at = now()
		WHERE m.status = 'removed'
		RETURNING ` + memberColumns

	acceptMember = `UPDATE members m SET status = 'active' WHERE practice = $1 AND user_id = $2 AND status = 'invited' RETURNING ` + memberColumns

	updateMember = `UPDATE members m SET roles = $3, billing_enabled = $4, full_clinical_access = $5
		WHERE practice = $1 AND user_id = $2 RETURNING ` + memberColumns

	removeMember = `UPDATE members SET status = 'removed', full_clinical_access = false WHERE practice = $1 AND user_id = $2`

	countOtherAdministrators = `SELECT count(*) FROM members
		WHERE practice = $1 AND user_id <> $2 AND status = 'active' AND 'administrator' = ANY (roles)`
)

// Assignment.
const (
	selectAssigned = `SELECT coalesce(assigned, '') FROM clients WHERE practice = $1 AND id = $2`

	holdAssignedClients = `SELECT id, assigned, status FROM clients WHERE practice = $1 AND assigned = $2 ORDER BY id FOR UPDATE`

	updateAssigned = `UPDATE clients SET assigned = nullif($3, '') WHERE practice = $1 AND id = $2`

	clearAssigned = `UPDATE clients SET assigned = NULL WHERE practice = $1 AND assigned = $2`
)

// Grants. An open grant is one that has not ended: in force, or still to come.
const (
	grantColumns = `g.id::text, g.user_id, g.scope, g.not_before, g.expires_at, g.reason, g.granted_by, g.granted_at`

	selectOpenGrants = `SELECT ` + grantColumns + ` FROM grants g WHERE g.practice = $1 AND g.client = $2 AND g.expires_at > $3
		ORDER BY g.user_id, g.not_before`

	selectOpenGrantsOf = `SELECT g.client, ` + grantColumns + ` FROM grants g WHERE g.practice = $1 AND g.user_id = $2 AND g.expires_at > $3
		ORDER BY g.client, g.not_before`

	selectGrant = `SELECT ` + grantColumns + ` FROM grants g WHERE g.practice = $1 AND g.client = $2 AND g.id::text = $3`

	selectClosedGrant = `SELECT EXISTS (SELECT FROM grants_history h WHERE h.practice = $1 AND h.client = $2 AND h.id::text = $3)`

	insertGrant = `INSERT INTO grants AS g (practice, client, user_id, scope, not_before, expires_at, reason, granted_by, granted_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ` + grantColumns

	deleteGrant = `DELETE FROM grants WHERE id = $1::text::uuid`

	deleteGrantsOf = `DELETE FROM grants WHERE practice = $1 AND user_id = $2`

	// Version, members and grants in one statement, so that the version is that
	// of the grants shown. $3 is the present.
	selectAccess = `SELECT coalesce((SELECT version FROM grant_versions WHERE client = $2), 0), ` + memberColumns + `,
			g.id::text, g.scope, g.not_before, g.expires_at, g.reason, g.granted_by, g.granted_at
		FROM members m
		LEFT JOIN grants g ON g.practice = m.practice AND g.client = $2 AND g.user_id = m.user_id AND g.expires_at > $3
		WHERE m.practice = $1 AND m.status <> 'removed'
		ORDER BY m.user_id, g.not_before`

	selectVersion = `SELECT coalesce((SELECT version FROM grant_versions WHERE client = $1), 0)`
)

// selectGiven finds who gave the grant that begins at $4, and why.
const selectGiven = `SELECT granted_by, reason FROM grants WHERE practice = $1 AND client = $2 AND user_id = $3 AND not_before = $4`

// Settings.
const updateSettings = `UPDATE practices SET preset = $2, overrides = $3 WHERE id = $1`

// insertMemberNotices tells the other administrators that $2 switched his own
// full clinical access to $3.
const insertMemberNotices = `INSERT INTO notices (kind, practice, member, details)
	SELECT 'full_clinical_access', practice, user_id, jsonb_build_object('user', $2::text, 'enabled', $3::boolean)
	  FROM members WHERE practice = $1 AND status = 'active' AND 'administrator' = ANY (roles) AND user_id <> $2`
