package postgres_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"chartgate/internal/authz"
)

// E-mail addresses are unique within a practice, whatever their case and the
// blanks around them; clients without one never collide.
func TestEmailIsUniqueInAPractice(t *testing.T) {
	s := setup(t)
	const insert = `INSERT INTO clients (id, practice, first_name, last_name, email) VALUES ($1, $2, 'Client', 'New', $3)`
	s.run(insert, "mail-1", "practice-1", "Someone@Example.org")
	s.run(insert, "mail-2", "practice-2", "someone@example.org") // another practice
	s.run(insert, "mail-3", "practice-1", "ÄRZTIN@example.org")
	for _, same := range []string{"Someone@Example.org", "SOMEONE@example.ORG", "  someone@example.org ", "\tsomeone@example.org\r\n", "ärztin@example.org"} {
		s.refuses(uniqueViolation, insert, "mail-4", "practice-1", same)
	}
	for i, blank := range []any{nil, nil, "", "", " ", "  ", "\t", "\t", "\n", "\r\n", "\u00a0", "\u00a0"} {
		s.run(insert, "blank-"+string(rune('a'+i)), "practice-1", blank)
	}
	s.refuses(uniqueViolation, `UPDATE clients SET email = 'SOMEONE@EXAMPLE.ORG' WHERE id = 'client-1'`)
}

// Grants of one member on one client never overlap; one may begin at the very
// moment at which another ends, since the interval is half-open.
func TestGrantsNeverOverlap(t *testing.T) {
	s := setup(t)
	const insert = `INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by) VALUES ('practice-1', $1, $2, $3, $4, 'admin-1')`
	s.run(insert, "client-2", "practitioner-2", "2026-01-01Z", "2026-02-01Z")
	s.run(insert, "client-2", "practitioner-2", "2026-02-01Z", "2026-03-01Z")
	s.run(insert, "client-2", "practitioner-1", "2026-01-01Z", "2026-02-01Z")
	s.refuses(exclusionViolation, insert, "client-2", "practitioner-2", "2026-01-31 23:59:59.999999Z", "2026-02-01Z")
	s.refuses(exclusionViolation, insert, "client-2", "practitioner-2", "2025-01-01Z", "2027-01-01Z")
	s.refuses(exclusionViolation, `UPDATE grants SET expires_at = '2026-02-01 00:00:00.000001Z' WHERE client = 'client-2' AND user_id = 'practitioner-2' AND not_before = '2026-01-01Z'`)
	s.refuses(exclusionViolation, `INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-1', 'practitioner-2', 'admin-1')`)

	// Empty, turned round and out of the range that the facts can say.
	s.refuses(checkViolation, insert, "client-2", "practitioner-2", "2026-05-01Z", "2026-05-01Z")
	s.refuses(checkViolation, insert, "client-2", "practitioner-2", "2026-05-02Z", "2026-05-01Z")
	s.refuses(checkViolation, insert, "client-2", "practitioner-2", "2026-05-01Z", "infinity")
	s.refuses(checkViolation, insert, "client-2", "practitioner-2", "-infinity", "2025-01-01Z")
	s.refuses(checkViolation, insert, "client-2", "practitioner-2", "0044-03-15 BC", "2025-01-01Z")
}

// The end that stands for "none" is the one of the facts document.
func TestNoEndIsTheSameInBothLanguages(t *testing.T) {
	s := setup(t)
	got := s.texts(`SELECT to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM grants`)
	if want := authz.FormatTime(authz.NoEnd); len(got) != 1 || got[0] != want {
		t.Errorf("a grant without an end has %v, the facts say %s", got, want)
	}
}

