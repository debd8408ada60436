-- +goose Up
-- Notices to members: the other administrators are told when one of them
-- switches his own full clinical access (DOMAIN rule 39).
ALTER TABLE notices ALTER COLUMN client DROP NOT NULL, ALTER COLUMN contact DROP NOT NULL, ADD COLUMN member chart_id,
  DROP CONSTRAINT notices_kind_check,
  ADD CONSTRAINT notices_kind_check CHECK (kind IN ('link', 'unlink', 'permission', 'invitation', 'full_clinical_access')),
  ADD CONSTRAINT notices_told_check CHECK ((kind = 'full_clinical_access') = (member IS NOT NULL)
    AND (member IS NULL) = (client IS NOT NULL) AND (member IS NULL) = (contact IS NOT NULL));

-- +goose Down
DELETE FROM notices WHERE member IS NOT NULL;
ALTER TABLE notices DROP CONSTRAINT notices_told_check, DROP CONSTRAINT notices_kind_check, DROP COLUMN member,
  ALTER COLUMN client SET NOT NULL, ALTER COLUMN contact SET NOT NULL,
  ADD CONSTRAINT notices_kind_check CHECK (kind IN ('link', 'unlink', 'permission', 'invitation'));
