-- +goose Up
-- Who this database is, and a secret that its services share: it signs entries
-- in Redis and cursors, so that neither can be made by anybody else.
CREATE TABLE deployment (
  one    boolean PRIMARY KEY DEFAULT true CHECK (one),
  id     uuid NOT NULL DEFAULT gen_random_uuid(),
  secret bytea NOT NULL DEFAULT sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea)
);
INSERT INTO deployment DEFAULT VALUES;
GRANT SELECT ON deployment TO chartgate_sidecar, chartgate_control;

-- +goose Down
DROP TABLE deployment;
