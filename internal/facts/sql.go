package facts

// selectFacts reads everything that is known for a decision in one statement,
// so in one snapshot. $1 client or ”, $2 practice or ”, $3 user.
//
// A grant whose practice is not the client's is a corrupt row: it is never a
// fact, and is counted so that it can be reported (DOMAIN rule 107).
const selectFacts = `
WITH c AS (SELECT id, practice, assigned, status FROM clients WHERE id = $1),
     p AS (SELECT id, preset, overrides FROM practices
            WHERE id = coalesce((SELECT practice FROM c), CASE WHEN $1 = '' THEN $2 END))
SELECT clock_timestamp(), pg_current_snapshot()::text,
       c.id, c.assigned, c.status, p.id, p.preset, p.overrides,
       m.id::text, m.roles, m.status, m.owner, m.full_clinical_access, m.billing_enabled,
       (SELECT count(*) FROM grants g WHERE g.client = c.id AND g.user_id = m.user_id AND g.practice <> c.practice),
       g.scopes, g.starts, g.ends
  FROM (SELECT) one
  LEFT JOIN c ON true
  LEFT JOIN p ON true
  LEFT JOIN members m ON m.practice = p.id AND m.user_id = $3
  LEFT JOIN LATERAL (
       SELECT array_agg(scope ORDER BY not_before) AS scopes,
              array_agg(not_before ORDER BY not_before) AS starts,
              array_agg(expires_at ORDER BY not_before) AS ends
         FROM grants g
        WHERE g.client = c.id AND g.user_id = m.user_id AND g.practice = c.practice
          AND g.expires_at > clock_timestamp()) g ON true`

// selectUnchanged says whether anything that an entry rests on was written by a
// transaction that the entry's snapshot did not see. $1 the snapshot, $2 its
// xmin, $3 client or ”, $4 practice or ”, $5 user.
const selectUnchanged = `
SELECT clock_timestamp(), pg_current_snapshot()::text, NOT EXISTS (
  SELECT 1 FROM feed f
    JOIN (VALUES ('all', '', ''), ('client', $3::text, ''), ('settings', $4::text, ''),
                 ('member', $4::text, $5::text), ('grant', $3::text, $5::text)) k (kind, a, b)
      ON f.kind = k.kind AND f.a = k.a AND f.b = k.b
   WHERE f.xid >= $2::text::xid8 AND NOT pg_visible_in_snapshot(f.xid, $1::text::pg_snapshot))`
