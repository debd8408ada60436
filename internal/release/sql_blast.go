package release

const (
	selectSnapshot = `SELECT clock_timestamp(), current_setting('transaction_isolation')`

	// The next practices of a walk through all of them, or through those named.
	selectPractices = `SELECT id, preset, overrides FROM practices
		WHERE id > $1 AND ($2::text[] IS NULL OR id = ANY ($2::text[])) ORDER BY id LIMIT $3`

	selectSettings = `SELECT preset, overrides FROM practices WHERE id = $1`

	// Members of a practice by what the facts say of them beside their ids.
	selectKinds = `SELECT roles, status, owner, full_clinical_access, billing_enabled, count(*) FROM members WHERE practice = $1
		GROUP BY roles, status, owner, full_clinical_access, billing_enabled ORDER BY roles, status, owner, full_clinical_access, billing_enabled`
)
