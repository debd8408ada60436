-- +goose Up
-- The facts of the portal: who may enter which client's profile, and what the
-- practice lets the portal do. The module of client profiles writes them.

-- What a practice's portal offers, and what is left of it for one client; a
-- client without a narrowing has all that the practice offers.
ALTER TABLE practices ADD COLUMN portal_features text[] NOT NULL
  DEFAULT '{view_appointments,online_booking,cancel_appointments,manage_information,legal_sex,upload_documents,messages}'
  CHECK (portal_features <@ '{view_appointments,online_booking,cancel_appointments,manage_information,legal_sex,upload_documents,messages}'
    AND array_position(portal_features, NULL) IS NULL);
ALTER TABLE clients ADD COLUMN portal_features text[]
  CHECK (portal_features <@ '{view_appointments,online_booking,cancel_appointments,manage_information,legal_sex,upload_documents,messages}'
    AND array_position(portal_features, NULL) IS NULL);

-- One row for each contact of a client, of whom login is the portal login once
-- he has accepted an invitation. The contact 'client' is the client himself,
-- with a login of his own: that is not the relationship self.
CREATE TABLE portal_access (
  practice     chart_id NOT NULL,
  client       chart_id NOT NULL,
  contact      chart_id NOT NULL,
  own          boolean NOT NULL GENERATED ALWAYS AS (contact = 'client') STORED,
  relationship text CHECK (relationship IN ('self', 'parent', 'guardian', 'spouse', 'other')),
  login        chart_id,
  enabled      boolean NOT NULL DEFAULT false,
  permissions  text[] NOT NULL DEFAULT '{}'
    CHECK (permissions <@ '{view_appointments,online_booking,manage_information,demographics,legal_sex}' AND array_position(permissions, NULL) IS NULL),
  invited_at   timestamptz,
  accepted_at  timestamptz,
  PRIMARY KEY (client, contact),
  FOREIGN KEY (practice, client) REFERENCES clients (practice, id) ON DELETE CASCADE,
  CHECK ((contact = 'client') = (relationship IS NULL)),
  CHECK (accepted_at IS NULL OR login IS NOT NULL)
);
-- A login is one contact of a client at most.
CREATE UNIQUE INDEX portal_access_login ON portal_access (login, client) WHERE login IS NOT NULL;
CREATE INDEX portal_access_contact ON portal_access (practice, contact);

-- In the feed, kind portal is a = client, b = login. Features are told as what
-- they are part of: settings of a practice, a client.
ALTER TABLE practices_history ADD COLUMN portal_features text[];
ALTER TABLE clients_history ADD COLUMN portal_features text[];
UPDATE practices_history h SET portal_features = p.portal_features FROM practices p WHERE p.id = h.id AND h.valid_to = 'infinity';

