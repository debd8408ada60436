package grants

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"

	"pgregory.net/rapid"
)

// A grant in the model. Times are days from the start of the test; now is 0,
// and no day passes, so that nothing depends on how long a test runs.
type span struct {
	user, scope string
	from, to    int
}

const forever = 1000

func (s span) meets(o span) bool { return s.user == o.user && s.from < o.to && o.from < s.to }

// model is one client, as simple as can be: who is assigned, which grants
// stand, and which ids they have.
type model struct {
	*bench
	client   string
	assigned string
	stands   map[span]string // id
	gone     []string        // ids of grants that were revoked or replaced
	version  int64
	was      string // what stood at version
	zero     time.Time
}

func (m *model) at(d int) *time.Time {
	if d == forever {
		return &authz.NoEnd
	}
	at := m.zero.Add(time.Duration(d) * day)
	return &at
}

// terms asks for s. A start that is now is said as one that is past.
func (m *model) terms(s span) Terms {
	t := Terms{User: s.user, Scope: &s.scope, ExpiresAt: m.at(s.to)}
	if s.from > 0 {
		t.NotBefore = m.at(s.from)
	} else {
		t.NotBefore = m.at(-1)
	}
	return t
}

func drawSpan(t *rapid.T) span {
	s := span{
		user:  rapid.SampledFrom([]string{"practitioner-1", "practitioner-2", "user-both"}).Draw(t, "user"),
		scope: rapid.SampledFrom([]string{"view", "collaborate"}).Draw(t, "scope"),
		from:  rapid.SampledFrom([]int{0, 0, 10, 20}).Draw(t, "from"),
	}
	s.to = rapid.SampledFrom([]int{5, 10, 15, 25, forever}).Filter(func(to int) bool { return to > s.from }).Draw(t, "to")
	return s
}

func typeOf(err error) string {
	var p *authz.Problem
	switch {
	case err == nil:
		return ""
	case errors.As(err, &p):
		return p.Type
	}
	return err.Error()
}

