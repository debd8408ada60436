package search

// The lists themselves are written by package compile.
const (
	// The clock, the snapshot and whether this is a replica: the first statement
	// of a snapshot. Every list is a page in the order of an index: to collect
	// all rows and sort them is never better, and is what Postgres may do with a
	// table that it has no statistics of yet.
	selectMoment = `SELECT clock_timestamp(), pg_current_snapshot()::text, pg_is_in_recovery(), coalesce((SELECT serial FROM activation), 0), ` + setPlans
	selectPlans  = `SELECT ` + setPlans
	setPlans     = `set_config('enable_bitmapscan', 'off', true) || set_config('jit', 'off', true)`

	// What all rows of a list had in common at $1: $2 practice, $3 user or ”, $4
	// client or ”.
	selectThen = `SELECT p.preset, p.overrides,
			m.id::text, m.roles, m.status, m.owner, m.full_clinical_access, m.billing_enabled, c.id, c.assigned, c.status
		FROM practices_history p
		LEFT JOIN members_history m ON m.practice = p.id AND m.user_id = $3 AND m.valid_from <= $1 AND $1 < m.valid_to
		LEFT JOIN clients_history c ON c.practice = p.id AND c.id = $4 AND c.valid_from <= $1 AND $1 < c.valid_to
		WHERE p.id = $2 AND p.valid_from <= $1 AND $1 < p.valid_to`

	selectMember = `SELECT EXISTS (SELECT FROM members WHERE practice = $1 AND user_id = $2)`

	// Whether the policy was replaced after $1.
	selectReplaced = `SELECT EXISTS (SELECT FROM activation WHERE at > $1 AND serial > 1)`

	// The practices of a user, from one on: $2 "from", $3 all, or those of $4.
	selectPractices = `SELECT practice FROM members WHERE user_id = $1 AND practice >= $2 AND ($3 OR practice = ANY ($4::text[])) ORDER BY practice`

	// The members of a practice after one, as facts.
	selectMembers = `SELECT user_id, id::text, roles, status, owner, full_clinical_access, billing_enabled
		FROM members WHERE practice = $1 AND user_id > $2 ORDER BY user_id LIMIT $3`

	// The portal logins of a client after one.
	selectLogins = `SELECT login FROM portal_access WHERE client = $1 AND login > $2 ORDER BY login LIMIT $3`

	// The clients with a portal access of a login, after one: $2, $3 practice and
	// client, $4 all, or those of $5.
	selectProfiles = `SELECT practice, client FROM portal_access
		WHERE login = $1 AND (practice, client) > ($2, $3) AND ($4 OR practice = ANY ($5::text[])) ORDER BY practice, client LIMIT $6`
)
