-- +goose Up
-- What followers of the feed need: to be woken, and to know what was pruned.

-- +goose StatementBegin
CREATE FUNCTION feed_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM pg_notify('chartgate_feed', '');
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER fed_notify AFTER INSERT ON feed FOR EACH STATEMENT EXECUTE FUNCTION feed_written();
ALTER TABLE feed ENABLE ALWAYS TRIGGER fed_notify;

-- Rows of transactions before low have been pruned. A follower that has not
-- seen all of those drops everything it remembers.
CREATE TABLE feed_low (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  xid xid8 NOT NULL DEFAULT '0'
);
INSERT INTO feed_low DEFAULT VALUES;

-- Which transactions had all ended at a moment. Pruning by the time of a row
-- would drop one that was written before, and committed after, that time.
CREATE TABLE feed_marks (
  at   timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
  oldest xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot())
);

GRANT SELECT ON feed_low TO chartgate_sidecar, chartgate_control;

-- +goose StatementBegin
-- feed_prune forgets changes older than keep, and returns how many.
CREATE FUNCTION feed_prune(keep interval) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE before xid8; n bigint;
BEGIN
  INSERT INTO feed_marks DEFAULT VALUES ON CONFLICT DO NOTHING;
  SELECT oldest INTO before FROM feed_marks WHERE at < clock_timestamp() - keep ORDER BY at DESC LIMIT 1;
  IF before IS NULL THEN RETURN 0; END IF;
  UPDATE feed_low SET xid = before WHERE xid < before;
  DELETE FROM feed WHERE xid < before;
  GET DIAGNOSTICS n = ROW_COUNT;
  DELETE FROM feed_marks m WHERE at < clock_timestamp() - keep
    AND EXISTS (SELECT FROM feed_marks l WHERE l.at > m.at AND l.at < clock_timestamp() - keep);
  RETURN n;
END $$;

-- A change of the schema may take the triggers away: it is told as 'all'. Only
-- a superuser may make an event trigger; without it, each poll still checks
-- that the triggers stand.
CREATE FUNCTION feed_schema_changed() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO feed (kind) VALUES ('all');
END $$;
DO $$
BEGIN
  EXECUTE 'CREATE EVENT TRIGGER chartgate_schema_changed ON ddl_command_end
    WHEN TAG IN (''ALTER TABLE'', ''DROP TABLE'', ''CREATE TRIGGER'', ''DROP TRIGGER'', ''ALTER TRIGGER'', ''DROP FUNCTION'', ''CREATE FUNCTION'') EXECUTE FUNCTION feed_schema_changed()';
  EXECUTE 'ALTER EVENT TRIGGER chartgate_schema_changed ENABLE ALWAYS';
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION feed_prune(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION feed_prune(interval) TO chartgate_control;

-- +goose Down
DROP EVENT TRIGGER IF EXISTS chartgate_schema_changed;
DROP FUNCTION feed_schema_changed, feed_prune(interval);
DROP TABLE feed_marks, feed_low;
DROP TRIGGER fed_notify ON feed;
DROP FUNCTION feed_written;
