-- +goose Up
-- Two database roles. The sidecar reads facts and appends decisions, and can
-- do nothing else; control writes, but owns no table and alters no schema.
-- They may log in, but have no password until an operator sets one.
-- +goose StatementBegin
DO $$
DECLARE r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['chartgate_sidecar', 'chartgate_control'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', r);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; -- roles belong to the cluster: another database made it
    END;
  END LOOP;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO chartgate_sidecar, chartgate_control', current_database());
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); -- else everybody may fill the disk
END $$;
-- +goose StatementEnd

GRANT USAGE ON SCHEMA public TO chartgate_sidecar, chartgate_control;

GRANT SELECT (id, preset, overrides) ON practices TO chartgate_sidecar;
GRANT SELECT (practice, user_id, id, roles, status, owner, full_clinical_access, billing_enabled) ON members TO chartgate_sidecar;
GRANT SELECT (id, practice, assigned, status) ON clients TO chartgate_sidecar;
GRANT SELECT (id, practice, client, user_id, scope, not_before, expires_at) ON grants TO chartgate_sidecar;
GRANT SELECT ON feed, api_keys, goose_db_version TO chartgate_sidecar;
GRANT INSERT ON decisions TO chartgate_sidecar;

GRANT SELECT, INSERT, UPDATE, DELETE ON practices, users, members, clients, grants, api_keys, idempotency TO chartgate_control;
GRANT SELECT ON feed, practices_history, members_history, clients_history, grants_history, grant_versions, goose_db_version TO chartgate_control;
GRANT SELECT, INSERT ON decisions, changes TO chartgate_control;

-- +goose Down
-- The roles stay: other databases of the cluster may use them.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM chartgate_sidecar, chartgate_control;
REVOKE USAGE ON SCHEMA public FROM chartgate_sidecar, chartgate_control;
-- +goose StatementBegin
DO $$
BEGIN
  EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM chartgate_sidecar, chartgate_control', current_database());
  EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO PUBLIC', current_database());
END $$;
-- +goose StatementEnd
