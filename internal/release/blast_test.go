package release

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres/pgtest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func policyOf(t testing.TB, e *pdp.Engine) *compile.Policy {
	t.Helper()
	p, err := e.Lists()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sideOf(t testing.TB, e *pdp.Engine) BlastSide {
	return BlastSide{Name: e.Revision(), Policy: policyOf(t, e)}
}

// snapshot runs work in a transaction in which all is of one moment.
func snapshot(t testing.TB, pool *pgxpool.Pool, work func(tx pgx.Tx) error) {
	t.Helper()
	if err := pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, work); err != nil {
		t.Fatal(err)
	}
}

// populate fills a practice at random with 5 members and 7 clients.
func populate(t testing.TB, pool *pgxpool.Pool, rng *rand.Rand, practice string) {
	t.Helper()
	b := &pgx.Batch{}
	overrides := []string{`{}`, `{"admin_record_access": "list_only"}`, `{"hide_unassigned": false}`, `{"biller_sees_diagnoses": false, "access_managers": ["assigned_practitioner"]}`}[rng.IntN(4)]
	b.Queue(`INSERT INTO practices (id, overrides) VALUES ($1, $2)`, practice, overrides)
	var users, clients []string
	for i := range 5 {
		user, status := fmt.Sprintf("%s-user-%d", practice, i), []string{"active", "active", "active", "invited", "removed"}[rng.IntN(5)]
		roles := []string{}
		for _, k := range rng.Perm(len(authz.Roles))[:rng.IntN(3)] {
			roles = append(roles, authz.Roles[k])
		}
		if rng.IntN(2) == 0 {
			roles = []string{"practitioner"}
		}
		b.Queue(`INSERT INTO users (id) VALUES ($1)`, user)
		b.Queue(`INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access, billing_enabled) VALUES ($1, $2, 'Member', $3, $4, $5, $6)`,
			practice, user, roles, status, status != "removed" && rng.IntN(4) == 0, rng.IntN(2) == 0)
		if status != "removed" {
			users = append(users, user)
		}
	}
	for i := range 7 {
		client := fmt.Sprintf("%s-client-%d", practice, i)
		clients = append(clients, client)
		assigned := ""
		if len(users) > 0 && rng.IntN(3) > 0 {
			assigned = users[rng.IntN(len(users))]
		}
		b.Queue(`INSERT INTO clients (id, practice, assigned, status, first_name, last_name) VALUES ($1, $2, nullif($3, ''), $4, 'Client', 'One')`,
			client, practice, assigned, []string{"active", "active", "archived"}[rng.IntN(3)])
	}
	for _, client := range clients {
		for _, user := range users {
			if rng.IntN(2) == 0 {
				continue
			}
			// Ended, in force, to come: one of them, or two with nothing between them.
			marks := []string{"2020-01-01Z", "2021-01-01Z", "2099-01-01Z", "9999-12-31 23:59:59.999999Z"}
			for from := rng.IntN(3); from < 3 && rng.IntN(4) > 0; {
				to := from + 1 + rng.IntN(3-from)
				b.Queue(`INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, granted_by) VALUES ($1, $2, $3, $4, $5::text::timestamptz, $6::text::timestamptz, 'admin-1')`,
					practice, client, user, []string{"view", "collaborate"}[rng.IntN(2)], marks[from], marks[to])
				from = to
			}
		}
	}
	if err := pool.SendBatch(t.Context(), b).Close(); err != nil {
		t.Fatal(err)
	}
}

