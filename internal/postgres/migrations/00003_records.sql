-- +goose Up
-- The permanent record: every decision and every change. No names, e-mails or
-- free text stand in decisions; a change may hold the reason that was given.
CREATE TABLE decisions (
  id            uuid PRIMARY KEY,
  at            timestamptz NOT NULL,
  practice      text COLLATE "C",
  subject_type  text COLLATE "C" NOT NULL,
  subject_id    text COLLATE "C" NOT NULL,
  action        text COLLATE "C" NOT NULL,
  resource_type text COLLATE "C" NOT NULL,
  resource_id   text COLLATE "C" NOT NULL,
  client        text COLLATE "C",
  allow         boolean NOT NULL,
  code          text COLLATE "C" NOT NULL,  -- the exact one, also where the answer said no_basis
  bases         text[] NOT NULL,
  release       text NOT NULL,              -- the policy revision that decided
  revision      text NOT NULL,              -- token of the facts
  request_id    text,
  facts         jsonb,                      -- the facts document, exactly; NULL where the bundle is a user's own
  digest        bytea,                      -- SHA-256 of the input of a user's own bundle: not replayable
  CHECK ((facts IS NULL) <> (digest IS NULL) OR code = 'unavailable')
);
CREATE INDEX decisions_at ON decisions (at, id);
CREATE INDEX decisions_client ON decisions (client, at);
CREATE INDEX decisions_subject ON decisions (subject_id, at);

CREATE TABLE changes (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
  practice text COLLATE "C",
  actor    text COLLATE "C" NOT NULL,
  action   text COLLATE "C" NOT NULL,
  target   text COLLATE "C",                -- user id of the member concerned, if any
  client   text COLLATE "C",
  before   jsonb,
  after    jsonb,
  reason   text NOT NULL DEFAULT '',
  correlation text NOT NULL DEFAULT '',
  decision uuid                             -- the decision that allowed it
);
CREATE INDEX changes_at ON changes (practice, at, id);
CREATE INDEX changes_client ON changes (client, at);

-- Answers to calls with an Idempotency-Key, kept for a day.
CREATE TABLE idempotency (
  caller      text NOT NULL,
  route       text NOT NULL,
  key         text NOT NULL,
  fingerprint bytea NOT NULL,
  status      int,
  body        bytea,
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (caller, route, key)
);

-- +goose Down
DROP TABLE idempotency, changes, decisions;
