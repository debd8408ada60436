-- +goose Up
-- The tables of the module of client profiles. No policy reads them: what is a
-- fact stands in portal_access.

-- Contacts are persons of a practice who have to do with its clients. One who
-- is a client himself has his name and his e-mail there.
CREATE TABLE contacts (
  id           chart_id PRIMARY KEY CHECK (id <> 'client'),
  practice     chart_id NOT NULL REFERENCES practices,
  client       chart_id,
  name         text NOT NULL DEFAULT '',
  email        text,
  email_folded text GENERATED ALWAYS AS (nullif(lower(btrim(email, E' \t\n\u000b\f\r\u00a0') COLLATE "und-x-icu"), '')) STORED,
  created_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (practice, id),
  FOREIGN KEY (practice, client) REFERENCES clients (practice, id),
  CHECK ((client IS NULL) = (name <> '')),
  CHECK (client IS NULL OR email IS NULL)
);
CREATE UNIQUE INDEX contacts_client ON contacts (client) WHERE client IS NOT NULL;
CREATE INDEX contacts_practice ON contacts (practice, name, id);

-- A link makes a contact one of a client's. What it lets him do in the portal
-- stands in the fact beside it, and goes with it.
CREATE TABLE contact_links (
  practice  chart_id NOT NULL,
  client    chart_id NOT NULL,
  contact   chart_id NOT NULL,
  linked_by chart_id NOT NULL,
  linked_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (client, contact),
  FOREIGN KEY (client, contact) REFERENCES portal_access (client, contact) ON DELETE CASCADE,
  FOREIGN KEY (practice, contact) REFERENCES contacts (practice, id)
);
CREATE INDEX contact_links_contact ON contact_links (practice, contact);

-- The star: profiles of one person. A profile is the primary one, which stands
-- for itself, or points to the primary one. So there is no chain, no reverse,
-- no link to itself and none across practices, whoever writes; and since the
-- primary alone has an e-mail, the portal identity is in one place.
ALTER TABLE clients ADD COLUMN has_email boolean NOT NULL
  GENERATED ALWAYS AS (coalesce(btrim(email, E' \t\n\u000b\f\r\u00a0'), '') <> '') STORED;
ALTER TABLE clients ADD CONSTRAINT clients_has_email UNIQUE (practice, id, has_email);
CREATE TABLE profile_stars (
  practice        chart_id NOT NULL,
  client          chart_id PRIMARY KEY,
  primary_profile chart_id NOT NULL,
  is_primary      boolean NOT NULL GENERATED ALWAYS AS (client = primary_profile) STORED,
  of_primary      boolean NOT NULL DEFAULT true CHECK (of_primary),
  CONSTRAINT profile_stars_part UNIQUE (practice, client, is_primary),
  CONSTRAINT profile_stars_email FOREIGN KEY (practice, client, is_primary) REFERENCES clients (practice, id, has_email),
  CONSTRAINT profile_stars_star FOREIGN KEY (practice, primary_profile, of_primary) REFERENCES profile_stars (practice, client, is_primary)
);
CREATE INDEX profile_stars_primary ON profile_stars (practice, primary_profile);

-- Invitations to the portal. The code is kept as its SHA-256 only, is good for
-- one acceptance, and ends; of one contact of a client one is open at most.
CREATE TABLE invitations (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  practice     chart_id NOT NULL,
  client       chart_id NOT NULL,
  contact      chart_id NOT NULL,
  hash         bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
  created_by   chart_id NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  used_at      timestamptz,
  used_by      chart_id,
  cancelled_at timestamptz,
  FOREIGN KEY (client, contact) REFERENCES portal_access (client, contact) ON DELETE CASCADE,
  CHECK ((used_at IS NULL) = (used_by IS NULL)),
  CHECK (used_at IS NULL OR cancelled_at IS NULL)
);
CREATE UNIQUE INDEX invitations_open ON invitations (client, contact) WHERE used_at IS NULL AND cancelled_at IS NULL;

-- The second-profile workflow: how far each call has come, and what it answered
-- when it was through. The id joins its change records.
CREATE TABLE workflows (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  caller      text NOT NULL,
  practice    chart_id NOT NULL,
  client      chart_id NOT NULL,
  key         text NOT NULL,
  fingerprint bytea NOT NULL,
  profile     chart_id NOT NULL,
  steps       jsonb NOT NULL,
  answer      jsonb,
  created_at  timestamptz NOT NULL DEFAULT now(),
  UNIQUE (caller, practice, client, key)
);

