package web

// The statements of the key store.
const (
	sqlInsertKey = `
INSERT INTO api_keys (id, hash, note, scopes, practices, all_practices, person, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8)`

	sqlFindKey = `
SELECT hash, scopes, practices, all_practices, coalesce(person, ''), expires_at
FROM api_keys WHERE id = $1 AND revoked_at IS NULL AND now() < expires_at`

	sqlListKeys = `
SELECT id, note, scopes, practices, all_practices, coalesce(person, '') AS person, created_at, expires_at, revoked_at
FROM api_keys ORDER BY created_at, id`

	sqlRevokeKey = `
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1`
)
