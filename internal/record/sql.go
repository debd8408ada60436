package record

const (
	insertChange = `INSERT INTO changes (practice, actor, action, target, client, before, after, reason, correlation, decision)
		VALUES (nullif($1, ''), $2, $3, nullif($4, ''), nullif($5, ''), $6, $7, $8, $9, $10)`

	insertDecision = `INSERT INTO decisions (id, at, practice, subject_type, subject_id, action, resource_type, resource_id, client,
			allow, code, bases, release, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`

	// Without a conflict target, so that it needs no right to read.
	insertSettings = `INSERT INTO record_settings (digest, text) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING`

	openChain = `SELECT last, head, closed FROM record_open($1, $2)`
	shipChain = `SELECT record_ship($1, $2, $3, $4)`
	gapChain  = `SELECT record_gap($1, $2, $3)`

	selectChains = `SELECT chain, spool, last, head, parent, parent_last, parent_head, closed FROM chains ORDER BY number`

	decisionParts = `d.id, d.at, d.practice, d.subject_type, d.subject_id, d.action, d.resource_type, d.resource_id, d.client,
		d.allow, d.code, d.bases, d.release, d.body`

	chainEntries = `SELECT d.seq, d.hash, ` + decisionParts + ` FROM decisions d WHERE d.chain = $1 ORDER BY d.seq`

	ledgerEntries = `SELECT l.seq, l.hash, l.change IS NOT NULL, coalesce('change ' || l.change, l.decision::text), c.id IS NOT NULL OR d.id IS NOT NULL,
			c.id, c.at, c.xid::text, c.practice, c.actor, c.action, c.target, c.client, c.before::text, c.after::text, c.reason, c.correlation, c.decision::text,
			` + decisionParts + `
		FROM ledger l LEFT JOIN changes c ON c.id = l.change
		LEFT JOIN decisions d ON d.at = l.decided_at AND d.id = l.decision AND d.chain IS NULL
		WHERE $1::uuid IS NOT NULL ORDER BY l.seq`

	// What the ledger says about purges and losses: only what it chains counts.
	selectPurges = `SELECT c.after->>'month', c.after->>'purged' FROM changes c JOIN ledger l ON l.change = c.id WHERE c.action = 'record.purge'`
	selectPurged = `SELECT chain, first, last, hash, to_char(month, 'YYYY-MM'), record_purged_digest(month) FROM purged`
	selectLosses = `SELECT (c.after->>'chain')::uuid, (c.after->>'first')::bigint, (c.after->>'last')::bigint
		FROM changes c JOIN ledger l ON l.change = c.id WHERE c.action = 'record.gap'`

	selectOpened = `SELECT (c.after->>'chain')::uuid, 'change ' || c.id FROM changes c JOIN ledger l ON l.change = c.id
		WHERE c.action = 'record.chain' AND NOT EXISTS (SELECT FROM chains k WHERE k.chain = (c.after->>'chain')::uuid)`

	selectStrays = `SELECT 'a change', 'change ' || c.id FROM changes c WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.change = c.id)
		UNION ALL SELECT 'a decision', d.id::text FROM decisions d WHERE d.chain IS NULL AND NOT EXISTS (SELECT FROM ledger l WHERE l.decision = d.id AND l.decided_at = d.at)
		UNION ALL SELECT 'a decision', d.id::text FROM decisions d WHERE d.chain IS NOT NULL AND NOT EXISTS (SELECT FROM chains c WHERE c.chain = d.chain)`

	selectDecisions = `SELECT d.chain, d.seq, d.body FROM decisions d`
	selectExport    = `SELECT d.chain, d.seq, d.body, s.digest, s.text FROM decisions d
		LEFT JOIN record_settings s ON get_byte(d.body, 2) & 8 <> 0 AND s.digest = substring(d.body FROM 45 FOR 16)`
	selectSettings = `SELECT digest, text FROM record_settings WHERE digest = ANY ($1)`
	selectChanges  = `SELECT c.id, c.at, coalesce(c.practice, ''), c.actor, c.action, coalesce(c.target, ''), coalesce(c.client, ''),
		c.before, c.after, c.reason, c.correlation, coalesce(c.decision::text, '') FROM changes c`

	insertHold  = `INSERT INTO legal_holds (practice, client, reason, placed_by) VALUES ($1, nullif($2, ''), $3, $4) RETURNING id`
	releaseHold = `UPDATE legal_holds SET released_by = $2, released_at = clock_timestamp() WHERE id = $1 AND released_at IS NULL
		RETURNING practice, coalesce(client, '')`
	selectHolds = `SELECT id, practice, coalesce(client, ''), reason, placed_by, placed_at, released_at FROM legal_holds ORDER BY placed_at DESC, id`
)