-- Notices to be delivered: who is to be told what, without any name, address
-- or clinical content. A row is written by the change that it tells of.
CREATE TABLE notices (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at           timestamptz NOT NULL DEFAULT clock_timestamp(),
  kind         text NOT NULL CHECK (kind IN ('link', 'unlink', 'permission', 'invitation')),
  practice     chart_id NOT NULL,
  client       chart_id NOT NULL,
  contact      chart_id NOT NULL,
  details      jsonb NOT NULL DEFAULT '{}',
  correlation  text NOT NULL DEFAULT '',
  attempts     int NOT NULL DEFAULT 0,
  next_at      timestamptz NOT NULL DEFAULT now(),
  delivered_at timestamptz,
  dead_at      timestamptz,
  fault        text NOT NULL DEFAULT ''
);
CREATE INDEX notices_due ON notices (next_at, id) WHERE delivered_at IS NULL AND dead_at IS NULL;

-- E-mail addresses are unique in a practice over clients and contacts. Triggers
-- keep the folded ones, whoever writes.
CREATE TABLE emails (
  practice text COLLATE "C" NOT NULL,
  folded   text COLLATE "C" NOT NULL,
  PRIMARY KEY (practice, folded)
);
INSERT INTO emails SELECT practice, email_folded FROM clients WHERE email_folded IS NOT NULL;
DROP INDEX clients_email;

-- +goose StatementBegin
CREATE FUNCTION emails_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    DELETE FROM emails;
    INSERT INTO emails SELECT practice, email_folded FROM clients WHERE email_folded IS NOT NULL
      UNION ALL SELECT practice, email_folded FROM contacts WHERE email_folded IS NOT NULL;
  ELSIF TG_OP = 'INSERT' THEN
    INSERT INTO emails SELECT practice, email_folded FROM new_rows WHERE email_folded IS NOT NULL ORDER BY 1, 2;
  ELSIF TG_OP = 'DELETE' THEN
    DELETE FROM emails e USING old_rows o WHERE e.practice = o.practice AND e.folded = o.email_folded;
  ELSE
    DELETE FROM emails e USING (SELECT practice, email_folded FROM old_rows EXCEPT SELECT practice, email_folded FROM new_rows) o
      WHERE e.practice = o.practice AND e.folded = o.email_folded;
    -- All of them, not only the different ones: two rows of one statement may
    -- have come to the same address.
    INSERT INTO emails SELECT practice, email_folded FROM
      (SELECT practice, email_folded FROM new_rows EXCEPT ALL SELECT practice, email_folded FROM old_rows) n
      WHERE email_folded IS NOT NULL ORDER BY 1, 2;
  END IF;
  RETURN NULL;
END $$;

DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['clients', 'contacts'] LOOP
    EXECUTE format('CREATE TRIGGER emails_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION emails_written()', t);
    EXECUTE format('CREATE TRIGGER emails_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION emails_written()', t);
    EXECUTE format('CREATE TRIGGER emails_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION emails_written()', t);
    EXECUTE format('CREATE TRIGGER emails_truncate AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION emails_written()', t);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER emails_insert, ENABLE ALWAYS TRIGGER emails_update, ENABLE ALWAYS TRIGGER emails_delete, ENABLE ALWAYS TRIGGER emails_truncate', t);
  END LOOP;
END $$;
-- +goose StatementEnd

GRANT SELECT, INSERT, UPDATE, DELETE ON contacts, contact_links, profile_stars, invitations, workflows, notices TO chartgate_control;
GRANT SELECT ON emails TO chartgate_control;

-- +goose Down
DROP FUNCTION emails_written CASCADE;
DROP TABLE emails, notices, workflows, invitations, profile_stars, contact_links, contacts;
ALTER TABLE clients DROP CONSTRAINT clients_has_email;
ALTER TABLE clients DROP COLUMN has_email;
CREATE UNIQUE INDEX clients_email ON clients (practice, email_folded) WHERE email_folded IS NOT NULL;