CREATE TABLE portal_access_history (
  practice text COLLATE "C" NOT NULL, client text COLLATE "C" NOT NULL, contact text COLLATE "C" NOT NULL, own boolean NOT NULL,
  relationship text, login text COLLATE "C", enabled boolean NOT NULL, permissions text[] NOT NULL,
  valid_from timestamptz NOT NULL, valid_to timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX portal_access_history_key ON portal_access_history (client, contact, valid_from);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION practices_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
    INSERT INTO practices_history (id, preset, overrides, portal_features, valid_from) SELECT id, preset, overrides, portal_features, t FROM new_rows;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION clients_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
    gone := ARRAY(SELECT id FROM (SELECT id, practice, assigned, status, portal_features FROM old_rows
      EXCEPT SELECT id, practice, assigned, status, portal_features FROM new_rows) d);
    come := ARRAY(SELECT id FROM (SELECT id, practice, assigned, status, portal_features FROM new_rows
      EXCEPT SELECT id, practice, assigned, status, portal_features FROM old_rows) d);
  END IF;
  IF coalesce(cardinality(gone), 0) + coalesce(cardinality(come), 0) > 10000 THEN
    INSERT INTO feed (kind) VALUES ('all');
  ELSE
    INSERT INTO feed (kind, a) SELECT DISTINCT 'client', k FROM unnest(gone || come) k;
  END IF;
  UPDATE clients_history h SET valid_to = t WHERE h.id = ANY (gone) AND h.valid_to = 'infinity';
  IF TG_OP = 'INSERT' THEN
    INSERT INTO clients_history (id, practice, assigned, status, portal_features, valid_from)
      SELECT id, practice, assigned, status, portal_features, t FROM new_rows;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO clients_history (id, practice, assigned, status, portal_features, valid_from)
      SELECT id, practice, assigned, status, portal_features, t FROM new_rows WHERE id = ANY (come);
  END IF;
  RETURN NULL;
END $$;

-- A contact without a login is nobody's fact: it is kept, and not fed. That an
-- invitation was sent is no fact at all: it is neither.
CREATE FUNCTION portal_access_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE t timestamptz := clock_timestamp(); at_clients text[]; of_logins text[];
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    INSERT INTO feed (kind) VALUES ('all');
    UPDATE portal_access_history SET valid_to = t WHERE valid_to = 'infinity';
    RETURN NULL;
  END IF;
  IF TG_OP = 'INSERT' THEN
    SELECT array_agg(client), array_agg(login) INTO at_clients, of_logins FROM new_rows WHERE login IS NOT NULL;
    INSERT INTO portal_access_history (practice, client, contact, own, relationship, login, enabled, permissions, valid_from)
      SELECT practice, client, contact, own, relationship, login, enabled, permissions, t FROM new_rows;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT array_agg(client), array_agg(login) INTO at_clients, of_logins FROM old_rows WHERE login IS NOT NULL;
    UPDATE portal_access_history h SET valid_to = t FROM old_rows o WHERE h.client = o.client AND h.contact = o.contact AND h.valid_to = 'infinity';
  ELSE
    WITH gone AS (SELECT practice, client, contact, own, relationship, login, enabled, permissions FROM old_rows
           EXCEPT SELECT practice, client, contact, own, relationship, login, enabled, permissions FROM new_rows),
         come AS (SELECT practice, client, contact, own, relationship, login, enabled, permissions FROM new_rows
           EXCEPT SELECT practice, client, contact, own, relationship, login, enabled, permissions FROM old_rows),
         ended AS (UPDATE portal_access_history h SET valid_to = t FROM gone o WHERE h.client = o.client AND h.contact = o.contact AND h.valid_to = 'infinity'),
         begun AS (INSERT INTO portal_access_history (practice, client, contact, own, relationship, login, enabled, permissions, valid_from)
           SELECT practice, client, contact, own, relationship, login, enabled, permissions, t FROM come)
    SELECT array_agg(client), array_agg(login) INTO at_clients, of_logins
      FROM (SELECT client, login FROM gone UNION SELECT client, login FROM come) touched WHERE login IS NOT NULL;
  END IF;
  IF cardinality(at_clients) > 10000 THEN
    INSERT INTO feed (kind) VALUES ('all');
  ELSE
    INSERT INTO feed (kind, a, b) SELECT DISTINCT 'portal', client, login FROM unnest(at_clients, of_logins) k (client, login);
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER fed_insert AFTER INSERT ON portal_access REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION portal_access_written();
CREATE TRIGGER fed_update AFTER UPDATE ON portal_access REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION portal_access_written();
CREATE TRIGGER fed_delete AFTER DELETE ON portal_access REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION portal_access_written();
CREATE TRIGGER fed_truncate AFTER TRUNCATE ON portal_access FOR EACH STATEMENT EXECUTE FUNCTION portal_access_written();
ALTER TABLE portal_access ENABLE ALWAYS TRIGGER fed_insert, ENABLE ALWAYS TRIGGER fed_update, ENABLE ALWAYS TRIGGER fed_delete, ENABLE ALWAYS TRIGGER fed_truncate;

GRANT SELECT (portal_features) ON practices TO chartgate_sidecar;
GRANT SELECT (portal_features) ON clients TO chartgate_sidecar;
GRANT SELECT (practice, client, contact, own, relationship, login, enabled, permissions) ON portal_access TO chartgate_sidecar;
GRANT SELECT, INSERT, UPDATE, DELETE ON portal_access TO chartgate_control;
GRANT SELECT ON portal_access_history TO chartgate_control;

-- +goose Down
DROP TABLE portal_access, portal_access_history;
DROP FUNCTION portal_access_written;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION practices_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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

CREATE OR REPLACE FUNCTION clients_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
-- +goose StatementEnd
ALTER TABLE practices_history DROP COLUMN portal_features;
ALTER TABLE clients_history DROP COLUMN portal_features;
ALTER TABLE practices DROP COLUMN portal_features;
ALTER TABLE clients DROP COLUMN portal_features;
