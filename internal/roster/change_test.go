package roster_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"chartgate/internal/feed"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/roster"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// base is a small practice that tests change.
func base(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.Pool(t)
	load(t, pool, folder(t,
		"practices.csv", "id,name\npractice-1,Practice One\npractice-2,Practice Two\n",
		"members.csv", "practice,user,name,email,roles,owner,full_clinical_access\n"+
			"practice-1,admin-1,Administrator One,,administrator,true,false\n"+
			"practice-1,practitioner-1,Practitioner One,practitioner-1@example.com,practitioner,false,true\n"+
			"practice-1,practitioner-2,Practitioner Two,,practitioner,false,false\n"+
			"practice-2,practitioner-3,Practitioner Three,,practitioner,false,false\n",
		"clients.csv", "id,practice,first_name,last_name,email,assigned\n"+
			"client-1,practice-1,Client,One,client-1@example.com,practitioner-1\n"+
			"client-2,practice-1,Client,Two,client-2@example.com,\n"+
			"client-4,practice-2,Client,Four,client-1@example.com,practitioner-3\n",
		"grants.csv", "client,user,scope,not_before,expires_at,reason,granted_by\n"+
			"client-2,practitioner-1,view,2020-01-01T00:00:00Z,2021-01-01T00:00:00Z,Cover,admin-1\n"+
			"client-2,practitioner-1,view,,2100-01-01T00:00:00Z,Cover,admin-1\n"))
	return pool
}

// TestChangedRowsAreUpdated: a changed row changes that fact alone, once in the
// history and once in the feed; every other row stays as it is.
func TestChangedRowsAreUpdated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, file, content string
		now                 string // a question whose answer the change is
		want                string
		feed                string
	}{
		{"settings", "practices.csv", "id,preset,overrides\npractice-1,help-centre,\"{\"\"hide_unassigned\"\":false}\"\n",
			`SELECT preset || overrides || name FROM practices WHERE id = 'practice-1'`, `help-centre{"hide_unassigned": false}Practice One`, "settings practice-1 "},
		{"roles", "members.csv", "practice,user,name,roles\npractice-1,practitioner-2,Practitioner Two,scheduler practitioner\n",
			`SELECT roles::text FROM members WHERE user_id = 'practitioner-2'`, "{practitioner,scheduler}", "member practice-1 practitioner-2"},
		{"no roles", "members.csv", "practice,user,name,roles\npractice-1,practitioner-2,Practitioner Two,\n",
			`SELECT roles::text FROM members WHERE user_id = 'practitioner-2'`, "{}", "member practice-1 practitioner-2"},
		{"member status", "members.csv", "practice,user,name,status\npractice-1,practitioner-2,Practitioner Two,invited\n",
			`SELECT status FROM members WHERE user_id = 'practitioner-2'`, "invited", "member practice-1 practitioner-2"},
		{"assigned", "clients.csv", "id,practice,first_name,last_name,assigned\nclient-1,practice-1,Client,One,practitioner-2\n",
			`SELECT assigned || email FROM clients WHERE id = 'client-1'`, "practitioner-2client-1@example.com", "client client-1 "},
		{"nobody assigned", "clients.csv", "id,practice,first_name,last_name,assigned\nclient-1,practice-1,Client,One,\n",
			`SELECT coalesce(assigned, 'nobody') FROM clients WHERE id = 'client-1'`, "nobody", "client client-1 "},
		{"client status", "clients.csv", "id,practice,first_name,last_name,status\nclient-1,practice-1,Client,One,archived\n",
			`SELECT status || assigned FROM clients WHERE id = 'client-1'`, "archivedpractitioner-1", "client client-1 "},
		{"end of the grant that is in force", "grants.csv", "client,user,expires_at\nclient-2,practitioner-1,2090-01-01T00:00:00Z\n",
			`SELECT string_agg(extract(year FROM expires_at) || scope || granted_by, ' ' ORDER BY expires_at) FROM grants`, "2021viewadmin-1 2090viewadmin-1", "grant client-2 practitioner-1"},
		{"no end", "grants.csv", "client,user,expires_at\nclient-2,practitioner-1,\n",
			`SELECT string_agg(to_char(expires_at, 'YYYY'), ' ' ORDER BY expires_at) FROM grants`, "2021 9999", "grant client-2 practitioner-1"},
		{"scope of a grant by its beginning", "grants.csv", "client,user,not_before,scope\nclient-2,practitioner-1,2020-01-01T00:00:00Z,collaborate\n",
			`SELECT string_agg(scope, ' ' ORDER BY not_before) FROM grants WHERE expires_at < now() OR not_before = granted_at`, "collaborate view", "grant client-2 practitioner-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := base(t)
			before := facts(t, pool)
			fed := one(t, pool, `SELECT max(id)::text FROM feed`)
			files := folder(t, test.file, test.content)
			report := load(t, pool, files)
			changed := report.Practices.Changed + report.Members.Changed + report.Clients.Changed + report.Grants.Changed
			if changed != 1 {
				t.Errorf("report: %+v", report)
			}
			if got := one(t, pool, test.now); got != test.want {
				t.Errorf("%s: got %s, want %s", test.now, got, test.want)
			}
			if n := len(differing(before, facts(t, pool))); n != 2 { // the row before and after
				t.Errorf("%d rows differ, want 2", n)
			}
			if got := one(t, pool, `SELECT string_agg(DISTINCT concat_ws(' ', kind, a, b), '; ') FROM feed WHERE id > `+fed); got != test.feed {
				t.Errorf("feed: %q, want %q", got, test.feed)
			}
			history := strings.TrimSuffix(test.file, ".csv") + "_history"
			if got := one(t, pool, `SELECT count(*)::text FROM `+history+` WHERE valid_to < 'infinity'`); got != "1" {
				t.Errorf("%s has %s closed rows, want 1", history, got)
			}
			if report := load(t, pool, files); report.Practices.Changed+report.Members.Changed+report.Clients.Changed+report.Grants.Changed != 0 {
				t.Errorf("imported again: %+v", report)
			}
		})
	}
}

