package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/search"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

func TestRule112ClientIsListedIffClientListAllows(t *testing.T) {
	b := setup(t)
	n, seen, hidden := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := b.drawWorld(t, fmt.Sprintf("p%d-", n))
		for _, who := range w.users {
			want := []string{}
			for _, client := range w.clients {
				if b.decide(t, single("client.list", authz.ResourceClient, who, client, nil)).Allow {
					want = append(want, client)
				}
			}
			seen, hidden = seen+len(want), hidden+len(w.clients)-len(want)
			if got := names(b.clientsOf(t, w.admin(), w.practice, who, search.Question{Action: "client.list", Limit: 3})); !slices.Equal(got, want) {
				t.Fatalf("%s lists %v, by single checks %v", who, got, want)
			}
			var listed []string
			err := pgx.BeginTxFunc(context.Background(), b.db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) (err error) {
				listed, _, err = b.lists.Listed(context.Background(), tx, user(who), w.practice, "client.list", "", 100)
				return err
			})
			if err != nil || !slices.Equal(append([]string{}, listed...), want) {
				t.Fatalf("%s lists %v, by single checks %v, %v", who, listed, want, err)
			}
		}
	})
	if seen < 100 || hidden < 100 {
		t.Errorf("%d clients were listed, %d hidden: that tries nothing", seen, hidden)
	}
}

const demo = `
INSERT INTO practices (id) VALUES ('practice-1'), ('practice-2');
INSERT INTO users (id) SELECT unnest('{admin-1,practitioner-1,practitioner-2,practitioner-full,grantee-1,scheduler-1,invited-1,admin-2}'::text[]);
INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access) VALUES
	('practice-1', 'admin-1',           'Administrator One', '{administrator}', 'active', false),
	('practice-1', 'practitioner-1',    'Practitioner One',  '{practitioner}', 'active', false),
	('practice-1', 'practitioner-2',    'Practitioner Two',  '{practitioner}', 'active', false),
	('practice-1', 'practitioner-full', 'Practitioner Full', '{administrator,practitioner}', 'active', true),
	('practice-1', 'grantee-1',         'Grantee One',       '{practitioner}', 'active', false),
	('practice-1', 'scheduler-1',       'Scheduler One',     '{scheduler}', 'active', false),
	('practice-1', 'invited-1',         'Invited One',       '{practitioner}', 'invited', true),
	('practice-2', 'admin-2',           'Administrator Two', '{administrator}', 'active', false),
	('practice-2', 'practitioner-1',    'Practitioner One',  '{practitioner}', 'active', false);
INSERT INTO clients (id, practice, assigned, first_name, last_name) VALUES
	('client-1', 'practice-1', 'practitioner-1', 'Client', 'One'),
	('client-2', 'practice-1', 'practitioner-2', 'Client', 'Two'),
	('client-3', 'practice-1', 'practitioner-1', 'Client', 'Three'),
	('client-4', 'practice-2', 'practitioner-1', 'Client', 'Four');
INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by) VALUES
	('practice-1', 'client-1', 'grantee-1', '2020-01-01Z', '2999-12-01Z', 'admin-1'),
	('practice-1', 'client-1', 'practitioner-full', '2020-01-01Z', '9999-12-31 23:59:59.999999Z', 'admin-1'),
	('practice-1', 'client-1', 'practitioner-2', '2020-01-01Z', '2020-06-01Z', 'admin-1');`

// demoBench is a bench with a practice that the rules can name.
func demoBench(t *testing.T) *bench {
	b := setup(t)
	b.exec(demo)
	return b
}

