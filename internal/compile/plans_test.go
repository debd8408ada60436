package compile_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5/pgxpool"
)

// crowd fills a practice with clients, of whom practitioner-1 is assigned to
// the few in a hundred, and was given a few.
func crowd(t testing.TB, clients int) *pgxpool.Pool {
	pool := pgtest.Pool(t)
	for _, sql := range []string{
		`INSERT INTO practices (id) VALUES ('practice-1')`,
		`INSERT INTO users (id) SELECT 'practitioner-' || i FROM generate_series(1, 200) i`,
		`INSERT INTO members (practice, user_id, name, roles, status) SELECT 'practice-1', id, 'Member', '{practitioner}', 'active' FROM users`,
		fmt.Sprintf(`INSERT INTO clients (id, practice, assigned, status, first_name, last_name)
			SELECT 'client-' || lpad(i::text, 8, '0'), 'practice-1', 'practitioner-' || (1 + i %% 200), CASE WHEN i %% 50 = 0 THEN 'archived' ELSE 'active' END, 'Client', 'One'
			FROM generate_series(1, %d) i`, clients),
		fmt.Sprintf(`INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by)
			SELECT 'practice-1', 'client-' || lpad((1 + (i * 7919) %% %d)::text, 8, '0'), 'practitioner-' || (1 + i %% 200), '2020-01-01Z',
			  CASE WHEN i %% 3 = 0 THEN '2020-06-01Z'::timestamptz ELSE '9999-12-31 23:59:59.999999Z' END, 'admin-1'
			FROM generate_series(1, 20000) i ON CONFLICT DO NOTHING`, clients),
		`VACUUM ANALYZE`,
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return pool
}

func listOf(t testing.TB, action, role, after string, limit int) compile.Query {
	t.Helper()
	settings, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	m := &authz.Member{ID: "m", User: "practitioner-1", Practice: "practice-1", Roles: []string{role}, Status: "active", BillingEnabled: true}
	q, err := theShipped(t).policy.Clients(compile.Listing{Request: askAbout(action, "client", "practitioner-1", "", nil), After: after, Limit: limit,
		Facts: authz.Facts{Now: now, Latest: now, Practice: "practice-1", Settings: settings, Member: m}})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

type plan struct {
	Node  string  `json:"Node Type"`
	Table string  `json:"Relation Name"`
	Rows  float64 `json:"Actual Rows"`
	Loops float64 `json:"Actual Loops"`
	Lost  float64 `json:"Rows Removed by Filter"`
	Plans []plan  `json:"Plans"`
}

// TestListsUseIndexes reads the plans of pages: no table is walked through, and
// what is looked at does not grow with the practice.
func TestListsUseIndexes(t *testing.T) {
	pool := crowd(t, 40_000)
	for _, role := range []string{"practitioner", "administrator"} {
		for _, after := range []string{"", "client-00020000"} {
			q := listOf(t, "chart.open", role, after, 50)
			var raw []byte
			if err := pool.QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) "+q.SQL, q.Args...).Scan(&raw); err != nil {
				t.Fatal(err)
			}
			var plans []struct{ Plan plan }
			if err := json.Unmarshal(raw, &plans); err != nil {
				t.Fatal(err)
			}
			touched := walk(t, plans[0].Plan)
			if touched > 1500 {
				t.Errorf("%s after %q looks at %v rows\n%s", role, after, touched, raw)
			}
		}
	}
}

func walk(t *testing.T, p plan) float64 {
	touched := 0.0
	if p.Table != "" {
		touched = (p.Rows + p.Lost) * p.Loops
		if p.Node == "Seq Scan" && touched > 1000 {
			t.Errorf("%s of %s", p.Node, p.Table)
		}
	}
	for _, inner := range p.Plans {
		touched += walk(t, inner)
	}
	return touched
}

// byHand is the same lists as somebody would write them who knows the rule.
var byHand = map[string]string{
	"practitioner": `SELECT id FROM (
		(SELECT c.id FROM clients c WHERE c.practice = 'practice-1' AND c.assigned = 'practitioner-1' ORDER BY c.id LIMIT %[1]d) UNION
		(SELECT c.id FROM grants g JOIN clients c ON c.id = g.client WHERE g.practice = 'practice-1' AND g.user_id = 'practitioner-1'
		   AND g.not_before <= '2026-03-01 10:00:00Z' AND g.expires_at > '2026-03-01 10:00:00Z' ORDER BY g.client LIMIT %[1]d)) x ORDER BY id LIMIT %[1]d`,
	"administrator": `SELECT c.id FROM clients c WHERE c.practice = 'practice-1' ORDER BY c.id LIMIT %[1]d`,
}

// BenchmarkLists compares lists of 50 and 1,000 clients with the statements
// written by hand: turn by turn, so that both meet the same load of the machine.
// It reports the medians as list-ns and hand-ns.
func BenchmarkLists(b *testing.B) {
	for _, clients := range []int{10_000, 100_000, 1_000_000} {
		pool := crowd(b, clients)
		for _, role := range []string{"practitioner", "administrator"} {
			for _, limit := range []int{50, 1000} {
				q := listOf(b, "chart.open", role, "", limit)
				b.Run(fmt.Sprintf("%d/%s/%d", clients, role, limit), func(b *testing.B) {
					var took [2][]time.Duration
					rows := [2]int{}
					for b.Loop() {
						for i, statement := range []compile.Query{q, {SQL: fmt.Sprintf(byHand[role], limit)}} {
							began := time.Now()
							rows[i] = count(b, pool, statement)
							took[i] = append(took[i], time.Since(began))
						}
					}
					if rows[0] != rows[1] || rows[0] == 0 {
						b.Fatalf("%d rows, by hand %d", rows[0], rows[1])
					}
					for i, unit := range []string{"list-ns", "hand-ns"} {
						slices.Sort(took[i])
						b.ReportMetric(float64(took[i][len(took[i])/2]), unit)
					}
				})
			}
		}
	}
}

// count reads the first column of all rows, as whoever lists them does.
func count(b *testing.B, pool *pgxpool.Pool, q compile.Query) (n int) {
	rows, err := pool.Query(b.Context(), q.SQL, q.Args...)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		if n++; len(rows.RawValues()[0]) == 0 {
			b.Fatal("a row without an id")
		}
	}
	if rows.Err() != nil {
		b.Fatal(rows.Err())
	}
	return n
}
