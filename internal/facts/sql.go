package facts

// selectFacts reads everything that is known for a decision in one statement,
// so in one snapshot. $1 client or ”, $2 practice or ”, $3 user, $4 portal login.
//
// A grant whose practice is not the client's is a corrupt row: it is never a
// fact, and is counted so that it can be reported (DOMAIN rule 107). So is a
// portal access.
const selectFacts = `
WITH c AS (SELECT id, practice, assigned, status, portal_features FROM clients WHERE id = $1),
     p AS (SELECT id, preset, overrides, portal_features FROM practices
            WHERE id = coalesce((SELECT practice FROM c), CASE WHEN $1 = '' THEN $2 END))
SELECT clock_timestamp(), pg_current_snapshot()::text, pg_is_in_recovery(), coalesce((SELECT serial FROM activation), 0),
       c.id, c.assigned, c.status, p.id, p.preset, p.overrides,
       m.id::text, m.roles, m.status, m.owner, m.full_clinical_access, m.billing_enabled,
       (SELECT count(*) FROM grants g WHERE g.client = c.id AND g.user_id = m.user_id AND g.practice <> c.practice) +
       (SELECT count(*) FROM portal_access a WHERE a.client = c.id AND a.login = $4 AND a.practice <> c.practice),
       g.scopes, g.starts, g.ends,
       a.contact, a.enabled, a.own, coalesce(a.relationship, ''), a.permissions, p.portal_features, c.portal_features
  FROM (SELECT) one
  LEFT JOIN c ON true
  LEFT JOIN p ON true
  LEFT JOIN members m ON m.practice = p.id AND m.user_id = $3
  LEFT JOIN portal_access a ON a.client = c.id AND a.login = $4 AND a.practice = c.practice
  LEFT JOIN LATERAL (
       SELECT array_agg(scope ORDER BY not_before) AS scopes,
              array_agg(not_before ORDER BY not_before) AS starts,
              array_agg(expires_at ORDER BY not_before) AS ends
         FROM grants g
        WHERE g.client = c.id AND g.user_id = m.user_id AND g.practice = c.practice
          AND g.expires_at > clock_timestamp()) g ON true`
