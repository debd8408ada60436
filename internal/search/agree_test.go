package search_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/search"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// listable are the actions that lists are made of, with what they are asked on.
func (b *bench) listable() (names []string, on map[string]string) {
	policy, err := b.engine.Lists()
	if err != nil {
		b.t.Fatal(err)
	}
	on = map[string]string{}
	for name, a := range policy.Actions {
		if slices.Contains([]string{authz.ResourceClient, authz.ResourceNote, authz.ResourceDocument}, a.On) {
			on[name] = a.On
		}
	}
	return slices.Sorted(maps.Keys(on)), on
}

// checked is what single checks say of everybody and every client: by member,
// and by client. Facts that known holds are not read again.
func (b *bench) checked(t fataler, w world, known map[string]authz.Facts, action, on string, properties authz.Properties) (clients, members map[string][]string) {
	clients, members = map[string][]string{}, map[string][]string{}
	for _, who := range w.users {
		for _, client := range w.clients {
			r := single(action, on, who, client, properties)
			f, ok := known[who+" "+client]
			if !ok {
				if f = b.load(t, r); known != nil {
					known[who+" "+client] = f
				}
			}
			d, err := b.reference.Evaluate(context.Background(), r, f)
			if err != nil {
				t.Fatal(err)
			}
			if d.Allow {
				clients[who] = append(clients[who], client+until(d.ValidUntil))
				members[client] = append(members[client], who+" "+strings.Join(d.Bases, " "))
			}
		}
	}
	return clients, members
}

func names(rows []string) []string {
	out := []string{}
	for _, row := range rows {
		name, _, _ := strings.Cut(row, " ")
		out = append(out, name)
	}
	return out
}

// Lists, searches, filters and single checks say the same, over random
// practices, for all actions, in pages of any size (promise P4).
func TestListsSearchesFiltersAndChecksAgree(t *testing.T) {
	setup(t).agree(t)
}

// The same, where somebody else says which role may do what.
func TestListsOfOtherRolesAgree(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	both, err := enginesOf(func(roles map[string]any) { shuffle(rand.New(rand.NewPCG(seed, 1)), roles) })
	if err != nil {
		t.Fatal(err)
	}
	setupWith(t, both).agree(t)
}

// shuffle takes actions from lists of roles, and gives them to others.
func shuffle(dice *rand.Rand, roles map[string]any) {
	var lists []map[string]any
	var names []string
	var actions []any
	for _, basis := range slices.Sorted(maps.Keys(roles)) {
		of := roles[basis].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(of)) {
			lists, names, actions = append(lists, of), append(names, name), append(actions, of[name].([]any)...)
		}
	}
	for i, of := range lists {
		var kept []any
		for _, action := range of[names[i]].([]any) {
			if dice.IntN(4) > 0 {
				kept = append(kept, action)
			}
		}
		for range 1 + dice.IntN(4) {
			if action := actions[dice.IntN(len(actions))]; !slices.Contains(kept, action) {
				kept = append(kept, action)
			}
		}
		of[names[i]] = kept
	}
}

func (b *bench) agree(t *testing.T) {
	actions, on := b.listable()
	n, rows := 0, 0
	tried := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := b.drawWorld(t, fmt.Sprintf("p%d-", n))
		limit := rapid.SampledFrom([]int{1, 2, 7, 100}).Draw(t, "page")
		known := map[string]authz.Facts{}
		listed, _ := b.checked(t, w, known, "client.list", authz.ResourceClient, nil)
		// Each action is tried in its turn, and one more by chance.
		for _, action := range []string{actions[n%len(actions)], rapid.SampledFrom(actions).Draw(t, "action")} {
			tried[action] = true
			properties := sample(on[action], rapid.SampledFrom(w.users).Draw(t, "author"))
			rows += b.agrees(t, w, known, listed, on[action], search.Question{Action: action, Properties: properties, Limit: limit})
		}
	})
	if rows < 200 || (n >= len(actions) && len(tried) < len(actions)) {
		t.Errorf("only %d rows, %d of %d actions: they try nothing", rows, len(tried), len(actions))
	}
}

