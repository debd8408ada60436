package search_test

import (
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/search"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// looked is how many rows of the tables of facts and of their history Postgres
// has looked at: one after the other, or as entries of an index, whose rows it
// need not fetch where a vacuum has been. What a connection has looked at is
// counted once it says flush.
const (
	looked = `WITH facts AS (SELECT unnest(ARRAY['clients', 'grants', 'members', 'clients_history', 'grants_history', 'members_history']::name[]) AS relname)
		SELECT coalesce((SELECT sum(seq_tup_read) FROM pg_stat_user_tables JOIN facts USING (relname)), 0)::bigint +
			coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes JOIN facts USING (relname)), 0)::bigint`
	flush = `SELECT pg_stat_force_next_flush()`
)

const crowd = `INSERT INTO practices (id) VALUES ('practice-1');
	INSERT INTO users (id) SELECT 'practitioner-' || i FROM generate_series(0, 200) i;
	INSERT INTO members (practice, user_id, name, roles, status) SELECT 'practice-1', id, 'Member', CASE id WHEN 'practitioner-0' THEN '{administrator}' ELSE '{practitioner}' END::text[], 'active' FROM users;
	INSERT INTO clients (id, practice, assigned, first_name, last_name)
		SELECT 'client-' || lpad(i::text, 8, '0'), 'practice-1', 'practitioner-' || CASE WHEN i % 3 = 0 THEN 1 ELSE 1 + i % 200 END, 'Client', 'One' FROM generate_series(1, 20000) i;
	INSERT INTO grants (practice, client, user_id, not_before, granted_by)
		SELECT 'practice-1', 'client-' || lpad((1 + (i * 7919) % 20000)::text, 8, '0'), 'practitioner-' || (1 + (i + 1) % 200), '2020-01-01Z', 'admin-1' FROM generate_series(1, 4000) i`

// A page looks at about as many rows as it has, however many clients there are,
// now and as of a past moment; also the eighth time on one connection, when
// Postgres may take one plan for all parameters, and while it has no statistics
// of the tables.
func TestPagesDoNotWalkThroughThePractice(t *testing.T) {
	for name, with := range map[string]struct{ prepare, plans string }{
		"statistics":              {`VACUUM ANALYZE`, "auto"},
		"no statistics":           {``, "auto"},
		"one plan for all":        {`VACUUM ANALYZE`, "force_generic_plan"},
		"one plan, no statistics": {``, "force_generic_plan"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPages(t, with.prepare, with.plans)
			for _, asOf := range []time.Time{{}, p.then} {
				for _, who := range []string{"practitioner-7", "practitioner-1", "practitioner-0"} {
					for _, cursor := range []string{"", p.second(who, asOf)} {
						p.repeat("clients of "+who, func() int {
							page, _, err := p.lists.MemberClients(t.Context(), tester, user("practitioner-0"), "practice-1", who,
								search.Question{Action: "chart.open", AsOf: asOf, Limit: pageSize, Cursor: cursor})
							p.must(err)
							return len(page)
						})
					}
				}
				p.repeat("members", func() int {
					page, _, err := p.lists.ClientMembers(t.Context(), tester, user("practitioner-0"), "practice-1", "client-00010000",
						search.Question{Action: "chart.open", AsOf: asOf, Limit: pageSize})
					p.must(err)
					return len(page)
				})
			}
			for _, who := range []string{"practitioner-7", "practitioner-1", "practitioner-0"} {
				r := authz.Request{Subject: user(who), Action: "chart.open", Resource: authz.Resource{Type: authz.ResourceClient}}
				p.repeat("search by "+who, func() int {
					page, err := p.searches.Do(t.Context(), search.Search{Kind: search.Resources, Request: r, Limit: size(pageSize), Caller: tester})
					p.must(err)
					return len(page.Results)
				})
				p.repeat("list of "+who, func() int {
					var ids []string
					p.must(postgres.InSnapshot(t.Context(), p.one, func(tx pgx.Tx) (err error) {
						ids, _, err = p.lists.Listed(t.Context(), tx, user(who), "practice-1", "client.list", "", pageSize)
						return err
					}))
					return len(ids)
				})
			}
		})
	}
}

const (
	pageSize = 50
	// rowsOfAPage is what a page may look at: its rows by each way to be allowed,
	// their clients, whom the actor may list, and the members of a practice once.
	rowsOfAPage = 1000
)

// pages are lists on one connection.
type pages struct {
	*bench
	t    *testing.T
	one  *pgxpool.Pool
	then time.Time
}

func newPages(t *testing.T, prepare, plans string) *pages {
	b := setup(t)
	for _, sql := range []string{crowd, prepare} {
		b.exec(sql)
	}
	// Whatever the set-up has looked at is counted once its connections end.
	b.db.Reset()
	url := b.db.Config().ConnString()
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	one, err := postgres.Open(t.Context(), url+separator+"plan_cache_mode="+plans, postgres.RoleControl, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(one.Close)
	b.lists.Pool, b.searches.Pool = one, one
	b.db = pgtest.PoolAs(t, url, "")
	p := &pages{bench: b, t: t, one: one}
	p.must(b.db.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&p.then))
	for before := -1; ; time.Sleep(20 * time.Millisecond) {
		now := p.rows()
		if now == before && now > 20000 {
			return p
		}
		before = now
	}
}

func (p *pages) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// rows is how many have been looked at.
func (p *pages) rows() (n int) {
	p.t.Helper()
	_, err := p.one.Exec(p.t.Context(), flush)
	p.must(err)
	_, err = p.db.Exec(p.t.Context(), `SELECT pg_stat_clear_snapshot()`)
	p.must(err)
	p.must(p.db.QueryRow(p.t.Context(), looked).Scan(&n))
	return n
}

// second is the cursor of the second page.
func (p *pages) second(who string, asOf time.Time) string {
	_, next, err := p.lists.MemberClients(p.t.Context(), tester, user("practitioner-0"), "practice-1", who, search.Question{Action: "chart.open", AsOf: asOf, Limit: pageSize})
	p.must(err)
	return next
}

// repeat reads a page eight times, each of which may look at so many rows.
func (p *pages) repeat(what string, page func() int) {
	p.t.Helper()
	most := 0
	for i := range 8 {
		before := p.rows()
		rows := page()
		n := p.rows() - before
		if rows < 2 || n < rows || n > rowsOfAPage {
			p.t.Errorf("%s, time %d: a page of %d looked at %d rows", what, i+1, rows, n)
			return
		}
		most = max(most, n)
	}
	p.t.Logf("%s: at most %d rows", what, most)
}
