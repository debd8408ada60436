package compile_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"
)

// world is a practice as a model, also written to Postgres.
type world struct {
	practice string
	settings *authz.Settings
	members  []authz.Member
	clients  []authz.Client
	grants   []grant
}

type grant struct {
	client, user string
	authz.Grant
}

// moments are what times are drawn from, so that many of them are equal.
var moments = []time.Time{day0.Add(-time.Hour), day0, day0.Add(time.Microsecond), day0.Add(time.Hour), day0.Add(2 * time.Hour), authz.NoEnd}

func drawWorld(t *rapid.T, practice string) world {
	w := world{practice: practice, settings: drawSettings(t)}
	users := []string{"u1", "u2", "u3", "u4"}
	for i, u := range users {
		m := authz.Member{User: practice + u, Practice: practice, Status: rapid.SampledFrom([]string{"active", "active", "active", "invited", "removed"}).Draw(t, "status"),
			Roles:          rapid.SliceOfNDistinct(rapid.SampledFrom(authz.Roles), 0, 2, rapid.ID[string]).Draw(t, "roles"),
			BillingEnabled: rapid.Bool().Draw(t, "billing")}
		if i == 0 && m.Status != "removed" {
			m.FullClinicalAccess = rapid.Bool().Draw(t, "full")
		}
		if i < 2 && !slices.Contains(m.Roles, authz.RolePractitioner) {
			m.Roles = append(m.Roles, authz.RolePractitioner)
		}
		w.members = append(w.members, m)
	}
	n := rapid.IntRange(1, 9).Draw(t, "clients")
	for i := range n {
		c := authz.Client{ID: fmt.Sprintf("%sc%02d", practice, i), Practice: practice, Status: rapid.SampledFrom([]string{"active", "active", "archived"}).Draw(t, "status")}
		if m := rapid.SampledFrom(append(w.members, authz.Member{Status: "removed"})).Draw(t, "assigned"); m.Status != "removed" {
			c.Assigned = m.User
		}
		w.clients = append(w.clients, c)
		for _, m := range w.members {
			if m.Status == "removed" || rapid.IntRange(0, 2).Draw(t, "granted") == 0 {
				continue
			}
			marks := slices.Clone(moments)
			for len(marks) > 2 && rapid.Bool().Draw(t, "fewer") {
				i := rapid.IntRange(0, len(marks)-1).Draw(t, "gone")
				marks = slices.Delete(marks, i, i+1)
			}
			for k := 0; k+1 < len(marks) && k < 3; k++ {
				if k == 1 && rapid.Bool().Draw(t, "gap") {
					continue
				}
				w.grants = append(w.grants, grant{c.ID, m.User, authz.Grant{Scope: rapid.SampledFrom([]string{"view", "collaborate"}).Draw(t, "scope"),
					NotBefore: marks[k], ExpiresAt: marks[k+1]}})
			}
		}
	}
	return w
}

func (w world) write(t *rapid.T, pool *pgxpool.Pool) {
	b := &pgx.Batch{}
	overrides := map[string]any{}
	for _, s := range authz.Catalogue {
		overrides[s.Name] = w.settings.Show(s)
	}
	b.Queue(`INSERT INTO practices (id, overrides) VALUES ($1, $2)`, w.practice, overrides)
	for _, m := range w.members {
		b.Queue(`INSERT INTO users (id) VALUES ($1)`, m.User)
		b.Queue(`INSERT INTO members (practice, user_id, name, roles, status, full_clinical_access, billing_enabled) VALUES ($1, $2, 'Member', $3, $4, $5, $6)`,
			w.practice, m.User, m.Roles, m.Status, m.FullClinicalAccess, m.BillingEnabled)
	}
	for _, c := range w.clients {
		b.Queue(`INSERT INTO clients (id, practice, assigned, status, first_name, last_name) VALUES ($1, $2, nullif($3, ''), $4, 'Client', 'One')`, c.ID, w.practice, c.Assigned, c.Status)
	}
	for _, g := range w.grants {
		b.Queue(`INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, granted_by) VALUES ($1, $2, $3, $4, $5, $6, 'admin-1')`,
			w.practice, g.client, g.user, g.Scope, g.NotBefore, g.ExpiresAt)
	}
	if err := pool.SendBatch(context.Background(), b).Close(); err != nil {
		t.Fatal(err)
	}
}

// facts are the facts of one member and client at now, as the loader has them.
func (w world) facts(m authz.Member, c authz.Client, now, latest time.Time) authz.Facts {
	f := authz.Facts{Now: now, Latest: latest, Practice: w.practice, Settings: w.settings, Member: &m, Client: &c}
	for i, g := range w.grants {
		if g.client == c.ID && g.user == m.User && latest.Before(g.ExpiresAt) && (f.Grant == nil || g.NotBefore.Before(f.Grant.NotBefore)) {
			f.Grant = &w.grants[i].Grant
		}
	}
	return f
}