// agrees asks one question of everybody and of every client, in all ways, and
// returns how many rows there were.
func (b *bench) agrees(t *rapid.T, w world, known map[string]authz.Facts, listed map[string][]string, on string, q search.Question) (rows int) {
	clients, members := b.checked(t, w, known, q.Action, on, q.Properties)
	visible := func(actor authz.Subject, rows []string) []string {
		return slices.DeleteFunc(slices.Clone(rows), func(row string) bool { return !slices.Contains(names(listed[actor.ID]), names([]string{row})[0]) })
	}
	sees := b.decide(t, authz.Request{Subject: w.admin(), Action: "member.list", Resource: authz.Resource{Type: authz.ResourcePractice, ID: w.practice}}).Allow
	for _, who := range w.users {
		rows += len(clients[who])
		if sees {
			if got := b.clientsOf(t, w.admin(), w.practice, who, q); !slices.Equal(got, visible(w.admin(), clients[who])) {
				t.Fatalf("%s of %s: listed %v, by single checks %v", q.Action, who, got, clients[who])
			}
		}
		b.ownList(t, w, who, q, visible(user(who), clients[who]))
		if on != authz.ResourceClient {
			continue
		}
		r := authz.Request{Subject: user(who), Action: q.Action, Resource: authz.Resource{Type: authz.ResourceClient}}
		if got := b.found(t, search.Search{Kind: search.Resources, Request: r, Limit: &q.Limit}); !slices.Equal(got, names(clients[who])) {
			t.Fatalf("%s of %s: found %v, by single checks %v", q.Action, who, got, clients[who])
		}
		if got := b.filtered(t, w, r); !slices.Equal(got, names(clients[who])) {
			t.Fatalf("%s of %s: filtered %v, by single checks %v", q.Action, who, got, clients[who])
		}
	}
	for _, client := range w.clients {
		if b.decide(t, single("access.manage", authz.ResourceClient, w.users[0], client, nil)).Allow {
			if got := b.membersOf(t, w.admin(), w.practice, client, q); !slices.Equal(got, members[client]) {
				t.Fatalf("%s on %s: members %v, by single checks %v", q.Action, client, got, members[client])
			}
		}
		r := single(q.Action, on, "", client, q.Properties)
		if got := b.found(t, search.Search{Kind: search.Subjects, Request: r, Limit: &q.Limit}); !slices.Equal(got, names(members[client])) {
			t.Fatalf("%s on %s: found %v, by single checks %v", q.Action, client, got, members[client])
		}
	}
	return rows
}

// ownList asks for somebody's own list, which he gets if he is an active member.
func (b *bench) ownList(t *rapid.T, w world, who string, q search.Question, want []string) {
	var active bool
	if err := b.db.QueryRow(context.Background(), `SELECT status = 'active' FROM members WHERE user_id = $1`, who).Scan(&active); err != nil {
		t.Fatal(err)
	}
	if !active {
		_, _, err := b.lists.MemberClients(context.Background(), tester, user(who), w.practice, who, q)
		problem(t, err, "not-found")
		return
	}
	if got := b.clientsOf(t, user(who), w.practice, who, q); !slices.Equal(got, want) {
		t.Fatalf("%s of %s, by himself: listed %v, want %v", q.Action, who, got, want)
	}
}

