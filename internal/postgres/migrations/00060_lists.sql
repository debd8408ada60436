-- +goose Up
-- Lists as of a past moment begin where lists of now do: with the clients of a
-- practice, those assigned to a member, and those granted to him.
CREATE INDEX clients_history_practice ON clients_history (practice, id);
CREATE INDEX clients_history_assigned ON clients_history (practice, assigned, id);
CREATE INDEX grants_history_member ON grants_history (practice, user_id, client);

-- +goose Down
DROP INDEX clients_history_practice, clients_history_assigned, grants_history_member;
