package search_test

import (
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/search"
)

// looked is how many rows of the tables of facts and of their history Postgres
// has looked at, by itself or through an index.
const looked = `SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables
	WHERE relname IN ('clients', 'grants', 'members', 'clients_history', 'grants_history', 'members_history')`

// A page looks at about as many rows as it has, however many clients there are,
// now and as of a past moment.
func TestPagesDoNotWalkThroughThePractice(t *testing.T) {
	b := setup(t)
	b.exec(`INSERT INTO practices (id) VALUES ('practice-1');
		INSERT INTO users (id) SELECT 'practitioner-' || i FROM generate_series(0, 200) i;
		INSERT INTO members (practice, user_id, name, roles, status) SELECT 'practice-1', id, 'Member', CASE id WHEN 'practitioner-0' THEN '{administrator}' ELSE '{practitioner}' END::text[], 'active' FROM users;
		INSERT INTO clients (id, practice, assigned, first_name, last_name)
			SELECT 'client-' || lpad(i::text, 8, '0'), 'practice-1', 'practitioner-' || (1 + i % 200), 'Client', 'One' FROM generate_series(1, 20000) i;
		INSERT INTO grants (practice, client, user_id, not_before, granted_by)
			SELECT 'practice-1', 'client-' || lpad((1 + (i * 7919) % 20000)::text, 8, '0'), 'practitioner-' || (1 + (i + 1) % 200), '2020-01-01Z', 'admin-1' FROM generate_series(1, 4000) i`)
	b.exec(`VACUUM ANALYZE`)
	var then time.Time
	if err := b.db.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&then); err != nil {
		t.Fatal(err)
	}
	rows := func() (n int) {
		b.exec(`SELECT pg_stat_clear_snapshot()`)
		if err := b.db.QueryRow(t.Context(), looked).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := rows()
	asked := 0
	for _, asOf := range []time.Time{{}, then} {
		for _, who := range []string{"practitioner-7", "practitioner-0"} {
			q := search.Question{Action: "chart.open", AsOf: asOf, Limit: 20}
			for range 2 {
				page, next, err := b.lists.MemberClients(t.Context(), tester, user("practitioner-0"), "practice-1", who, q)
				if err != nil || len(page) != 20 {
					t.Fatalf("%d, %v", len(page), err)
				}
				q.Cursor = next
				asked++
			}
		}
		for range 2 {
			page, _, err := b.lists.ClientMembers(t.Context(), tester, user("practitioner-0"), "practice-1", "client-00010000", search.Question{Action: "chart.open", AsOf: asOf, Limit: 20})
			if err != nil || len(page) < 2 {
				t.Fatalf("%d, %v", len(page), err)
			}
			asked++
		}
	}
	for _, who := range []string{"practitioner-7", "practitioner-0"} {
		r := authz.Request{Subject: user(who), Action: "chart.open", Resource: authz.Resource{Type: authz.ResourceClient}}
		if page, err := b.searches.Do(t.Context(), search.Search{Kind: search.Resources, Request: r, Limit: size(20), Caller: tester}); err != nil || len(page.Results) != 20 {
			t.Fatalf("%v, %v", page, err)
		}
		asked++
	}
	// What a connection has looked at is counted for good once it ends.
	b.lists.Pool.Close()
	b.searches.Pool.Close()
	after := rows()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && after-before < asked; after = rows() {
		time.Sleep(50 * time.Millisecond)
	}
	if n := after - before; n < asked || n > asked*1000 {
		t.Errorf("%d pages looked at %d rows", asked, n)
	} else {
		t.Logf("%d pages looked at %d rows", asked, n)
	}
}