// What a member sees is the same whatever he does not see: pages, their number,
// their cursors, byte for byte.
func TestRule113HiddenClientsAreNotCounted(t *testing.T) {
	b := demoBench(t)
	view := func() string {
		var all []any
		q := search.Question{Action: "chart.open", Limit: 1}
		r := search.Search{Kind: search.Resources, Caller: tester, Limit: size(1),
			Request: authz.Request{Subject: user("practitioner-1"), Action: "chart.open", Resource: authz.Resource{Type: authz.ResourceClient}}}
		for {
			page, next, err := b.lists.MemberClients(t.Context(), tester, user("practitioner-1"), "practice-1", "practitioner-1", q)
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, page, next); next == "" {
				break
			}
			q.Cursor = next
		}
		for {
			page, err := b.searches.Do(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, page.Results, page.Next); page.Next == "" {
				break
			}
			r.Token = page.Next
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := view()
	if strings.Count(before, "client-3") != 2 || strings.Contains(before, "client-2") {
		t.Fatalf("%s", before)
	}
	b.exec(`INSERT INTO clients (id, practice, assigned, first_name, last_name)
		SELECT 'client-' || n, p, CASE p WHEN 'practice-1' THEN 'practitioner-2' END, 'Client', 'Hidden'
		FROM generate_series(10, 500) n, unnest('{practice-1}'::text[]) p`)
	if after := view(); after != before {
		t.Errorf("hidden clients show:\n%s\n%s", before, after)
	}
}

// Metamorphic: a grant that is added takes nothing away, a role that is taken
// away gives nothing. (Blocks are not built.)
func TestRule115GrantsOnlyAddAndRolesTakenOnlyTakeAway(t *testing.T) {
	b := setup(t)
	actions, on := b.listable()
	n, added, taken := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := b.drawWorld(t, fmt.Sprintf("p%d-", n))
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(actions), 4, 4, rapid.ID[string]).Draw(t, "actions")
		lists := func() map[string][]string {
			found := map[string][]string{}
			for _, action := range some {
				q := search.Question{Action: action, Properties: sample(on[action], w.users[1]), Limit: 100}
				for _, who := range w.users[1:] {
					found[action+" "+who] = names(b.clientsOf(t, w.admin(), w.practice, who, q))
				}
			}
			return found
		}
		// covers reports how many rows more has than less, all of whose it must have.
		covers := func(more, less map[string][]string, what string) (beyond int) {
			for key, rows := range less {
				for _, row := range rows {
					if !slices.Contains(more[key], row) {
						t.Fatalf("%s: %s of %s", what, key, row)
					}
				}
				beyond += len(more[key]) - len(rows)
			}
			return beyond
		}
		before := lists()
		_, err := b.db.Exec(context.Background(), `INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, granted_by)
			SELECT m.practice, c.id, m.user_id, $2, now() - interval '1 day', now() + interval '5 hours', 'admin-1' FROM members m JOIN clients c USING (practice)
			WHERE m.practice = $1 AND m.status <> 'removed' AND NOT EXISTS (SELECT FROM grants g WHERE g.client = c.id AND g.user_id = m.user_id)`,
			w.practice, rapid.SampledFrom([]string{"view", "collaborate"}).Draw(t, "added scope"))
		if err != nil {
			t.Fatal(err)
		}
		granted := lists()
		added += covers(granted, before, "a grant took away")
		role := rapid.SampledFrom(authz.Roles).Draw(t, "role")
		if _, err := b.db.Exec(context.Background(), `UPDATE members SET roles = array_remove(roles, $2) WHERE practice = $1 AND user_id <> $3`, w.practice, role, w.users[0]); err != nil {
			t.Fatal(err)
		}
		taken += covers(granted, lists(), "a role that was taken away gave")
	})
	if added == 0 || taken == 0 {
		t.Errorf("%d rows were added, %d taken: that tries nothing", added, taken)
	}
}

// What the lists say as of a moment is what single checks said then, with the
// data and the settings of then, whatever was changed since.
func TestRule117AsOfIsWhatWasDecidedThen(t *testing.T) {
	b := setup(t)
	actions, on := b.listable()
	n, differs := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := b.drawWorld(t, fmt.Sprintf("p%d-", n))
		action := rapid.SampledFrom(append([]string{"chart.open", "chart.open", "note.read"}, actions...)).Draw(t, "action")
		properties := sample(on[action], w.users[1])
		type moment struct {
			at               time.Time
			clients, members map[string][]string
		}
		var past []moment
		w.users = append(w.users, w.practice+"m9") // joins after the first moment
		for i := range rapid.IntRange(1, 4).Draw(t, "changes") {
			m := moment{}
			if err := b.db.QueryRow(context.Background(), `SELECT clock_timestamp()`).Scan(&m.at); err != nil {
				t.Fatal(err)
			}
			m.clients, m.members = b.checked(t, w, nil, action, on[action], properties)
			past = append(past, m)
			if i == 0 {
				b.join(t, w, w.practice+"m9")
			}
			b.change(t, w)
		}
		var early time.Time
		if err := b.db.QueryRow(context.Background(), `SELECT min(valid_from) - interval '1 microsecond' FROM practices_history WHERE id = $1`, w.practice).Scan(&early); err != nil {
			t.Fatal(err)
		}
		past = append(past, moment{at: early, clients: map[string][]string{}, members: map[string][]string{}}) // before there was anything
		for i, m := range past {
			q := search.Question{Action: action, Properties: properties, AsOf: m.at, Limit: rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "page")}
			for _, who := range w.users {
				if i > 0 && !slices.Equal(m.clients[who], past[0].clients[who]) {
					differs++
				}
				if got := b.clientsOf(t, w.admin(), w.practice, who, q); !slices.Equal(got, m.clients[who]) {
					t.Fatalf("%s of %s as of %v: %v, it was %v", action, who, m.at, got, m.clients[who])
				}
			}
			for _, client := range w.clients {
				if got := b.membersOf(t, w.admin(), w.practice, client, q); !slices.Equal(got, m.members[client]) {
					t.Fatalf("%s on %s as of %v: %v, it was %v", action, client, m.at, got, m.members[client])
				}
			}
		}
	})
	if differs < 50 {
		t.Errorf("only %d lists differed between two moments: that tries nothing", differs)
	}
}