// everyPair is brute force: two single checks, on facts that the loader reads,
// for every member, client and case. It returns "practice action case change
// member client".
func everyPair(t testing.TB, tx pgx.Tx, before, after *pdp.Engine, settings [2]*authz.Settings, actions map[string]string) map[string]bool {
	t.Helper()
	d, err := feed.ReadDeployment(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), `SELECT m.practice, m.user_id, c.id FROM members m JOIN clients c USING (practice)`)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p [3]string, err error) {
		return p, row.Scan(&p[0], &p[1], &p[2])
	})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, p := range pairs {
		client := authz.Resource{Type: authz.ResourceClient, ID: p[2]}
		f, err := facts.Load(t.Context(), tx, d, authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: p[1]}, Action: "chart.open", Resource: client})
		if err != nil {
			t.Fatal(err)
		}
		about := p[2]
		ask := func(action, which string, resource authz.Resource) {
			r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: p[1]}, Action: action, Resource: resource}
			old, young := f, f
			if settings[0] != nil {
				old.Settings = settings[0]
			}
			if settings[1] != nil {
				young.Settings = settings[1]
			}
			was, err := before.Evaluate(t.Context(), r, old)
			if err != nil {
				t.Fatal(err)
			}
			is, err := after.Evaluate(t.Context(), r, young)
			if err != nil {
				t.Fatal(err)
			}
			if was.Allow != is.Allow {
				change := map[bool]string{true: "gained", false: "lost"}[is.Allow]
				found[strings.Join([]string{p[0], action, which, change, p[1], about}, " ")] = true
			}
		}
		for action, on := range actions {
			switch on {
			case authz.ResourceClient:
				ask(action, "", client)
			case authz.ResourcePractice:
				whole := f
				about, f.Client, f.Grant = "", nil, nil
				ask(action, "", authz.Resource{Type: on, ID: p[0]})
				about, f = p[2], whole
			case authz.ResourceDocument:
				ask(action, "", authz.Resource{Type: on, ID: "document-1", Properties: authz.Properties{"client": p[2], "kind": "intake", "recipient": "contact-1"}})
			case authz.ResourceNote:
				for _, c := range noteCases {
					author := map[bool]string{true: p[1], false: "practitioner-elsewhere"}[c.Own]
					ask(action, fmt.Sprint(c), authz.Resource{Type: on, ID: "note-1", Properties: authz.Properties{"client": p[2], "kind": c.Kind, "author": author, "signed": c.Signed}})
				}
			}
		}
	}
	return found
}

// reported is the same of a report, with its pairs page by page.
func reported(t testing.TB, tx pgx.Tx, before, after BlastSide, o BlastOptions) map[string]bool {
	t.Helper()
	report, err := BlastRadius(t.Context(), tx, before, after, o)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, row := range report.Rows {
		cases := row.Notes
		if cases == nil && report != nil && after.Policy.Actions[row.Action].On == authz.ResourceNote {
			cases = noteCases
		}
		which := []string{""}
		if cases != nil {
			which = nil
			for _, c := range cases {
				which = append(which, fmt.Sprint(c))
			}
		}
		q := PairQuery{Practice: row.Practice, Action: row.Action, Lost: row.Change == "lost", Limit: 3}
		if cases != nil {
			q.Note = &cases[0]
		}
		members, clients, all := map[string]bool{}, map[string]bool{}, []Pair{}
		for {
			page, err := BlastPairs(t.Context(), tx, before, after, q)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, page...)
			if len(page) < q.Limit {
				break
			}
			q.After = page[len(page)-1]
		}
		for _, p := range all {
			if members[p.Member] = true; p.Client != "" {
				clients[p.Client] = true
			}
			for _, w := range which {
				key := strings.Join([]string{row.Practice, row.Action, w, row.Change, p.Member, p.Client}, " ")
				if found[key] {
					t.Errorf("twice: %s", key)
				}
				found[key] = true
			}
		}
		if want := (BlastCount{int64(len(all)), int64(len(members)), int64(len(clients))}); row.BlastCount != want {
			t.Errorf("%s %s %s: counted %+v, found %+v", row.Practice, row.Action, row.Change, row.BlastCount, want)
		}
		if !slices.Equal(row.First, all[:min(len(all), o.Pairs)]) {
			t.Errorf("%s %s %s: the first are %v, of %v", row.Practice, row.Action, row.Change, row.First, all)
		}
	}
	return found
}

