-- +goose Up
-- The facts: what is known of practices, members, clients and grants.
-- Ids are opaque text compared byte by byte, so that SQL and Rego agree.

CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE DOMAIN chart_id AS text COLLATE "C"
  CHECK (octet_length(VALUE) BETWEEN 1 AND 128 AND VALUE !~ E'[\u0001-\u001f\u007f-\u009f]');

CREATE TABLE practices (
  id         chart_id PRIMARY KEY,
  name       text NOT NULL DEFAULT '',
  preset     text NOT NULL DEFAULT 'seed',
  overrides  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overrides) = 'object'),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
  id         chart_id PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each user of a practice. The id is the membership's: a
-- re-invitation makes a new one, and nothing of the old one revives.
CREATE TABLE members (
  practice             chart_id NOT NULL REFERENCES practices,
  user_id              chart_id NOT NULL REFERENCES users,
  id                   uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
  name                 text NOT NULL CHECK (name <> ''),
  email                text,
  roles                text[] NOT NULL DEFAULT '{}'
    CHECK (roles <@ '{administrator,practitioner,scheduler,biller,forms_administrator,supervisor}' AND array_position(roles, NULL) IS NULL),
  status               text NOT NULL DEFAULT 'invited' CHECK (status IN ('invited', 'active', 'removed')),
  owner                boolean NOT NULL DEFAULT false,
  full_clinical_access boolean NOT NULL DEFAULT false,
  billing_enabled      boolean NOT NULL DEFAULT true,
  created_at           timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (practice, user_id),
  CHECK (NOT (owner AND status = 'removed')),
  CHECK (NOT (full_clinical_access AND status = 'removed'))
);
CREATE INDEX members_user ON members (user_id);

CREATE TABLE clients (
  id           chart_id PRIMARY KEY,
  practice     chart_id NOT NULL REFERENCES practices,
  assigned     chart_id,
  status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
  first_name   text NOT NULL CHECK (first_name <> ''),
  last_name    text NOT NULL CHECK (last_name <> ''),
  label        text NOT NULL DEFAULT '',
  email        text,
  email_folded text GENERATED ALWAYS AS (nullif(lower(btrim(email, E' \t\n\u000b\f\r\u00a0') COLLATE "und-x-icu"), '')) STORED,
  created_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (practice, id),
  FOREIGN KEY (practice, assigned) REFERENCES members (practice, user_id)
);
CREATE UNIQUE INDEX clients_email ON clients (practice, email_folded) WHERE email_folded IS NOT NULL;
CREATE INDEX clients_assigned ON clients (practice, assigned, id);

-- A grant opens one client to one member, from not_before up to but not
-- including expires_at. A revoked grant is removed; grants_history keeps it.
CREATE TABLE grants (
  id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  practice   chart_id NOT NULL,
  client     chart_id NOT NULL,
  user_id    chart_id NOT NULL,
  scope      text NOT NULL DEFAULT 'collaborate' CHECK (scope IN ('view', 'collaborate')),
  not_before timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL DEFAULT '9999-12-31 23:59:59.999999Z',
  reason     text NOT NULL DEFAULT '',
  granted_by chart_id NOT NULL,
  granted_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (practice, client) REFERENCES clients (practice, id) ON DELETE CASCADE,
  FOREIGN KEY (practice, user_id) REFERENCES members (practice, user_id),
  CHECK (not_before < expires_at AND not_before >= '0001-01-01 00:00:00Z' AND expires_at <= '9999-12-31 23:59:59.999999Z'),
  CONSTRAINT grants_never_overlap
    EXCLUDE USING gist ((client::text) WITH =, (user_id::text) WITH =, tstzrange(not_before, expires_at) WITH &&)
);
CREATE INDEX grants_member ON grants (practice, user_id, client);
CREATE INDEX grants_client ON grants (client, user_id);

-- Keys of services. The secret is kept as its SHA-256 only.
CREATE TABLE api_keys (
  id         text PRIMARY KEY,
  hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
  note       text NOT NULL DEFAULT '',
  scopes     text[] NOT NULL,
  practices  text[] NOT NULL DEFAULT '{}', -- empty with all_practices = false: none
  all_practices boolean NOT NULL DEFAULT false,
  person     text,                         -- the one user id that this key acts for, if it was made for a person
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL DEFAULT '9999-12-31 23:59:59.999999Z',
  revoked_at timestamptz
);

-- +goose Down
DROP TABLE api_keys, grants, clients, members, users, practices;
DROP DOMAIN chart_id;
