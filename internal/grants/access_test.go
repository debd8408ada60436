package grants

import (
	"reflect"
	"slices"
	"testing"

	"chartgate/internal/authz"
)

func (b *bench) access(client string) (Access, map[string]MemberAccess) {
	b.t.Helper()
	a, err := b.Access(b.t.Context(), admin, "practice-1", client)
	if err != nil {
		b.t.Fatal(err)
	}
	byUser := map[string]MemberAccess{}
	for _, m := range a.Members {
		byUser[m.User] = m
	}
	return a, byUser
}

func (b *bench) save(client string, items ...Terms) Access {
	b.t.Helper()
	a, err := b.SaveAccess(b.t.Context(), admin, "practice-1", client, items, any1[int64])
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func TestAccessShowsEveryMemberWithHisBases(t *testing.T) {
	b := setup(t)
	current := b.give("client-1", Terms{User: "user-both", Scope: text("view"), ExpiresAt: inDays(5)})
	next := b.give("client-1", Terms{User: "user-both", NotBefore: inDays(7), Reason: text("cover")})
	toCome := b.give("client-1", Terms{User: "practitioner-2", NotBefore: inDays(7)})
	b.exec(`INSERT INTO grants (practice, client, user_id, granted_by, not_before, expires_at)
		VALUES ('practice-1', 'client-1', 'practitioner-full', 'admin-1', now() - interval '2 days', now() - interval '1 day')`)
	a, got := b.access("client-1")
	var users []string
	for _, m := range a.Members {
		users = append(users, m.User)
	}
	if !slices.Equal(users, []string{"admin-1", "biller-1", "invited-1", "owner-1", "practitioner-1", "practitioner-2", "practitioner-full", "scheduler-1", "user-both"}) {
		t.Errorf("members: %v", users)
	}
	for who, want := range map[string]struct {
		eligible bool
		bases    []string
		grants   []Grant
	}{
		"admin-1":           {false, []string{"administrator"}, nil},
		"biller-1":          {false, []string{}, nil},
		"invited-1":         {false, []string{}, nil},
		"practitioner-1":    {false, []string{"assigned"}, nil}, // a grant would be redundant
		"practitioner-2":    {true, []string{}, []Grant{toCome}},
		"practitioner-full": {true, []string{"full_clinical_access"}, nil},
		"user-both":         {true, []string{"client_grant"}, []Grant{current, next}},
	} {
		m := got[who]
		if m.Eligible != want.eligible || !slices.Equal(m.Bases, want.bases) || !reflect.DeepEqual(m.Grants, want.grants) {
			t.Errorf("%s: %+v, want %+v", who, m, want)
		}
		// What is shown is what the decision says.
		if bases := b.bases(who, "chart.open", "client-1"); !slices.Equal(bases, m.Bases) {
			t.Errorf("%s: shown %v, decided %v", who, m.Bases, bases)
		}
	}
	for who, want := range map[string]string{"practitioner-1": "not-allowed", "scheduler-1": "not-allowed", "practitioner-2": "not-found", "admin-2": "not-found"} {
		_, err := b.Access(t.Context(), user(who), "practice-1", "client-1")
		problem(t, err, want)
	}
	_, err := b.Access(t.Context(), admin, "practice-1", "client-4")
	problem(t, err, "not-found")
	_, err = b.Access(t.Context(), user("user-both"), "practice-2", "client-1") // rule 105
	problem(t, err, "not-found")
}

func TestSaveAccessIsTheWholeSet(t *testing.T) {
	b := setup(t)
	both := b.give("client-1", Terms{User: "user-both", Scope: text("view"), ExpiresAt: inDays(5), Reason: text("cover")})
	b.give("client-1", Terms{User: "practitioner-2"})
	elsewhere := b.give("client-3", Terms{User: "practitioner-2"})
	before, _ := b.access("client-1")

	saved := b.save("client-1", Terms{User: "practitioner-full"}, Terms{User: "user-both"})
	after, got := b.access("client-1")
	if !reflect.DeepEqual(saved, after) {
		t.Errorf("answered %+v, stands %+v", saved, after)
	}
	if saved.Version <= before.Version {
		t.Errorf("version %d after %d", saved.Version, before.Version)
	}
	if !reflect.DeepEqual(got["user-both"].Grants, []Grant{both}) {
		t.Errorf("named unchanged: %+v, want %+v", got["user-both"].Grants, both)
	}
	b.opens("practitioner-2", "client-1")
	b.opens("practitioner-2", "client-3", "client_grant")
	b.opens("practitioner-full", "client-1", "client_grant", "full_clinical_access")
	if g, err := b.Grant(t.Context(), admin, "practice-1", "client-3", elsewhere.ID); err != nil || g.ID != elsewhere.ID {
		t.Errorf("another client's grant: %v", err)
	}

	// The same set, said in full, changes nothing; not even the version.
	full := got["practitioner-full"].Grants[0]
	b.unchanged(func() {
		again := b.save("client-1",
			Terms{User: "user-both", Scope: text(both.Scope), NotBefore: &both.NotBefore, ExpiresAt: &both.ExpiresAt, Reason: &both.Reason},
			Terms{User: "practitioner-full", Scope: text(full.Scope), NotBefore: &full.NotBefore, ExpiresAt: &authz.NoEnd, Reason: text("")})
		if again.Version != saved.Version {
			t.Errorf("version %d, want %d", again.Version, saved.Version)
		}
	})

	// One word differs: a new grant in its place.
	changed := b.save("client-1", Terms{User: "user-both", Scope: text("collaborate")}, Terms{User: "practitioner-full"})
	for _, m := range changed.Members {
		if m.User == "user-both" {
			g := m.Grants[0]
			if g.ID == both.ID || g.Scope != "collaborate" || !g.ExpiresAt.Equal(both.ExpiresAt) || g.Reason != "cover" {
				t.Errorf("changed: %+v", g)
			}
		}
	}
	if n := b.count(`SELECT count(*) FROM changes WHERE after ->> 'closed' = 'replaced' AND before ->> 'id' = $1`, both.ID); n != 1 {
		t.Error("the replaced grant is not on record")
	}
	b.save("client-1")
	if n := b.count(`SELECT count(*) FROM grants WHERE client = 'client-1'`); n != 0 {
		t.Errorf("%d grants after saving none", n)
	}
}

func TestSaveAccessIsAllOrNothing(t *testing.T) {
	b := setup(t)
	b.give("client-1", Terms{User: "user-both"})
	for name, items := range map[string][]Terms{
		"malformed": {{User: "practitioner-2"}, {User: "practitioner-2"}},
	} {
		b.unchanged(func() {
			_, err := b.SaveAccess(t.Context(), admin, "practice-1", "client-1", items, any1[int64])
			if p := problem(t, err, name); len(p.Fields) != 1 || p.Fields[0].Pointer != "/grants/1" {
				t.Errorf("%+v", p)
			}
		})
	}
	b.unchanged(func() {
		_, err := b.SaveAccess(t.Context(), user("practitioner-1"), "practice-1", "client-1", nil, any1[int64])
		problem(t, err, "not-allowed")
		_, err = b.SaveAccess(t.Context(), user("practitioner-2"), "practice-1", "client-1", nil, any1[int64])
		problem(t, err, "not-found")
	})
}

// A grant whose holder could not be given one any more may stay named, so that
// the rest of the set can be saved; it gives nothing (rule 63).
func TestSaveAccessKeepsAGrantThatSleeps(t *testing.T) {
	b := setup(t)
	sleeping := b.give("client-1", Terms{User: "user-both"})
	b.exec(`UPDATE members SET roles = '{scheduler}' WHERE practice = 'practice-1' AND user_id = 'user-both'`)
	b.save("client-1", Terms{User: "user-both"}, Terms{User: "practitioner-2"})
	if n := b.count(`SELECT count(*) FROM grants WHERE id::text = $1`, sleeping.ID); n != 1 {
		t.Error("the grant did not stay")
	}
	b.opens("user-both", "client-1")
	b.unchanged(func() {
		_, err := b.SaveAccess(t.Context(), admin, "practice-1", "client-1", []Terms{{User: "user-both", Scope: text("view")}}, any1[int64])
		problem(t, err, "grantee-not-eligible")
	})
}

func TestPlanSet(t *testing.T) {
	now := *inDays(0)
	standard := Grant{Scope: "collaborate", NotBefore: now, ExpiresAt: authz.NoEnd}
	current := Grant{ID: "current", User: "u", Scope: "view", NotBefore: *inDays(-3), ExpiresAt: *inDays(3), Reason: "r"}
	next := Grant{ID: "next", User: "u", Scope: "view", NotBefore: *inDays(5), ExpiresAt: *inDays(8)}
	open := []Grant{current, next}
	for _, c := range []struct {
		name              string
		items             []Terms
		keep, close, give []string // ids; of what is given: its end
	}{
		{"nobody", nil, nil, []string{"current", "next"}, nil},
		{"named once: the grant in force", []Terms{{User: "u"}}, []string{"current"}, []string{"next"}, nil},
		{"named twice: both", []Terms{{User: "u"}, {User: "u"}}, []string{"current", "next"}, nil, nil},
		{"by its start", []Terms{{User: "u", NotBefore: &next.NotBefore}}, []string{"next"}, []string{"current"}, nil},
		{"by another start that is past", []Terms{{User: "u", NotBefore: inDays(-1)}}, []string{"current"}, []string{"next"}, nil},
		{"starts are taken first", []Terms{{User: "u"}, {User: "u", NotBefore: &current.NotBefore}}, []string{"current", "next"}, nil, nil},
		{"a shorter end", []Terms{{User: "u", ExpiresAt: inDays(1)}, {User: "u"}}, []string{"next"}, []string{"current"}, []string{"u"}},
		{"somebody else", []Terms{{User: "v"}, {User: "u"}, {User: "u"}}, []string{"current", "next"}, nil, []string{"v"}},
	} {
		p, err := planSet(open, c.items, standard, now)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var given []string
		for _, g := range p.give {
			given = append(given, g.User)
			if g.NotBefore.Before(now) {
				t.Errorf("%s: a new grant starts in the past", c.name)
			}
		}
		if !slices.Equal(ids(p.keep), c.keep) || !slices.Equal(ids(p.close), c.close) || !slices.Equal(given, c.give) {
			t.Errorf("%s: keep %v close %v give %v", c.name, ids(p.keep), ids(p.close), given)
		}
	}
	if _, err := planSet(open, []Terms{{User: "u", ExpiresAt: &authz.NoEnd}, {User: "u"}}, standard, now); err == nil {
		t.Error("two grants of one user at the same time")
	}
}

func ids(list []Grant) []string {
	var out []string
	for _, g := range list {
		out = append(out, g.ID)
	}
	return out
}

// A row of another practice, written past every constraint, is no grant: it is
// not shown, gives nothing, and is in nobody's way but its own.
func TestRule107_CorruptGrantIsIgnored(t *testing.T) {
	b := setup(t)
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	for _, sql := range []string{`SET LOCAL session_replication_role = replica`, // no foreign keys
		`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-2', 'client-1', 'user-both', 'admin-2')`} {
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, got := b.access("client-1")
	if m := got["user-both"]; len(m.Grants) != 0 || len(m.Bases) != 0 {
		t.Errorf("a corrupt grant is shown: %+v", m)
	}
	b.opens("user-both", "client-1")
	b.save("client-1", Terms{User: "practitioner-2"})
	b.opens("practitioner-2", "client-1", "client_grant")
}
