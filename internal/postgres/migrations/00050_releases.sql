-- +goose Up
-- Releases of the policy, and which one is active. The activation is a fact:
-- sidecars hear of it by the feed, in the order of all other changes, so that
-- the lease of promise P2 covers it too.

-- A draft, and the release that becomes of it; release.State says which way it
-- may go. What was approved is never changed again.
CREATE TABLE releases (
  id          text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  state       text NOT NULL CHECK (state IN ('draft', 'verified', 'reviewed', 'approved', 'active', 'retired')),
  title       text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
  author      text COLLATE "C" NOT NULL,       -- a person; "chartgate" for what ships with the product
  made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  base        text COLLATE "C" REFERENCES releases, -- what the evidence compares it with
  version     bigint NOT NULL DEFAULT 1,       -- rises with each change: the ETag of a draft
  source      bytea NOT NULL,                  -- the folder of policies as a .tar.gz, with cases and properties
  content     text NOT NULL,                   -- revision of what decides: sha256:…, the same in the bundle's manifest
  evidence    jsonb NOT NULL DEFAULT '{}',     -- what each step found, by its name
  approver    text COLLATE "C",
  approved_at timestamptz,
  revision    bigint UNIQUE,                   -- rises with each signature, also when an earlier release is signed anew
  bundle      bytea,                           -- signed
  CHECK ((state IN ('approved', 'active', 'retired')) = (bundle IS NOT NULL AND revision IS NOT NULL AND approver IS NOT NULL AND approved_at IS NOT NULL)),
  CHECK (author <> approver OR author = 'chartgate' OR evidence ? 'single_signer')
);
CREATE INDEX releases_made ON releases (made_at, id);
CREATE UNIQUE INDEX releases_active ON releases ((true)) WHERE state = 'active';
CREATE SEQUENCE release_revision;

-- One row, once a release is active. A candidate beside it is asked in the
-- shadow, or decides for a share of the practices.
CREATE TABLE activation (
  one       boolean PRIMARY KEY DEFAULT true CHECK (one),
  serial    bigint NOT NULL CHECK (serial > 0), -- rises with each change of this row
  release   text COLLATE "C" NOT NULL REFERENCES releases,
  content   text NOT NULL,
  revision  bigint NOT NULL,
  candidate text COLLATE "C" REFERENCES releases,
  candidate_content  text,
  candidate_revision bigint,
  stage     text CHECK (stage IN ('prepare', 'shadow', 'share')), -- of the candidate
  share     int CHECK (share BETWEEN 0 AND 100),                  -- percent of the practices that the candidate decides for
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK ((candidate IS NULL) = (candidate_content IS NULL) AND (candidate IS NULL) = (candidate_revision IS NULL)
     AND (candidate IS NULL) = (stage IS NULL) AND (stage IS NOT DISTINCT FROM 'share') = (share IS NOT NULL))
);

-- In the feed: kind release.
-- +goose StatementBegin
CREATE FUNCTION activation_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO feed (kind) VALUES (CASE WHEN TG_OP = 'TRUNCATE' THEN 'all' ELSE 'release' END);
  RETURN NULL;
END $$;

-- The serial and the revision only rise, whoever writes.
CREATE FUNCTION activation_rises() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF NEW.serial <= OLD.serial THEN RAISE EXCEPTION 'activation: serial % must rise above %', NEW.serial, OLD.serial USING ERRCODE = 'check_violation'; END IF;
  IF NEW.revision < OLD.revision THEN RAISE EXCEPTION 'activation: revision % must not fall below %', NEW.revision, OLD.revision USING ERRCODE = 'check_violation'; END IF;
  RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER rises BEFORE UPDATE ON activation FOR EACH ROW EXECUTE FUNCTION activation_rises();
CREATE TRIGGER fed_insert AFTER INSERT ON activation FOR EACH STATEMENT EXECUTE FUNCTION activation_written();
CREATE TRIGGER fed_update AFTER UPDATE ON activation FOR EACH STATEMENT EXECUTE FUNCTION activation_written();
CREATE TRIGGER fed_delete AFTER DELETE ON activation FOR EACH STATEMENT EXECUTE FUNCTION activation_written();
CREATE TRIGGER fed_truncate AFTER TRUNCATE ON activation FOR EACH STATEMENT EXECUTE FUNCTION activation_written();
ALTER TABLE activation ENABLE ALWAYS TRIGGER rises, ENABLE ALWAYS TRIGGER fed_insert, ENABLE ALWAYS TRIGGER fed_update,
  ENABLE ALWAYS TRIGGER fed_delete, ENABLE ALWAYS TRIGGER fed_truncate;

-- What each sidecar last said of itself.
CREATE TABLE sidecars (
  id     text COLLATE "C" PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
  at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  report jsonb NOT NULL
);

GRANT SELECT ON activation TO chartgate_sidecar, chartgate_control;
GRANT SELECT, INSERT, UPDATE ON releases, activation TO chartgate_control;
GRANT DELETE ON releases TO chartgate_control; -- of drafts
GRANT USAGE ON SEQUENCE release_revision TO chartgate_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON sidecars TO chartgate_control;

-- +goose Down
DROP TABLE sidecars, activation, releases;
DROP SEQUENCE release_revision;
DROP FUNCTION activation_written, activation_rises;
