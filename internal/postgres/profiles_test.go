package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A star holds whoever writes: no chain, no reverse, no link to itself, none
// across practices, and the e-mail is the primary profile's (DOMAIN rule 137).
func TestProfilesFormStars(t *testing.T) {
	s := setup(t)
	s.run(`UPDATE clients SET email = id || '@example.org' WHERE id IN ('client-1', 'client-4')`)
	s.run(`INSERT INTO clients (id, practice, first_name, last_name) VALUES ('second-1', 'practice-1', 'Client', 'One'), ('third-1', 'practice-1', 'Client', 'One')`)
	const link = `INSERT INTO profile_stars (practice, client, primary_profile) VALUES ($1, $2, $3)`
	s.refuses(foreignKey, link, "practice-1", "second-1", "client-1") // the primary does not stand for itself yet
	s.refuses(foreignKey, link, "practice-1", "client-2", "client-2") // a primary without an e-mail
	s.run(link, "practice-1", "client-1", "client-1")
	s.run(link, "practice-1", "second-1", "client-1")
	s.run(link, "practice-1", "third-1", "client-1")
	s.refuses(uniqueViolation, link, "practice-1", "client-1", "second-1") // reverse
	s.refuses(uniqueViolation, link, "practice-1", "second-1", "third-1")  // twice
	s.run(`INSERT INTO clients (id, practice, first_name, last_name) VALUES ('fourth-1', 'practice-1', 'Client', 'One')`)
	s.refuses(foreignKey, link, "practice-1", "fourth-1", "second-1") // chain
	s.refuses(foreignKey, link, "practice-1", "client-4", "client-1") // a client of another practice
	s.refuses(foreignKey, link, "practice-2", "client-4", "client-1") // a primary of another practice
	s.refuses(foreignKey, `UPDATE profile_stars SET primary_profile = 'second-1' WHERE client = 'third-1'`)
	s.refuses(foreignKey, `UPDATE profile_stars SET primary_profile = 'second-1' WHERE client = 'client-1'`)
	s.refuses(foreignKey, `UPDATE clients SET email = ' ' WHERE id = 'client-1'`)
	s.refuses(foreignKey, `UPDATE clients SET email = 'another@example.org' WHERE id = 'second-1'`)
	s.refuses(foreignKey, `DELETE FROM clients WHERE id = 'client-1'`)
	s.run(`UPDATE clients SET email = 'another@example.org' WHERE id = 'client-1'`)
}

// The table of addresses holds those of clients and contacts, once each, after
// whatever statement; two of one practice never agree.
func TestEmailsAreKept(t *testing.T) {
	s := setup(t)
	s.run(`INSERT INTO contacts (id, practice, name, email) VALUES ('contact-1', 'practice-1', 'Contact One', 'Contact@example.org')`)
	s.refuses(uniqueViolation, `UPDATE clients SET email = ' CONTACT@example.org' WHERE id = 'client-1'`)
	s.run(`UPDATE clients SET email = 'contact@example.org' WHERE id = 'client-4'`) // another practice
	s.refuses(uniqueViolation, `UPDATE clients SET email = 'same@example.org' WHERE practice = 'practice-1'`)
	s.run(`UPDATE clients SET email = 'client@example.org' WHERE id = 'client-1'`)
	s.refuses(uniqueViolation, `INSERT INTO contacts (id, practice, name, email) VALUES ('contact-2', 'practice-1', 'Contact Two', 'CLIENT@EXAMPLE.ORG')`)
	s.run(`INSERT INTO contacts (id, practice, name, email) VALUES ('contact-3', 'practice-1', 'Contact Three', 'three@example.org')`)
	statements := []string{
		`UPDATE contacts SET email = CASE email WHEN 'three@example.org' THEN 'Contact@example.org' ELSE 'three@example.org' END WHERE email IS NOT NULL`, // they swap
		`UPDATE clients SET email = NULL`,
		`UPDATE clients SET email = id || '@example.org' WHERE id <> 'client-2'`,
		`UPDATE clients SET first_name = 'Another'`,
		`UPDATE contacts SET practice = CASE practice WHEN 'practice-1' THEN 'practice-2' ELSE 'practice-1' END WHERE id = 'contact-3'`,
		`DELETE FROM contacts WHERE id = 'contact-3'`,
		`INSERT INTO contacts (id, practice, name, email) VALUES ('contact-3', 'practice-1', 'Contact Three', 'three@example.org') ON CONFLICT DO NOTHING`,
		`TRUNCATE contacts CASCADE`,
		`INSERT INTO contacts (id, practice, name, email) VALUES ('contact-1', 'practice-1', 'Contact One', 'Contact@example.org') ON CONFLICT DO NOTHING`,
	}
	rapid.Check(t, func(r *rapid.T) {
		_, _ = s.Exec(t.Context(), rapid.SampledFrom(statements).Draw(r, "statement")) // refused or not
		want := s.texts(`SELECT practice || ' ' || email_folded AS line FROM clients WHERE email_folded IS NOT NULL
			UNION ALL SELECT practice || ' ' || email_folded FROM contacts WHERE email_folded IS NOT NULL ORDER BY 1`)
		if diff := cmp.Diff(want, s.texts(`SELECT practice || ' ' || folded FROM emails ORDER BY 1`)); diff != "" {
			r.Fatalf("addresses (-want +got)\n%s", diff)
		}
	})
}

// What stands in the portal's facts has one of the words, and 'client' is the
// client himself, who has no relationship.
func TestPortalFactsAreOfTheKnownWords(t *testing.T) {
	s := setup(t)
	const insert = `INSERT INTO portal_access (practice, client, contact, relationship, permissions) VALUES ('practice-1', 'client-2', $1, $2, $3)`
	s.run(insert, "contact-2", "self", []string{"view_appointments", "legal_sex"})
	s.refuses(checkViolation, insert, "contact-3", "friend", []string{})
	s.refuses(checkViolation, insert, "contact-3", nil, []string{})
	s.refuses(checkViolation, insert, "client", "self", []string{})
	s.refuses(checkViolation, insert, "contact-3", "self", []string{"everything"})
	s.refuses(checkViolation, `UPDATE practices SET portal_features = '{everything}'`)
	s.refuses(checkViolation, `UPDATE clients SET portal_features = '{NULL}'`)
	s.refuses(notNull, `UPDATE practices SET portal_features = NULL`)
	s.refuses(foreignKey, `INSERT INTO portal_access (practice, client, contact) VALUES ('practice-2', 'client-2', 'client')`)
	s.run(`UPDATE portal_access SET login = 'portal-2' WHERE contact = 'contact-1'`)
	s.refuses(uniqueViolation, `UPDATE portal_access SET login = 'portal-1' WHERE contact = 'contact-1'`)
	s.refuses(checkViolation, `UPDATE portal_access SET login = NULL, accepted_at = now() WHERE contact = 'contact-2'`)
}