// ask is the single check that a row of a list stands for.
func askAbout(action, on, user, client string, properties authz.Properties) authz.Request {
	r := authz.Request{Action: action, Subject: authz.Subject{Type: authz.SubjectUser, ID: user}, Resource: authz.Resource{Type: on, ID: client}}
	if on != authz.ResourceClient {
		r.Resource.ID = "record-1"
		r.Resource.Properties = maps.Clone(properties)
		r.Resource.Properties["client"] = client
	}
	return r
}

type listed struct {
	id    string
	until string
}

func untilOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return authz.FormatTime(*t)
}

func readClients(pool *pgxpool.Pool, q compile.Query) ([]listed, error) {
	rows, err := pool.Query(context.Background(), q.SQL, q.Args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.SQL, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (listed, error) {
		var l listed
		var until *time.Time
		err := row.Scan(&l.id, &until)
		l.until = untilOf(until)
		return l, err
	})
}

func pages(pool *pgxpool.Pool, p *compile.Policy, l compile.Listing) ([]listed, error) {
	var all []listed
	for {
		q, err := p.Clients(l)
		if err != nil {
			return nil, err
		}
		page, err := readClients(pool, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < l.Limit {
			return all, nil
		}
		l.After = page[len(page)-1].id
	}
}

// TestListsAreTheChecks compares lists, filters and single checks over random
// practices, for every action, member and client, at moments at which grants
// begin and end.
func TestListsAreTheChecks(t *testing.T) {
	pool := pgtest.Pool(t)
	s := theShipped(t)
	actions := slices.DeleteFunc(slices.Sorted(maps.Keys(s.policy.Actions)), func(name string) bool {
		return !slices.Contains([]string{"client", "note", "document"}, s.policy.Actions[name].On)
	})
	n, found := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := drawWorld(t, fmt.Sprintf("p%d-", n))
		w.write(t, pool)
		now := rapid.SampledFrom(moments[:5]).Draw(t, "now")
		latest := now.Add(rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Hour}).Draw(t, "doubt"))
		properties := authz.Properties{"author": rapid.SampledFrom(w.members).Draw(t, "author").User, "kind": rapid.SampledFrom([]string{"progress", "psychotherapy"}).Draw(t, "kind"),
			"signed": rapid.Bool().Draw(t, "signed"), "recipient": "client"}
		action := rapid.SampledFrom(actions).Draw(t, "action")
		size := rapid.SampledFrom([]int{1, 2, 7, 100}).Draw(t, "page")
		for _, action := range []string{action, "chart.open", "billing.read"} {
			on := s.policy.Actions[action].On
			byClient := map[string][]string{}
			for _, m := range w.members {
				var want []listed
				for _, c := range w.clients {
					r, f := askAbout(action, on, m.User, c.ID, properties), w.facts(m, c, now, latest)
					d, err := s.engine.Evaluate(ctx, r, f)
					if err != nil {
						t.Fatal(err)
					}
					if d.Allow {
						want = append(want, listed{c.ID, untilOf(d.ValidUntil)})
						byClient[c.ID] = append(byClient[c.ID], fmt.Sprint(m.User, d.Bases, untilOf(d.ValidUntil)))
					}
				}
				found += len(want)
				l := compile.Listing{Request: askAbout(action, on, m.User, "", properties), Limit: size,
					Facts: authz.Facts{Now: now, Latest: latest, Practice: w.practice, Settings: w.settings, Member: &m}}
				got, err := pages(pool, s.policy, l)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					q, _ := s.policy.Clients(l)
					t.Fatalf("%s of %+v: listed %v, by single checks %v\n%s\n%v", action, m, got, want, q.SQL, q.Args)
				}
				if filtered := filter(t, pool, s.policy, l); !slices.Equal(filtered, ids(want)) {
					t.Fatalf("%s of %+v: filtered %v, by single checks %v", action, m, filtered, want)
				}
			}
			for _, c := range w.clients {
				l := compile.Listing{Request: askAbout(action, on, "", c.ID, properties), Limit: size,
					Facts: authz.Facts{Now: now, Latest: latest, Practice: w.practice, Settings: w.settings, Client: &c}}
				if got := members(t, pool, s.policy, l); !slices.Equal(got, byClient[c.ID]) {
					t.Fatalf("%s on %+v: members %v, by single checks %v", action, c, got, byClient[c.ID])
				}
			}
		}
	})
	if found < 100 {
		t.Errorf("only %d rows in all lists: they try nothing", found)
	}
}