// differing returns the texts that stand in one of two sorted lists only.
func differing(a, b []string) []string {
	seen := map[string]int{}
	for _, s := range a {
		seen[s]++
	}
	for _, s := range b {
		seen[s]--
	}
	var list []string
	for s, n := range seen {
		if n != 0 {
			list = append(list, s)
		}
	}
	return list
}

// TestNamesAreNoFacts: a name or an e-mail changes without history and feed.
func TestNamesAreNoFacts(t *testing.T) {
	t.Parallel()
	pool := base(t)
	before := one(t, pool, `SELECT count(*) || ' ' || (SELECT count(*) FROM clients_history) FROM feed`)
	report := load(t, pool, folder(t, "clients.csv", "id,practice,first_name,last_name,email\nclient-1,practice-1,Client,Uno,\n"))
	if report.Clients != (roster.Counts{Changed: 1}) {
		t.Errorf("report: %+v", report)
	}
	if after := one(t, pool, `SELECT count(*) || ' ' || (SELECT count(*) FROM clients_history) FROM feed`); after != before {
		t.Errorf("rows of feed and history: %s, before %s", after, before)
	}
	if got := one(t, pool, `SELECT last_name || coalesce(email, ' without') FROM clients WHERE id = 'client-1'`); got != "Uno without" {
		t.Errorf("client-1: %s", got)
	}
}

// TestEmailsArePassedOn: clients of one import exchange their e-mails, though
// no two may ever have the same.
func TestEmailsArePassedOn(t *testing.T) {
	t.Parallel()
	pool := base(t)
	load(t, pool, folder(t, "clients.csv", "id,practice,first_name,last_name,email\n"+
		"client-1,practice-1,Client,One,client-2@example.com\n"+
		"client-2,practice-1,Client,Two,CLIENT-1@example.com\n"))
	if got := one(t, pool, `SELECT string_agg(id || ' ' || email_folded, '; ' ORDER BY id) FROM clients WHERE practice = 'practice-1'`); got != "client-1 client-2@example.com; client-2 client-1@example.com" {
		t.Errorf("e-mails: %s", got)
	}
	load(t, pool, folder(t, "clients.csv", "id,practice,first_name,last_name,email\n"+
		"client-3,practice-1,Client,Three,client-2@example.com\n"+
		"client-1,practice-1,Client,One,\n"))
	if got := one(t, pool, `SELECT id FROM clients WHERE practice = 'practice-1' AND email_folded = 'client-2@example.com'`); got != "client-3" {
		t.Errorf("the e-mail that client-1 gave up has %s", got)
	}
}