// A client, who is assigned to him and who holds a grant on him are of one
// practice (promise P5).
func TestPracticesNeverMixInTheTables(t *testing.T) {
	s := setup(t)
	const grant = `INSERT INTO grants (practice, client, user_id, granted_by) VALUES ($1, $2, $3, 'admin-1')`
	s.refuses(foreignKey, grant, "practice-1", "client-1", "practitioner-3") // the member is of practice-2
	s.refuses(foreignKey, grant, "practice-1", "client-4", "practitioner-1") // the client is
	s.refuses(foreignKey, grant, "practice-2", "client-1", "practitioner-3")
	s.refuses(foreignKey, grant, "practice-1", "client-none", "practitioner-1")
	s.refuses(foreignKey, `UPDATE clients SET assigned = 'practitioner-3' WHERE id = 'client-1'`)
	s.refuses(foreignKey, `UPDATE clients SET practice = 'practice-2' WHERE id = 'client-1'`)
	s.refuses(foreignKey, `UPDATE clients SET practice = 'practice-none', assigned = NULL WHERE id = 'client-2'`)
	s.refuses(uniqueViolation, `INSERT INTO clients (id, practice, first_name, last_name) VALUES ('client-1', 'practice-2', 'Client', 'One')`)
}

func TestValuesThatTheTablesRefuse(t *testing.T) {
	s := setup(t)
	s.refuses(checkViolation, `UPDATE members SET roles = '{janitor}' WHERE user_id = 'admin-1'`)
	s.refuses(checkViolation, `UPDATE members SET roles = ARRAY['practitioner', NULL] WHERE user_id = 'admin-1'`)
	s.refuses(checkViolation, `UPDATE members SET status = 'away' WHERE user_id = 'admin-1'`)
	s.refuses(notNull, `UPDATE members SET billing_enabled = NULL WHERE user_id = 'admin-1'`)
	s.refuses(checkViolation, `UPDATE clients SET status = 'deleted' WHERE id = 'client-1'`)
	s.refuses(notNull, `UPDATE clients SET status = NULL WHERE id = 'client-1'`)
	s.refuses(checkViolation, `UPDATE clients SET last_name = '' WHERE id = 'client-1'`)
	s.refuses(checkViolation, `UPDATE grants SET scope = 'own'`)
	s.refuses(checkViolation, `UPDATE practices SET overrides = '[]' WHERE id = 'practice-1'`)
	s.refuses(checkViolation, `INSERT INTO api_keys (id, hash, scopes) VALUES ('key-1', '\x00', '{ask}')`)

	// The owner stays, and a removed member keeps no flag (DOMAIN rules 57, 58).
	s.run(`UPDATE members SET owner = true WHERE user_id = 'admin-1'`)
	s.refuses(checkViolation, `UPDATE members SET status = 'removed' WHERE user_id = 'admin-1'`)
	s.run(`UPDATE members SET full_clinical_access = true WHERE user_id = 'practitioner-1'`)
	s.refuses(checkViolation, `UPDATE members SET status = 'removed' WHERE user_id = 'practitioner-1'`)
}

// The tables take an id exactly where authz.ValidID does (DESIGN 11, Words).
func TestIDsAreThoseOfTheWords(t *testing.T) {
	s := setup(t)
	accepts := func(id string) bool {
		var ok bool
		err := s.QueryRow(t.Context(), `SELECT true WHERE $1::text::chart_id IS NOT NULL`, id).Scan(&ok)
		return err == nil && ok
	}
	for _, id := range []string{"", "a", strings.Repeat("é", 64), strings.Repeat("é", 64) + "a", strings.Repeat("x", 129),
		"a\tb", "a\u007fb", "a\u0085b", "a b", "客户", "a\u00a0b", "\u009f", "\u00a0"} {
		if got, want := accepts(id), authz.ValidID(id); got != want {
			t.Errorf("id %q: the tables say %v, the words %v", id, got, want)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		id := rapid.StringN(0, 140, 160).Draw(r, "id")
		if !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
			return // text of Postgres cannot hold these
		}
		if got, want := accepts(id), authz.ValidID(id); got != want {
			r.Errorf("id %q: the tables say %v, the words %v", id, got, want)
		}
	})
}

// Ids that differ are different in every collation: they are compared by bytes.
func TestIDsCompareByBytes(t *testing.T) {
	s := setup(t)
	s.run(`INSERT INTO users (id) VALUES ('é'), (E'e\u0301'), ('E'), ('e')`) // none of them is a duplicate
	got := s.texts(`SELECT id FROM users WHERE octet_length(id) < 4 ORDER BY id`)
	if want := "E e e\u0301 é"; strings.Join(got, " ") != want {
		t.Errorf("order %q, want %q", strings.Join(got, " "), want)
	}
}
