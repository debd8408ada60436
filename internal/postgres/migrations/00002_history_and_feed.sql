-- +goose Up
-- What changed, and what was true when. Triggers write both in the writer's
-- own transaction, so that no writer, raw SQL included, can forget.

-- The change feed. A row says that something under the key (kind, a, b) was
-- written by transaction xid. xid is the top-level transaction's, since a row
-- written after a savepoint carries another one in xmin.
--   client   a = client                    member  a = practice, b = user
--   grant    a = client, b = user          settings a = practice
--   all      anything may have changed
CREATE TABLE feed (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid  xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  kind text COLLATE "C" NOT NULL,
  a    text COLLATE "C" NOT NULL DEFAULT '',
  b    text COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX feed_key ON feed (kind, a, b, xid);
CREATE INDEX feed_xid ON feed (xid);

-- History: each row was true from valid_from up to but not including valid_to.
CREATE TABLE practices_history (
  id text COLLATE "C" NOT NULL, preset text NOT NULL, overrides jsonb NOT NULL,
  valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX practices_history_key ON practices_history (id, valid_from);

CREATE TABLE members_history (
  practice text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, id uuid NOT NULL, roles text[] NOT NULL, status text NOT NULL,
  owner boolean NOT NULL, full_clinical_access boolean NOT NULL, billing_enabled boolean NOT NULL,
  valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX members_history_key ON members_history (practice, user_id, valid_from);

CREATE TABLE clients_history (
  id text COLLATE "C" NOT NULL, practice text COLLATE "C" NOT NULL, assigned text COLLATE "C", status text NOT NULL,
  valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX clients_history_key ON clients_history (id, valid_from);

CREATE TABLE grants_history (
  id uuid NOT NULL, practice text COLLATE "C" NOT NULL, client text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL, scope text NOT NULL,
  not_before timestamptz NOT NULL, expires_at timestamptz NOT NULL,
  reason text NOT NULL, granted_by text NOT NULL, granted_at timestamptz NOT NULL,
  valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX grants_history_key ON grants_history (id, valid_from);
CREATE INDEX grants_history_client ON grants_history (client, user_id, valid_from);

-- The version of each client's set of grants: the ETag of Manage Access.
CREATE TABLE grant_versions (client text COLLATE "C" PRIMARY KEY, version bigint NOT NULL);

-- +goose StatementBegin
CREATE FUNCTION practices_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t timestamptz := clock_timestamp();
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO feed (kind) VALUES ('all');
    UPDATE practices_history SET valid_to = t WHERE valid_to = 'infinity';
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO feed (kind, a) SELECT 'settings', id FROM old_rows;
    UPDATE practices_history h SET valid_to = t FROM old_rows o WHERE h.id = o.id AND h.valid_to = 'infinity';
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO feed (kind, a) SELECT 'settings', id FROM new_rows;
    INSERT INTO practices_history (id, preset, overrides, valid_from) SELECT id, preset, overrides, t FROM new_rows;
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION members_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t timestamptz := clock_timestamp();
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO feed (kind) VALUES ('all');
    UPDATE members_history SET valid_to = t WHERE valid_to = 'infinity';
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO feed (kind, a, b) SELECT 'member', practice, user_id FROM old_rows;
    UPDATE members_history h SET valid_to = t FROM old_rows o
      WHERE h.practice = o.practice AND h.user_id = o.user_id AND h.valid_to = 'infinity';
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO feed (kind, a, b) SELECT 'member', practice, user_id FROM new_rows;
    INSERT INTO members_history (practice, user_id, id, roles, status, owner, full_clinical_access, billing_enabled, valid_from)
      SELECT practice, user_id, id, roles, status, owner, full_clinical_access, billing_enabled, t FROM new_rows;
  END IF;
  RETURN NULL;
END $$;

-- A statement that writes very many rows (an import) is told as one row, 'all'.
-- A change of names only is none of the facts: it is neither fed nor kept.
CREATE FUNCTION clients_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t timestamptz := clock_timestamp(); gone text[]; come text[];
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO feed (kind) VALUES ('all');
    UPDATE clients_history SET valid_to = t WHERE valid_to = 'infinity';
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    come := ARRAY(SELECT id FROM new_rows);
  ELSIF TG_OP = 'DELETE' THEN
    gone := ARRAY(SELECT id FROM old_rows);
  ELSE
    gone := ARRAY(SELECT id FROM (SELECT id, practice, assigned, status FROM old_rows EXCEPT SELECT id, practice, assigned, status FROM new_rows) d);
    come := ARRAY(SELECT id FROM (SELECT id, practice, assigned, status FROM new_rows EXCEPT SELECT id, practice, assigned, status FROM old_rows) d);
  END IF;
  IF coalesce(cardinality(gone), 0) + coalesce(cardinality(come), 0) > 10000 THEN
    INSERT INTO feed (kind) VALUES ('all');
  ELSE
    INSERT INTO feed (kind, a) SELECT DISTINCT 'client', k FROM unnest(gone || come) k;
  END IF;
  UPDATE clients_history h SET valid_to = t WHERE h.id = ANY (gone) AND h.valid_to = 'infinity';
  IF TG_OP = 'INSERT' THEN
    INSERT INTO clients_history (id, practice, assigned, status, valid_from) SELECT id, practice, assigned, status, t FROM new_rows;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO clients_history (id, practice, assigned, status, valid_from)
      SELECT id, practice, assigned, status, t FROM new_rows WHERE id = ANY (come);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION grants_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t timestamptz := clock_timestamp(); many boolean; touched text[];
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO feed (kind) VALUES ('all');
    UPDATE grants_history SET valid_to = t WHERE valid_to = 'infinity';
    UPDATE grant_versions SET version = version + 1;
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    many := (SELECT count(*) > 10000 FROM (SELECT FROM old_rows LIMIT 10001) s);
    IF many THEN INSERT INTO feed (kind) VALUES ('all');
    ELSE INSERT INTO feed (kind, a, b) SELECT 'grant', client, user_id FROM old_rows; END IF;
    UPDATE grants_history h SET valid_to = t FROM old_rows o WHERE h.id = o.id AND h.valid_to = 'infinity';
  END IF;
  IF TG_OP <> 'DELETE' THEN
    many := (SELECT count(*) > 10000 FROM (SELECT FROM new_rows LIMIT 10001) s);
    IF many THEN INSERT INTO feed (kind) VALUES ('all');
    ELSE INSERT INTO feed (kind, a, b) SELECT 'grant', client, user_id FROM new_rows; END IF;
    INSERT INTO grants_history (id, practice, client, user_id, scope, not_before, expires_at, reason, granted_by, granted_at, valid_from)
      SELECT id, practice, client, user_id, scope, not_before, expires_at, reason, granted_by, granted_at, t FROM new_rows;
  END IF;
  -- The ETag of Manage Access, raised whoever writes; in the order of ids, so
  -- that two writers of the same clients cannot wait for each other.
  IF TG_OP = 'INSERT' THEN
    touched := ARRAY(SELECT DISTINCT client FROM new_rows ORDER BY 1);
  ELSIF TG_OP = 'DELETE' THEN
    touched := ARRAY(SELECT DISTINCT client FROM old_rows ORDER BY 1);
  ELSE
    touched := ARRAY(SELECT client FROM old_rows UNION SELECT client FROM new_rows ORDER BY 1);
  END IF;
  INSERT INTO grant_versions AS v (client, version) SELECT k, 1 FROM unnest(touched) k
    ON CONFLICT (client) DO UPDATE SET version = v.version + 1;
  RETURN NULL;
END $$;

-- A removed member keeps nothing, whoever removes him (DOMAIN rules 57, 58).
CREATE FUNCTION member_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  UPDATE clients SET assigned = NULL WHERE practice = NEW.practice AND assigned = NEW.user_id;
  DELETE FROM grants WHERE practice = NEW.practice AND user_id = NEW.user_id;
  RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER removed AFTER UPDATE OF status ON members FOR EACH ROW
  WHEN (NEW.status = 'removed' AND OLD.status <> 'removed') EXECUTE FUNCTION member_removed();

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['practices', 'members', 'clients', 'grants'] LOOP
    EXECUTE format('CREATE TRIGGER fed_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %I()', t, t || '_written');
    EXECUTE format('CREATE TRIGGER fed_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %I()', t, t || '_written');
    EXECUTE format('CREATE TRIGGER fed_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION %I()', t, t || '_written');
    EXECUTE format('CREATE TRIGGER fed_truncate AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION %I()', t, t || '_written');
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER fed_insert, ENABLE ALWAYS TRIGGER fed_update, ENABLE ALWAYS TRIGGER fed_delete, ENABLE ALWAYS TRIGGER fed_truncate', t);
  END LOOP;
  ALTER TABLE members ENABLE ALWAYS TRIGGER removed;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER removed ON members;
DROP FUNCTION practices_written, members_written, clients_written, grants_written, member_removed CASCADE;
DROP TABLE feed, practices_history, members_history, clients_history, grants_history, grant_versions;