// TestRule58RemovedMemberComesBackWithNothing: removal by import takes full
// clinical access, assignments and grants; who comes back is another member.
func TestRule58RemovedMemberComesBackWithNothing(t *testing.T) {
	t.Parallel()
	pool := base(t)
	id := one(t, pool, `SELECT id::text FROM members WHERE user_id = 'practitioner-1'`)
	load(t, pool, folder(t, "members.csv", "practice,user,name,status\npractice-1,practitioner-1,Practitioner One,removed\n"))
	nothing := `SELECT concat_ws(' ', m.status, m.full_clinical_access, (SELECT count(*) FROM clients c WHERE c.assigned = m.user_id),
		(SELECT count(*) FROM grants g WHERE g.user_id = m.user_id)) FROM members m WHERE m.user_id = 'practitioner-1'`
	if got := one(t, pool, nothing); got != "removed f 0 0" {
		t.Errorf("removed: %s", got)
	}
	load(t, pool, folder(t, "members.csv", "practice,user,name,status\npractice-1,practitioner-1,Practitioner One,active\n"))
	if got := one(t, pool, nothing); got != "active f 0 0" {
		t.Errorf("came back: %s", got)
	}
	if one(t, pool, `SELECT id::text FROM members WHERE user_id = 'practitioner-1'`) == id {
		t.Error("came back as the same membership")
	}
}

// TestScopeOfAGrantThatNamesNone is what the practice's settings say, also of
// a practice that comes with the same import.
func TestScopeOfAGrantThatNamesNone(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	load(t, pool, folder(t,
		"practices.ndjson", `{"id": "p", "overrides": {"grant_default_scope": "view"}}`+"\n"+`{"id": "q"}`,
		"members.csv", "practice,user,name\np,u,User\nq,u,User\n",
		"clients.csv", "id,practice,first_name,last_name\nc,p,Client,One\nd,q,Client,Two\n",
		"grants.csv", "client,user\nc,u\nd,u\n"))
	if got := one(t, pool, `SELECT string_agg(client || ' ' || scope || ' ' || granted_by, '; ' ORDER BY client) FROM grants`); got != "c view operator-1; d collaborate operator-1" {
		t.Errorf("grants: %s", got)
	}
}

// TestImportIsOnRecord: a practice in which something changed has one change
// record, with the actor and counts and no personal data.
func TestImportIsOnRecord(t *testing.T) {
	t.Parallel()
	pool := base(t)
	last := one(t, pool, `SELECT max(id)::text FROM changes`)
	load(t, pool, folder(t, "clients.csv", "id,practice,first_name,last_name,assigned\n"+
		"client-2,practice-1,Client,Two,practitioner-2\nclient-3,practice-1,Client,Three,\nclient-4,practice-2,Client,Four,practitioner-3\n"))
	got := texts(t, pool, `SELECT practice, concat_ws(' ', actor, action, after, reason) FROM changes WHERE id > `+last)
	if diff := cmp.Diff([]string{`practice-1 operator-1 import {"clients": {"changed": 1, "inserted": 1}} `}, got); diff != "" {
		t.Error(diff)
	}
}