// TestBlastRadiusIsBruteForce compares, over random practices, who gains and
// loses whom with two single checks for every member, client and kind of note.
func TestBlastRadiusIsBruteForce(t *testing.T) {
	pool := pgtest.Pool(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 4 {
		populate(t, pool, rng, fmt.Sprintf("practice-%d", i))
	}
	shipped := variant(t, true)
	actions := map[string]string{}
	for name, a := range policyOf(t, shipped).Actions {
		if on := a.On; !strings.HasPrefix(name, "portal.") && (on == authz.ResourceClient || on == authz.ResourceDocument || on == authz.ResourceNote) {
			actions[name] = on
		}
	}
	anyNote := edit{"rules/notes/notes.rego", "not notes.open_to_read", "not notes.open_to_read\n\tinput.action.name != \"note.read\""}
	anyTime := edit{"rules/grants/grants.rego", "input.grant.not_before <= input.context.now", "input.grant.not_before != input.context.now"}
	anyScope := edit{"rules/grants/grants.rego", "_scope_collaborates if input.grant.scope == \"collaborate\"", "_scope_collaborates if input.grant.scope in {\"view\", \"collaborate\"}"}
	for name, after := range map[string]*pdp.Engine{
		"nothing":           shipped,
		"grants to come":    variant(t, true, anyTime),
		"any scope":         variant(t, true, anyScope),
		"rows changed":      variant(t, true, widenedRow, narrowedRow),
		"notes not guarded": variant(t, true, anyNote),
		"all of it":         variant(t, true, anyTime, anyScope, widenedRow, narrowedRow, anyNote),
	} {
		snapshot(t, pool, func(tx pgx.Tx) error {
			want := everyPair(t, tx, shipped, after, [2]*authz.Settings{}, actions)
			got := reported(t, tx, sideOf(t, shipped), sideOf(t, after), BlastOptions{Actions: slices.Sorted(maps.Keys(actions)), Pairs: 2})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: (-single checks +blast radius)\n%s", name, diff)
			}
			if len(want) < 5 && name != "nothing" {
				t.Errorf("%s: only %d pairs: it tries nothing", name, len(want))
			}
			return nil
		})
	}
}

// BenchmarkBlastRadius compares a widened row (schedulers open charts: 2 of 205
// members gain nearly all clients), a rule of grants (nobody gains), and the
// same policy, in one practice of 200 practitioners.
func BenchmarkBlastRadius(b *testing.B) {
	shipped := sideOf(b, variant(b, true))
	afters := map[string]BlastSide{"same": shipped, "row": sideOf(b, variant(b, true, widenedRow)), "assigned": sideOf(b, variant(b, true,
		edit{"rules/assigned/assigned.rego", "input.client.assigned == input.member.user", "input.client.assigned == input.member.user\n\tinput.client.status == \"active\""}))}
	for _, clients := range []int{10_000, 1_000_000} {
		pool := pgtest.Pool(b)
		for _, sql := range []string{
			`INSERT INTO practices (id) VALUES ('practice-1')`,
			`INSERT INTO users (id) SELECT 'practitioner-' || i FROM generate_series(1, 205) i`,
			`INSERT INTO members (practice, user_id, name, roles, status) SELECT 'practice-1', 'practitioner-' || i, 'Member',
				CASE WHEN i <= 200 THEN '{practitioner}'::text[] WHEN i <= 202 THEN '{scheduler}' ELSE '{administrator}' END, 'active' FROM generate_series(1, 205) i`,
			fmt.Sprintf(`INSERT INTO clients (id, practice, assigned, status, first_name, last_name)
				SELECT 'client-' || lpad(i::text, 8, '0'), 'practice-1', 'practitioner-' || (1 + i %% 200), CASE WHEN i %% 50 = 0 THEN 'archived' ELSE 'active' END, 'Client', 'One'
				FROM generate_series(1, %d) i`, clients),
			fmt.Sprintf(`INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by)
				SELECT 'practice-1', 'client-' || lpad((1 + (i * 7919) %% %d)::text, 8, '0'), 'practitioner-' || (1 + (i * 31) %% 200), '2020-01-01Z',
				  CASE WHEN i %% 3 = 0 THEN '2020-06-01Z'::timestamptz ELSE '9999-12-31 23:59:59.999999Z' END, 'admin-1'
				FROM generate_series(1, 20000) i ON CONFLICT DO NOTHING`, clients),
			`VACUUM ANALYZE`,
		} {
			if _, err := pool.Exec(b.Context(), sql); err != nil {
				b.Fatal(err)
			}
		}
		for name, after := range afters {
			b.Run(fmt.Sprintf("%d/%s", clients, name), func(b *testing.B) {
				var pairs int64
				for b.Loop() {
					snapshot(b, pool, func(tx pgx.Tx) error {
						report, err := BlastRadius(b.Context(), tx, shipped, after, BlastOptions{Pairs: 10})
						if err == nil {
							pairs = report.Gained.Pairs + report.Lost.Pairs
						}
						return err
					})
				}
				b.ReportMetric(float64(pairs), "pairs")
			})
		}
	}
}