// filtered are the clients that ClientsFilter leaves.
func (b *bench) filtered(t *rapid.T, w world, r authz.Request) []string {
	ctx := context.Background()
	policy, err := b.engine.Lists()
	if err != nil {
		t.Fatal(err)
	}
	f, err := loader{b.db, b.deployment}.Facts(ctx, authz.Request{Subject: r.Subject, Resource: authz.Resource{Type: authz.ResourcePractice, ID: w.practice}})
	if err != nil {
		t.Fatal(err)
	}
	q, err := policy.ClientsFilter(compile.Listing{Request: r, Facts: f, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := b.db.Query(ctx, "SELECT c.id FROM clients c WHERE "+q.SQL+" ORDER BY c.id", q.Args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{}, out...)
}

// Searches for actions, and those that have no SQL, are the single checks, too.
func TestOtherSearchesAreTheChecks(t *testing.T) {
	b := setup(t)
	all, err := b.engine.Actions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, hits := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := b.drawWorld(t, fmt.Sprintf("p%d-", n))
		b.drawPortal(t, w)
		limit := rapid.SampledFrom([]int{1, 2, 7, 100}).Draw(t, "page")
		same := func(q search.Search, candidates []string, put func(*authz.Request, string)) {
			q.Limit = &limit
			want := []string{}
			for _, candidate := range candidates {
				r := q.Request
				if put(&r, candidate); b.decide(t, r).Allow {
					want = append(want, candidate)
				}
			}
			hits += len(want)
			if got := b.found(t, q); !slices.Equal(got, want) {
				t.Fatalf("%+v: found %v, by single checks %v", q, got, want)
			}
		}
		asSubject := func(r *authz.Request, id string) { r.Subject.ID = id }
		asResource := func(r *authz.Request, id string) { r.Resource.ID = id }
		asAction := func(r *authz.Request, name string) { r.Action = name }
		who, client := rapid.SampledFrom(w.users).Draw(t, "who"), rapid.SampledFrom(w.clients).Draw(t, "client")
		login := rapid.SampledFrom([]string{w.practice + "l1", w.practice + "l2"}).Draw(t, "login")
		portal := authz.Subject{Type: authz.SubjectPortal, ID: login}
		practice := authz.Resource{Type: authz.ResourcePractice, ID: w.practice}
		same(search.Search{Kind: search.Actions, Request: authz.Request{Subject: user(who), Resource: authz.Resource{Type: authz.ResourceClient, ID: client}}}, all, asAction)
		same(search.Search{Kind: search.Actions, Request: authz.Request{Subject: user(who), Resource: practice}}, all, asAction)
		same(search.Search{Kind: search.Actions, Request: authz.Request{Subject: portal, Resource: authz.Resource{Type: authz.ResourceClient, ID: client},
			Context: authz.Context{PortalProfile: client}}}, all, asAction)
		onPractice := rapid.SampledFrom([]string{"client.create", "member.list", "settings.manage", "no.such"}).Draw(t, "action")
		same(search.Search{Kind: search.Subjects, Request: authz.Request{Subject: authz.Subject{Type: authz.SubjectUser}, Action: onPractice, Resource: practice}}, w.users, asSubject)
		same(search.Search{Kind: search.Resources, Request: authz.Request{Subject: user(who), Action: onPractice, Resource: authz.Resource{Type: authz.ResourcePractice}}}, []string{w.practice}, asResource)
		same(search.Search{Kind: search.Resources, Request: authz.Request{Subject: user(who), Action: "member.out_of_office",
			Resource: authz.Resource{Type: authz.ResourceMember, Properties: authz.Properties{"practice": w.practice}}}}, w.users, asResource)
		inPortal := rapid.SampledFrom([]string{"portal.profile.enter", "portal.appointments.view", "chart.open"}).Draw(t, "portal action")
		entered := authz.Context{PortalProfile: client}
		same(search.Search{Kind: search.Subjects, Request: authz.Request{Subject: authz.Subject{Type: authz.SubjectPortal}, Action: inPortal,
			Resource: authz.Resource{Type: authz.ResourceClient, ID: client}, Context: entered}}, []string{w.practice + "l1", w.practice + "l2"}, asSubject)
		same(search.Search{Kind: search.Resources, Request: authz.Request{Subject: portal, Action: inPortal,
			Resource: authz.Resource{Type: authz.ResourceClient}, Context: entered}}, w.clients, asResource)
	})
	if hits < 500 {
		t.Errorf("only %d results: they try nothing", hits)
	}
}

// drawPortal gives two logins access to some clients.
func (b *bench) drawPortal(t *rapid.T, w world) {
	for _, client := range w.clients {
		for i, contact := range []string{"client", "contact-1"} {
			if !rapid.Bool().Draw(t, "access") {
				continue
			}
			_, err := b.db.Exec(context.Background(), `INSERT INTO portal_access (practice, client, contact, relationship, login, enabled, permissions)
				VALUES ($1, $2, $3::text, CASE WHEN $3::text = 'client' THEN NULL ELSE 'parent' END, $4, $5, $6)`, w.practice, client, contact,
				fmt.Sprintf("%sl%d", w.practice, i+1), rapid.Bool().Draw(t, "enabled"), rapid.SampledFrom([][]string{{}, {"view_appointments"}}).Draw(t, "permissions"))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