// TestWritersWaitReadersDoNot: between the checks of an import and its end
// nobody else writes facts, and everybody reads them as they were.
func TestWritersWaitReadersDoNot(t *testing.T) {
	t.Parallel()
	pool := base(t)
	var tried []string
	_, err := roster.Load(t.Context(), pool, folder(t, "clients.csv", "id,practice,first_name,last_name,assigned\nclient-1,practice-1,Client,One,practitioner-2\n"),
		roster.Options{Actor: actor, Progress: func(p roster.Progress) {
			if p.Step != "write clients" || !p.Over {
				return
			}
			tried = append(tried, one(t, pool, `SELECT assigned FROM clients WHERE id = 'client-1'`))
			for _, write := range []string{
				`UPDATE members SET status = 'removed' WHERE user_id = 'practitioner-2'`,
				`DELETE FROM grants`,
				`INSERT INTO clients (id, practice, first_name, last_name) VALUES ('client-9', 'practice-1', 'Client', 'Nine')`,
			} {
				_, err := pool.Exec(t.Context(), `BEGIN; SET LOCAL lock_timeout = '20ms'; `+write+`; COMMIT`)
				var refused *pgconn.PgError
				if !errors.As(err, &refused) || refused.Code != "55P03" { // lock_not_available
					t.Errorf("during an import, %s: %v", write, err)
				}
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"practitioner-1"}, tried); diff != "" {
		t.Error(diff)
	}
	if got := one(t, pool, `SELECT assigned FROM clients WHERE id = 'client-1'`); got != "practitioner-2" {
		t.Errorf("after the import client-1 is assigned to %s", got)
	}
}

// TestGrantWithoutBeginningIsKnownByItsEnd: a file that was right when it was
// first imported stays right when its grants have ended, or wait for their time.
func TestGrantWithoutBeginningIsKnownByItsEnd(t *testing.T) {
	t.Parallel()
	pool := base(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by)
		VALUES ('practice-1', 'client-1', 'practitioner-2', '2020-01-01Z', '2021-01-01Z', 'operator-1'),
		       ('practice-1', 'client-1', 'practitioner-2', '2100-01-01Z', '2101-01-01Z', 'operator-1')`); err != nil {
		t.Fatal(err)
	}
	report := load(t, pool, folder(t, "grants.csv", "client,user,scope,expires_at\n"+
		"client-1,practitioner-2,collaborate,2021-01-01T00:00:00Z\nclient-1,practitioner-2,,2101-01-01T00:00:00Z\n"))
	if report.Grants != (roster.Counts{Unchanged: 2}) {
		t.Errorf("report: %+v", report.Grants)
	}
	report = load(t, pool, folder(t, "grants.csv", "client,user,expires_at\nclient-1,practitioner-2,2090-01-01T00:00:00Z\n"))
	if report.Grants != (roster.Counts{Inserted: 1}) {
		t.Errorf("a grant of its own: %+v", report.Grants)
	}
}

// TestOrderOfRolesSaysNothing: roles in another order are the same roles.
func TestOrderOfRolesSaysNothing(t *testing.T) {
	t.Parallel()
	pool := base(t)
	if _, err := pool.Exec(t.Context(), `UPDATE members SET roles = '{scheduler,practitioner}' WHERE user_id = 'practitioner-2'`); err != nil {
		t.Fatal(err)
	}
	report := load(t, pool, folder(t, "members.csv", "practice,user,name,roles\npractice-1,practitioner-2,Practitioner Two,practitioner | scheduler\n"))
	if report.Members != (roster.Counts{Unchanged: 1}) {
		t.Errorf("report: %+v", report.Members)
	}
}

// TestChangesHoldWhenTheImportReturns: no sidecar may answer on the strength of
// what an import took, once it has returned (promise P2). One that finds nothing
// to do may repeat one that died before it could wait (freshness, schedule 2).
func TestChangesHoldWhenTheImportReturns(t *testing.T) {
	t.Parallel()
	pool := base(t)
	unassigned := folder(t, "clients.csv", "id,practice,first_name,last_name,assigned\nclient-1,practice-1,Client,One,\n")
	for _, what := range []string{"a change", "the same again"} {
		var written time.Duration
		_, err := roster.Load(t.Context(), pool, unassigned, roster.Options{Actor: actor, Progress: func(roster.Progress) { written = feed.BootTime() }})
		if err != nil {
			t.Fatal(err)
		}
		if waited := feed.BootTime() - written; waited < feed.MaxLease+feed.Margin {
			t.Errorf("%s: the import returned %s after it was written, a lease is %s", what, waited, feed.MaxLease+feed.Margin)
		}
	}
	interrupted := errors.New("interrupted")
	_, err := roster.Load(t.Context(), pool, folder(t, "clients.csv", "id,practice,first_name,last_name\nclient-8,practice-1,Client,Eight\n"),
		roster.Options{Actor: actor, Settle: func(context.Context) error { return interrupted }})
	if !errors.Is(err, interrupted) {
		t.Errorf("an import whose wait was interrupted is a success: %v", err)
	}
}
