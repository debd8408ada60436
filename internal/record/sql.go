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
)