func ids(all []listed) []string {
	var out []string
	for _, l := range all {
		out = append(out, l.id)
	}
	return out
}

func filter(t *rapid.T, pool *pgxpool.Pool, p *compile.Policy, l compile.Listing) []string {
	q, err := p.ClientsFilter(l)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(context.Background(), "SELECT c.id FROM clients c WHERE "+q.SQL+" ORDER BY c.id", q.Args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// members reads a list of members, page by page.
func members(t *rapid.T, pool *pgxpool.Pool, p *compile.Policy, l compile.Listing) []string {
	var all []string
	for {
		q, err := p.Members(l)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := pool.Query(context.Background(), q.SQL, q.Args...)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			var bases []*string
			var ends []*time.Time
			var until *time.Time
			n++
			if err := row.Scan(&l.After, &bases, &ends, &until); err != nil {
				return "", err
			}
			held := []string{}
			for i, b := range bases {
				if b != nil {
					held = append(held, *b)
				}
				if ends[i] != nil && (b == nil || *b != "client_grant" || ends[i].Equal(authz.NoEnd)) {
					return "", fmt.Errorf("basis %d ends at %v", i, ends[i])
				}
			}
			return fmt.Sprint(l.After, held, untilOf(until)), nil
		})
		if err != nil {
			t.Fatalf("%s: %v", q.SQL, err)
		}
		all = append(all, page...)
		if n < l.Limit {
			return all
		}
	}
}

// TestListsAgreeWithTheLoader compares lists with single checks on facts that
// the real loader reads, now, and lists of a past moment with what was then.
func TestListsAgreeWithTheLoader(t *testing.T) {
	pool := pgtest.Pool(t)
	s := theShipped(t)
	d, err := feed.ReadDeployment(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		w := rapid.Custom(func(t *rapid.T) world {
			w := drawWorld(t, fmt.Sprintf("q%d-", i))
			w.write(t, pool)
			return w
		}).Example(i)
		was := map[string][]listed{}
		for _, m := range w.members {
			for _, action := range []string{"chart.open", "appointment.manage", "client.list"} {
				var want []listed
				var f authz.Facts
				for _, c := range w.clients {
					r := askAbout(action, "client", m.User, c.ID, nil)
					if f, err = facts.Load(t.Context(), pool, d, r); err != nil {
						t.Fatal(err)
					}
					if broken := compile.Broken(&r, &f); broken != compile.Kept {
						t.Fatalf("the loader breaks %s", broken)
					}
					decision, err := s.engine.Evaluate(t.Context(), r, f)
					if err != nil {
						t.Fatal(err)
					}
					if decision.Allow {
						want = append(want, listed{c.ID, untilOf(decision.ValidUntil)})
					}
				}
				f.Client, f.Grant = nil, nil
				got, err := pages(pool, s.policy, compile.Listing{Request: askAbout(action, "client", m.User, "", nil), Facts: f, Limit: 3})
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("%s of %s: listed %v, by single checks %v, %v", action, m.User, got, want, err)
				}
				was[m.User+action] = got
			}
		}
		var then time.Time
		if err := pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&then); err != nil {
			t.Fatal(err)
		}
		for _, change := range []string{`UPDATE clients SET status = 'archived', assigned = NULL WHERE practice = $1`, `DELETE FROM grants WHERE practice = $1`} {
			if _, err := pool.Exec(t.Context(), change, w.practice); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range w.members {
			for _, action := range []string{"chart.open", "appointment.manage", "client.list"} {
				l := compile.Listing{Request: askAbout(action, "client", m.User, "", nil), AsOf: then, Limit: 3,
					Facts: authz.Facts{Now: then, Latest: then, Practice: w.practice, Settings: w.settings, Member: &m}}
				got, err := pages(pool, s.policy, l)
				if err != nil || !slices.Equal(got, was[m.User+action]) {
					t.Fatalf("%s of %s as of then: %v, it was %v, %v", action, m.User, got, was[m.User+action], err)
				}
			}
		}
	}
}

func TestWhatCannotBeListedIsRefused(t *testing.T) {
	s := theShipped(t)
	settings, _ := authz.NewSettings(authz.DefaultPreset, nil)
	l := compile.Listing{Facts: authz.Facts{Practice: "practice-1", Settings: settings}, Limit: 1}
	for action, want := range map[string]string{"no.such": "there is no action", "client.create": "not asked on clients"} {
		l.Request.Action = action
		if _, err := s.policy.Clients(l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", action, err)
		}
		if _, err := s.policy.Members(l); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", action, err)
		}
	}
}