func (b *bench) join(t *rapid.T, w world, who string) {
	_, err := b.db.Exec(context.Background(), `WITH u AS (INSERT INTO users (id) VALUES ($2) RETURNING id)
		INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access) SELECT $1, id, 'Member', '{practitioner}', 'active', true FROM u`, w.practice, who)
	if err != nil {
		t.Fatal(err)
	}
}

// change changes something of the practice, not of its administrator.
func (b *bench) change(t *rapid.T, w world) {
	who, client := rapid.SampledFrom(w.users[1:]).Draw(t, "changed"), rapid.SampledFrom(w.clients).Draw(t, "changed client")
	sql := rapid.SampledFrom([]string{
		`UPDATE members SET roles = '{practitioner,biller}' WHERE user_id = $1 AND $2 <> ''`,
		`UPDATE members SET status = 'removed', full_clinical_access = false WHERE user_id = $1 AND $2 <> ''`,
		`UPDATE members SET status = 'active', id = gen_random_uuid() WHERE user_id = $1 AND $2 <> ''`,
		`UPDATE members SET full_clinical_access = status <> 'removed', billing_enabled = NOT billing_enabled WHERE user_id = $1 AND $2 <> ''`,
		`UPDATE clients SET status = CASE status WHEN 'active' THEN 'archived' ELSE 'active' END WHERE id = $2 AND $1 <> ''`,
		`UPDATE clients SET assigned = (SELECT user_id FROM members WHERE user_id = $1 AND status <> 'removed') WHERE id = $2`,
		`DELETE FROM grants WHERE user_id = $1 OR client = $2`,
		`UPDATE grants SET scope = CASE scope WHEN 'view' THEN 'collaborate' ELSE 'view' END WHERE user_id = $1 OR client = $2`,
		`UPDATE practices SET overrides = overrides || '{"admin_record_access": "list_only", "hide_unassigned": false}' WHERE id = (SELECT practice FROM clients WHERE id = $2) AND $1 <> ''`,
	}).Draw(t, "change")
	if _, err := b.db.Exec(context.Background(), sql, who, client); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// A moment whose policy is not at hand is refused, never answered by another.
func TestRule117NeedsThePolicyOfThen(t *testing.T) {
	b := demoBench(t)
	var then time.Time
	if err := b.db.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&then); err != nil {
		t.Fatal(err)
	}
	b.exec(`INSERT INTO releases (id, state, title, author, source, content, approver, approved_at, revision, bundle)
		VALUES ('release-1', 'active', 'One', 'admin-1', '', 'sha256:1', 'admin-2', now(), 1, '');
		INSERT INTO activation (serial, release, content, revision) VALUES (2, 'release-1', 'sha256:1', 1)`)
	q := search.Question{Action: "chart.open", AsOf: then, Limit: 10}
	_, _, err := b.lists.ClientMembers(t.Context(), tester, user("admin-1"), "practice-1", "client-1", q)
	problem(t, err, "cannot-decide")
	lists := *b.lists
	lists.PolicyAt = func(_ context.Context, practice string, at time.Time) (search.Policy, error) {
		if practice != "practice-1" || !at.Equal(then.Truncate(time.Microsecond)) {
			t.Errorf("the policy of %s at %v was asked for", practice, at)
		}
		return b.engine, nil
	}
	page, _, err := lists.ClientMembers(t.Context(), tester, user("admin-1"), "practice-1", "client-1", q)
	if err != nil || len(page) != 4 {
		t.Errorf("%v, %v", page, err)
	}
	lists.PolicyAt = func(context.Context, string, time.Time) (search.Policy, error) { return nil, errors.New("it is lost") }
	if _, _, err := lists.MemberClients(t.Context(), tester, user("admin-1"), "practice-1", "admin-1", q); err == nil {
		t.Error("answered without the policy of then")
	}
}

// Every administrator, practitioner with full clinical access, grantee and the
// assignee, with every basis and its end. (Blocks are not built.)
func TestRule121WhoCanSeeListsEveryBasisAndEnd(t *testing.T) {
	b := demoBench(t)
	page, next, err := b.lists.ClientMembers(t.Context(), tester, user("admin-1"), "practice-1", "client-1", search.Question{Action: "chart.open", Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range page {
		row := m.User
		for _, basis := range m.Bases {
			row += ", " + basis.Name + until(basis.Until)
		}
		got = append(got, row)
	}
	want := []string{"admin-1, administrator", "grantee-1, client_grant until 2999-12-01T00:00:00.000000Z",
		"practitioner-1, assigned", "practitioner-full, client_grant, full_clinical_access, administrator"}
	if !slices.Equal(got, want) || next != "" {
		t.Errorf("%q, next %q\nwant %q", got, next, want)
	}
}