func (m *model) expect(t *rapid.T, what string, err error, want string) {
	if got := typeOf(err); got != want {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func (m *model) close(s span) {
	m.gone = append(m.gone, m.stands[s])
	delete(m.stands, s)
}

func (m *model) Give(t *rapid.T) {
	s := drawSpan(t)
	want, replaced := "", []span{}
	_, same := m.stands[s]
	for o := range m.stands {
		if !same && s.meets(o) {
			if s.from > o.from || s.to < o.to || (s.scope == "view" && o.scope == "collaborate") {
				want = "grant-overlaps"
			}
			replaced = append(replaced, o)
		}
	}
	if s.user == m.assigned {
		want = "redundant"
	}
	g, created, err := m.Service.Give(context.Background(), admin, "practice-1", m.client, m.terms(s))
	m.expect(t, fmt.Sprintf("give %v", s), err, want)
	if err != nil {
		return
	}
	if created == same || (same && g.ID != m.stands[s]) {
		t.Fatalf("give %v: created=%v, id %s, stood %q", s, created, g.ID, m.stands[s])
	}
	for _, o := range replaced {
		m.close(o)
	}
	m.stands[s] = g.ID
}

func (m *model) Revoke(t *rapid.T) {
	ids := slices.Clone(m.gone)
	for _, id := range m.stands {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	id := rapid.SampledFrom(append(ids, "8f9b7bb1-0000-4000-8000-000000000000")).Draw(t, "id")
	want := "not-found"
	if slices.Contains(ids, id) {
		want = ""
	}
	m.expect(t, "revoke", m.Service.Revoke(context.Background(), admin, "practice-1", m.client, id, ""), want)
	for s, stood := range m.stands {
		if stood == id {
			m.close(s)
		}
	}
}

func (m *model) Save(t *rapid.T) {
	wanted := rapid.SliceOfN(rapid.Custom(drawSpan), 0, 4).Draw(t, "set")
	want, items := "", []Terms{}
	for i, s := range wanted {
		items = append(items, m.terms(s))
		if _, stands := m.stands[s]; !stands && s.user == m.assigned && want == "" {
			want = "redundant"
		}
		if slices.ContainsFunc(wanted[:i], s.meets) {
			want = "malformed"
		}
	}
	if slices.ContainsFunc(wanted, func(s span) bool {
		return slices.ContainsFunc(wanted, func(o span) bool { return o != s && s.meets(o) })
	}) {
		want = "malformed"
	}
	read := m.version
	if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
		read, want = read-1, "changed-meanwhile"
	}
	_, err := m.Service.SaveAccess(context.Background(), admin, "practice-1", m.client, items, func(v int64) bool { return v == read })
	m.expect(t, fmt.Sprintf("save %v", wanted), err, want)
	if err != nil {
		return
	}
	for s := range m.stands {
		if !slices.Contains(wanted, s) {
			m.close(s)
		}
	}
	for _, s := range wanted {
		if _, stands := m.stands[s]; !stands {
			m.stands[s] = "" // Check learns it
		}
	}
}

func (m *model) Assign(t *rapid.T) {
	to := rapid.SampledFrom([]string{"", "practitioner-1", "practitioner-2"}).Draw(t, "to")
	m.expect(t, "assign", m.Service.Assign(context.Background(), admin, "practice-1", m.client, to, ""), "")
	if to != m.assigned {
		for s := range m.stands {
			if s.user == to {
				m.close(s)
			}
		}
	}
	m.assigned = to
}

// Check compares all that stands with the model, and the version with whether
// anything changed.
func (m *model) Check(t *rapid.T) {
	access, err := m.Service.Access(context.Background(), admin, "practice-1", m.client)
	if err != nil {
		t.Fatal(err)
	}
	stands := map[span]string{}
	for _, member := range access.Members {
		for _, g := range member.Grants {
			s := span{user: g.User, scope: g.Scope, from: m.days(g.NotBefore), to: m.days(g.ExpiresAt)}
			stands[s] = g.ID
			if s.from < 0 {
				t.Fatalf("a grant began before the test: %+v", g)
			}
		}
		// Who is shown to open the chart is who has a reason to.
		_, granted := findAt(stands, member.User)
		wants := member.User == m.assigned || granted || member.Status == "active" && (member.has("administrator") || member.FullClinicalAccess)
		if (len(member.Bases) > 0) != wants {
			t.Fatalf("%s opens the chart by %v; assigned is %q, grants %v", member.User, member.Bases, m.assigned, stands)
		}
	}
	for s, id := range m.stands {
		if id == "" && !slices.Contains(m.gone, stands[s]) {
			m.stands[s] = stands[s]
		}
	}
	if fmt.Sprint(stands) != fmt.Sprint(m.stands) {
		t.Fatalf("stands %v\nmodel  %v", stands, m.stands)
	}
	if is := fmt.Sprint(stands); (is == m.was) != (access.Version == m.version) {
		t.Fatalf("version %d after %d, though the set was %s and is %s", access.Version, m.version, m.was, is)
	}
	m.version, m.was = access.Version, fmt.Sprint(stands)
}

// findAt returns the grant of user that is in force now.
func findAt(stands map[span]string, user string) (span, bool) {
	for s := range stands {
		if s.user == user && s.from == 0 {
			return s, true
		}
	}
	return span{}, false
}

func (m *model) days(at time.Time) int {
	if at.Equal(authz.NoEnd) {
		return forever
	}
	return int(at.Sub(m.zero) / day)
}

// The grants of one client do what a tiny model says, whatever the order of
// calls; each run has a client of its own. 25 runs, or as many as -rapid.checks
// says.
func TestGrantsFollowTheModel(t *testing.T) {
	b := setup(t)
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		m := &model{bench: b, client: fmt.Sprintf("client-model-%d", n), stands: map[span]string{}, was: "map[]", zero: inUTC(time.Now().Add(-time.Hour))}
		b.exec(`INSERT INTO clients (id, practice, first_name, last_name) VALUES ($1, 'practice-1', 'Client', 'Model')`, m.client)
		t.Repeat(map[string]func(*rapid.T){"give": m.Give, "revoke": m.Revoke, "save": m.Save, "assign": m.Assign, "": m.Check})
	})
}
