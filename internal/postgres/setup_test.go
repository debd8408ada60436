package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/postgres/pgtest"
)

// SQLSTATEs that the tests expect.
const (
	checkViolation     = "23514"
	exclusionViolation = "23P01"
	foreignKey         = "23503"
	notNull            = "23502"
	uniqueViolation    = "23505"
	noPrivilege        = "42501"
)

// store is a database with two practices, and what the tests do with it.
type store struct {
	*pgxpool.Pool
	t *testing.T
}

func setup(t *testing.T) store {
	t.Helper()
	s := store{pgtest.Pool(t), t}
	s.run(`INSERT INTO practices (id) VALUES ('practice-1'), ('practice-2')`)
	s.run(`INSERT INTO users (id) VALUES ('admin-1'), ('practitioner-1'), ('practitioner-2'), ('practitioner-3')`)
	s.run(`INSERT INTO members (practice, user_id, name, roles, status) VALUES
		('practice-1', 'admin-1', 'Admin One', '{administrator}', 'active'),
		('practice-1', 'practitioner-1', 'Practitioner One', '{practitioner}', 'active'),
		('practice-1', 'practitioner-2', 'Practitioner Two', '{practitioner}', 'active'),
		('practice-2', 'practitioner-3', 'Practitioner Three', '{practitioner}', 'active')`)
	s.run(`INSERT INTO clients (id, practice, assigned, first_name, last_name) VALUES
		('client-1', 'practice-1', 'practitioner-1', 'Client', 'One'),
		('client-2', 'practice-1', NULL, 'Client', 'Two'),
		('client-4', 'practice-2', 'practitioner-3', 'Client', 'Four')`)
	s.run(`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-1', 'practitioner-2', 'admin-1')`)
	s.run(`INSERT INTO portal_access (practice, client, contact, relationship, login, enabled) VALUES
		('practice-1', 'client-1', 'client', NULL, 'portal-1', true), ('practice-1', 'client-1', 'contact-1', 'parent', NULL, false)`)
	return s
}

// run executes one statement that must work.
func (s store) run(statement string, arguments ...any) {
	s.t.Helper()
	if _, err := s.Exec(s.t.Context(), statement, arguments...); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// refuses executes one statement that must fail with this SQLSTATE.
func (s store) refuses(state, statement string, arguments ...any) {
	s.t.Helper()
	_, err := s.Exec(s.t.Context(), statement, arguments...)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != state {
		s.t.Errorf("%s: got %v, want SQLSTATE %s", statement, err, state)
	}
}

// texts returns the first column of a query, in its order.
func (s store) texts(query string, arguments ...any) []string {
	s.t.Helper()
	list := []string{}
	rows, err := s.Query(s.t.Context(), query, arguments...)
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			s.t.Fatalf("%s: %v", query, err)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return list
}

// inReplica runs a statement as a restore tool or a replication does, with
// ordinary triggers off.
func (s store) inReplica(statement string) {
	s.t.Helper()
	conn, err := s.Acquire(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Release()
	for _, statement := range []string{`SET session_replication_role = replica`, statement, `RESET session_replication_role`} {
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			s.t.Fatalf("%s: %v", statement, err)
		}
	}
}
