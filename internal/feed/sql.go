package feed

// maxRows is how many changes a poll takes; if there are more, everything may
// have changed, and all that is remembered is dropped.
const maxRows = 10000

// selectNews is one poll: what committed since the last one, by whatever the
// new snapshot sees and the last one did not, together with all that makes the
// answer trustworthy. It is one statement, so one snapshot, and it asks only
// the primary. $1 the last snapshot, $2 its xmin.
const selectNews = `
SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(),
       (SELECT system_identifier::text FROM pg_control_system()) || '/' ||
         CASE WHEN pg_is_in_recovery() THEN 'recovery' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END || '/' ||
         extract(epoch FROM pg_postmaster_start_time())::text || '/' || (SELECT id::text FROM deployment),
       (SELECT xid::text FROM feed_low),
       (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'A' AND (tgname, tgrelid) IN (
          SELECT n, r::regclass FROM unnest(ARRAY['fed_insert', 'fed_update', 'fed_delete', 'fed_truncate']) n,
                 unnest(ARRAY['practices', 'members', 'clients', 'grants', 'portal_access', 'activation']) r)),
       array_agg(kind), array_agg(a), array_agg(b), array_agg(xid::text)
  FROM (SELECT kind, a, b, xid FROM feed
         WHERE xid >= $2::text::xid8 AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
         ORDER BY id LIMIT 10001) news`

// feedTriggers is how many triggers selectNews must find standing.
const feedTriggers = 24

const selectActivation = `
SELECT serial, release, content, revision, candidate, candidate_content, candidate_revision, stage, share FROM activation`
