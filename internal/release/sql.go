package release

const (
	releaseParts = `id, state, title, author, made_at, coalesce(base, ''), version, content, coalesce(approver, ''), approved_at, coalesce(revision, 0)`

	insertRelease = `INSERT INTO releases (id, state, title, author, base, source, content, evidence) VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7, $8)`
	insertShipped = `INSERT INTO releases (id, state, title, author, source, content, evidence, approver, approved_at, revision, bundle)
		VALUES ($1, 'retired', $2, $3, $4, $5, $6, $3, clock_timestamp(), $7, $8) ON CONFLICT (id) DO NOTHING`

	selectRelease  = `SELECT ` + releaseParts + `, evidence FROM releases WHERE id = $1`
	lockRelease    = selectRelease + ` FOR UPDATE`
	selectSource   = `SELECT source FROM releases WHERE id = $1`
	selectBundle   = `SELECT bundle FROM releases WHERE id = $1 AND bundle IS NOT NULL`
	selectReleases = `SELECT ` + releaseParts + ` FROM releases WHERE state = ANY ($1) AND ($2 = '' OR (made_at, id) < ((SELECT made_at FROM releases WHERE id = $2), $2)) ORDER BY made_at DESC, id DESC LIMIT $3`
	countDrafts    = `SELECT count(*) FROM releases WHERE state IN ('draft', 'verified', 'reviewed')`
	lockDrafts     = `SELECT pg_advisory_xact_lock(hashtext('chartgate releases'))`
	updateDraft    = `UPDATE releases SET title = $2, source = $3, content = $4, evidence = $5, state = $6, base = NULL, version = version + 1 WHERE id = $1`
	updateEvidence = `UPDATE releases SET evidence = $2, state = $3 WHERE id = $1`
	updateBeat     = `UPDATE releases SET evidence = jsonb_set(evidence, ARRAY[$2::text], (evidence -> $2::text) ||
		jsonb_build_object('beat_at', clock_timestamp(), 'done', $4::bigint, 'total', $5::bigint)) WHERE id = $1 AND evidence -> $2::text ->> 'run' = $3`
	updateState      = `UPDATE releases SET state = $2 WHERE id = $1`
	updateApproved   = `UPDATE releases SET state = 'approved', approver = $2, approved_at = clock_timestamp(), revision = $3, bundle = $4, base = nullif($5, '') WHERE id = $1`
	updateSignature  = `UPDATE releases SET revision = $2, bundle = $3 WHERE id = $1`
	deleteRelease    = `DELETE FROM releases WHERE id = $1`
	nextRevision     = `SELECT nextval('release_revision')`
	selectCustomised = `SELECT EXISTS (SELECT FROM releases WHERE author <> $1 AND state IN ('approved', 'active', 'retired'))`
	selectServed     = `SELECT r.id, r.content, r.revision, r.bundle FROM releases r LEFT JOIN activation a ON a.release = r.id
		WHERE r.bundle IS NOT NULL AND (r.id = $1 OR r.content = $1) ORDER BY (a.release IS NOT NULL) DESC, r.revision DESC LIMIT 1`

	lockActivationRow = `SELECT FROM activation FOR UPDATE`
	insertActivation  = `INSERT INTO activation (serial, release, content, revision) VALUES (1, $1, $2, $3)`
	updateActivation  = `UPDATE activation SET serial = serial + 1, release = $1, content = $2, revision = $3,
		candidate = NULL, candidate_content = NULL, candidate_revision = NULL, stage = NULL, share = NULL, at = clock_timestamp()`
	updateCandidate = `UPDATE activation SET serial = serial + 1, candidate = $1, candidate_content = $2, candidate_revision = $3, stage = $4, share = $5, at = clock_timestamp()`
	clearCandidate  = `UPDATE activation SET serial = serial + 1, candidate = NULL, candidate_content = NULL, candidate_revision = NULL, stage = NULL, share = NULL, at = clock_timestamp()`

	// A change rests on the policy that allowed it: the activation cannot change
	// until the change is committed.
	selectDecides = `SELECT release, content FROM activation`
	holdDecides   = selectDecides + ` FOR SHARE`

	// How the activation went, as its change records tell it; what is about no
	// practice is little, and changes_at finds it.
	selectTurns = `SELECT id, at, action, before, after FROM changes WHERE practice IS NULL
		AND action IN ('policy.activate', 'policy.stage', 'policy.withdraw') ORDER BY id`
	selectActivatedAt  = `SELECT at FROM activation`
	selectPurgedMonths = `SELECT DISTINCT month::timestamptz FROM purged ORDER BY 1`

	// What decided last at $1, and first between $1 and $2. A list may rest on the
	// policy of another moment, and what was not decided on none.
	selectDecidedAround = `SELECT
		coalesce((SELECT release FROM decisions WHERE at <= $1 AND code NOT IN ('listed', 'unavailable') ORDER BY at DESC LIMIT 1), ''),
		coalesce((SELECT release FROM decisions WHERE at > $1 AND at < $2 AND code NOT IN ('listed', 'unavailable') ORDER BY at LIMIT 1), '')`
	selectBundleOf = `SELECT id, content, revision, bundle FROM releases WHERE bundle IS NOT NULL AND content = $2 AND ($1 = '' OR id = $1) ORDER BY revision DESC LIMIT 1`

	upsertSidecar  = `INSERT INTO sidecars (id, report) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET report = excluded.report, at = clock_timestamp()`
	selectSidecars = `SELECT id, at, extract(epoch FROM clock_timestamp() - at)::float8, report FROM sidecars ORDER BY id LIMIT $1`
	forgetSidecars = `DELETE FROM sidecars WHERE at < clock_timestamp() - interval '1 day'`
	countSidecars  = `SELECT count(*) FROM sidecars WHERE id <> $1`
)
