package record

const (
	insertChange = `INSERT INTO changes (practice, actor, action, target, client, before, after, reason, correlation, decision)
		VALUES (nullif($1, ''), $2, $3, nullif($4, ''), nullif($5, ''), $6, $7, $8, $9, $10)`

	insertDecision = `INSERT INTO decisions (id, at, practice, subject_type, subject_id, action, resource_type, resource_id, client,
			allow, code, bases, release, revision, request_id, facts, digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`
)

// decisionColumns are the columns of COPY, in the order of row.
var decisionColumns = []string{"id", "at", "practice", "subject_type", "subject_id", "action", "resource_type", "resource_id", "client",
	"allow", "code", "bases", "release", "revision", "request_id", "facts", "digest"}
