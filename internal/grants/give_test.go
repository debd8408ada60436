package grants

import (
	"strings"
	"testing"

	"chartgate/internal/authz"
)

func TestRule27_GrantOpensAtOnceAndIsOnRecord(t *testing.T) {
	b := setup(t)
	b.opens("practitioner-2", "client-1")
	g, created, err := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "practitioner-2", Reason: text("shared care")})
	if err != nil || !created {
		t.Fatalf("give: created=%v, %v", created, err)
	}
	b.opens("practitioner-2", "client-1", "client_grant")
	b.opens("practitioner-2", "client-3")
	if g.Scope != authz.ScopeCollaborate || !g.endless() || g.GrantedBy != "admin-1" || g.Reason != "shared care" || !g.NotBefore.Equal(g.GrantedAt) {
		t.Errorf("grant: %+v", g)
	}
	c := b.lastChange()
	if c.Actor != "admin-1" || c.Action != "access.manage" || c.Target != "practitioner-2" || c.Client != "client-1" ||
		c.Reason != "shared care" || c.Before != nil || c.After["id"] != g.ID || c.Decision == nil {
		t.Errorf("record: %+v", c)
	}
	if shown, err := b.Grant(t.Context(), admin, "practice-1", "client-1", g.ID); err != nil || !shown.same(g) {
		t.Errorf("read again: %+v, %v", shown, err)
	}
}

func TestRule28to31_WhoMayNotGiveAccess(t *testing.T) {
	b := setup(t)
	b.give("client-1", Terms{User: "user-both"})
	terms := Terms{User: "practitioner-2"}
	for who, want := range map[string]string{
		"practitioner-1":    "not-allowed", // assigned: rule 28
		"user-both":         "not-allowed", // a grantee: rule 30
		"practitioner-full": "not-allowed", // rule 31
		"scheduler-1":       "not-allowed", // lists all clients
		"practitioner-2":    "not-found",   // may not know of this client
		"invited-1":         "not-found",
		"removed-1":         "not-found",
		"admin-2":           "not-found", // of another practice
		"nobody":            "not-found",
	} {
		b.unchanged(func() {
			_, _, err := b.Give(t.Context(), user(who), "practice-1", "client-1", terms)
			problem(t, err, want)
		})
	}
	// Rule 29.
	b.settings("seed", map[string]any{"access_managers": []any{"administrator", "assigned_practitioner"}})
	if _, _, err := b.Give(t.Context(), user("practitioner-1"), "practice-1", "client-1", terms); err != nil {
		t.Errorf("assigned practitioner, where the practice lets him: %v", err)
	}
	_, _, err := b.Give(t.Context(), user("practitioner-1"), "practice-1", "client-2", Terms{User: "user-both"})
	problem(t, err, "not-found")
}

func TestRule32_33_34_WhoCannotBeGranted(t *testing.T) {
	b := setup(t)
	for who, want := range map[string]string{
		"scheduler-1":    "grantee-not-eligible",
		"biller-1":       "grantee-not-eligible",
		"invited-1":      "grantee-not-eligible",
		"removed-1":      "grantee-not-eligible",
		"admin-1":        "grantee-not-eligible",
		"practitioner-3": "grantee-not-eligible", // of practice-2 only
		"nobody":         "grantee-not-eligible",
		"practitioner-1": "redundant",
	} {
		b.unchanged(func() {
			_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: who})
			p := problem(t, err, want)
			if p.Status != 422 || len(p.Fields) != 1 || p.Fields[0].Pointer != "/user" {
				t.Errorf("%s: %+v", who, p)
			}
			_, err = b.SaveAccess(t.Context(), admin, "practice-1", "client-1", []Terms{{User: "practitioner-2"}, {User: who}}, any1[int64])
			if p := problem(t, err, want); len(p.Fields) != 1 || p.Fields[0].Pointer != "/grants/1/user" {
				t.Errorf("%s in a set: %+v", who, p)
			}
		})
	}
	_, _, unknown := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "nobody"})
	_, _, foreign := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "practitioner-3"})
	if unknown.Error() != foreign.Error() {
		t.Errorf("a foreign user is told from an unknown one: %v, %v", foreign, unknown)
	}
}

func TestRule36_SettingsAskForReasonAndEnd(t *testing.T) {
	b := setup(t)
	for _, c := range []struct {
		name      string
		overrides map[string]any
		terms     Terms
		want      string
	}{
		{"no reason", map[string]any{"grant_requires_reason": true}, Terms{}, "reason-missing"},
		{"blank reason", map[string]any{"grant_requires_reason": true}, Terms{Reason: text(" \t")}, "reason-missing"},
		{"no end", map[string]any{"grant_requires_expiry": true}, Terms{}, "end-missing"},
		{"no end said aloud", map[string]any{"grant_requires_expiry": true}, Terms{ExpiresAt: &authz.NoEnd}, "end-missing"},
		{"no end, though limited", map[string]any{"grant_max_days": 30}, Terms{}, "end-missing"},
		{"too long", map[string]any{"grant_max_days": 30}, Terms{ExpiresAt: inDays(31)}, "end-refused"},
		{"too long, later", map[string]any{"grant_max_days": 30}, Terms{NotBefore: inDays(10), ExpiresAt: inDays(41)}, "end-refused"},
		{"in the past", nil, Terms{NotBefore: inDays(-2), ExpiresAt: inDays(-1)}, "end-refused"},
		{"ends before it starts", nil, Terms{NotBefore: inDays(2), ExpiresAt: inDays(1)}, "end-refused"},
		{"ends as it starts", nil, Terms{NotBefore: inDays(2), ExpiresAt: inDays(2)}, "end-refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.settings("seed", c.overrides)
			c.terms.User = "practitioner-2"
			if c.name == "ends as it starts" {
				c.terms.ExpiresAt = c.terms.NotBefore
			}
			b.unchanged(func() {
				_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", c.terms)
				problem(t, err, c.want)
				_, err = b.SaveAccess(t.Context(), admin, "practice-1", "client-1", []Terms{c.terms}, any1[int64])
				problem(t, err, c.want)
			})
		})
	}
	b.settings("seed", map[string]any{"grant_max_days": 30, "grant_requires_reason": true, "grant_requires_expiry": true})
	b.give("client-1", Terms{User: "practitioner-2", NotBefore: inDays(-5), ExpiresAt: inDays(29), Reason: text("cover")})
	b.opens("practitioner-2", "client-1", "client_grant")
}

func TestRule37_SameGrantTwiceIsOneGrant(t *testing.T) {
	b := setup(t)
	first := b.give("client-1", Terms{User: "practitioner-2"})
	var again Grant
	b.unchanged(func() {
		var created bool
		var err error
		again, created, err = b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "practitioner-2"})
		if err != nil || created {
			t.Errorf("again: created=%v, %v", created, err)
		}
	})
	if again.ID != first.ID {
		t.Errorf("again: id %s, want %s", again.ID, first.ID)
	}
	if err := b.Revoke(t.Context(), admin, "practice-1", "client-1", first.ID, ""); err != nil {
		t.Fatal(err)
	}
	b.opens("practitioner-2", "client-1")
}

func TestRule7_RevokeTakesEffectAndMayBeRepeated(t *testing.T) {
	b := setup(t)
	g := b.give("client-1", Terms{User: "practitioner-2"})
	if err := b.Revoke(t.Context(), admin, "practice-1", "client-1", g.ID, "no longer needed"); err != nil {
		t.Fatal(err)
	}
	b.opens("practitioner-2", "client-1")
	c := b.lastChange()
	if c.Target != "practitioner-2" || c.Reason != "no longer needed" || c.Before["id"] != g.ID || c.After["closed"] != "revoked" {
		t.Errorf("record: %+v", c)
	}
	b.unchanged(func() {
		if err := b.Revoke(t.Context(), admin, "practice-1", "client-1", g.ID, ""); err != nil {
			t.Errorf("revoked twice: %v", err)
		}
		problem(t, b.Revoke(t.Context(), admin, "practice-1", "client-3", g.ID, ""), "not-found")
		problem(t, b.Revoke(t.Context(), admin, "practice-1", "client-1", "8f9b7bb1-0000-4000-8000-000000000000", ""), "not-found")
		problem(t, b.Revoke(t.Context(), admin, "practice-1", "client-1", "no-such-grant", ""), "not-found")
		problem(t, b.Revoke(t.Context(), user("practitioner-1"), "practice-1", "client-1", g.ID, ""), "not-allowed")
	})
	if _, err := b.Grant(t.Context(), admin, "practice-1", "client-1", g.ID); err == nil {
		t.Error("a revoked grant is still shown")
	}
}

func TestRule48_RenewingMakesANewGrantAndTheOldOneKeepsItsEnd(t *testing.T) {
	b := setup(t)
	b.exec(`INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by, granted_at)
		VALUES ('practice-1', 'client-1', 'practitioner-2', now() - interval '3 days', now() - interval '1 day', 'admin-1', now() - interval '3 days')`)
	var ended string
	if err := b.db.QueryRow(t.Context(), `SELECT id::text FROM grants`).Scan(&ended); err != nil {
		t.Fatal(err)
	}
	b.opens("practitioner-2", "client-1")
	renewed := b.give("client-1", Terms{User: "practitioner-2", NotBefore: inDays(-2)})
	if renewed.ID == ended {
		t.Error("the ended grant was used again")
	}
	b.opens("practitioner-2", "client-1", "client_grant")
	if n := b.count(`SELECT count(*) FROM grants WHERE id::text = $1 AND expires_at < now()`, ended); n != 1 {
		t.Error("the ended grant did not keep its end")
	}
	b.unchanged(func() {
		if err := b.Revoke(t.Context(), admin, "practice-1", "client-1", ended, ""); err != nil {
			t.Errorf("revoke of an ended grant: %v", err)
		}
	})
	if _, err := b.Grant(t.Context(), admin, "practice-1", "client-1", ended); err == nil {
		t.Error("an ended grant is shown")
	}
}

func TestRule41_GrantToComeDoesNotOpenYet(t *testing.T) {
	b := setup(t)
	g := b.give("client-1", Terms{User: "practitioner-2", NotBefore: inDays(1), ExpiresAt: inDays(2)})
	b.opens("practitioner-2", "client-1")
	if again := b.give("client-1", Terms{User: "practitioner-2", NotBefore: &g.NotBefore, ExpiresAt: &g.ExpiresAt}); again.ID != g.ID {
		t.Error("the same grant to come was given twice")
	}
}

func TestGiveNeverTakesAway(t *testing.T) {
	b := setup(t)
	current := b.give("client-1", Terms{User: "practitioner-2", Scope: text("view"), ExpiresAt: inDays(10)})
	later := b.give("client-1", Terms{User: "practitioner-2", Scope: text("view"), NotBefore: inDays(20), ExpiresAt: inDays(30)})
	for name, less := range map[string]Terms{
		"shorter":         {Scope: text("view"), ExpiresAt: inDays(5)},
		"starts later":    {Scope: text("view"), NotBefore: inDays(5), ExpiresAt: inDays(15)},
		"cuts the second": {Scope: text("view"), ExpiresAt: inDays(25)},
	} {
		b.unchanged(func() {
			less.User = "practitioner-2"
			_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", less)
			if p := problem(t, err, "grant-overlaps"); p.Kind != authz.ErrConflict {
				t.Errorf("%s: %+v", name, p)
			}
		})
	}
	wide := b.give("client-1", Terms{User: "practitioner-2"})
	if wide.ID == current.ID || wide.ID == later.ID {
		t.Error("a grant that gives more has the id of one that gave less")
	}
	if n := b.count(`SELECT count(*) FROM grants`); n != 1 {
		t.Errorf("%d grants stand, want the wide one only", n)
	}
	b.unchanged(func() {
		_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "practitioner-2", Scope: text("view")})
		problem(t, err, "grant-overlaps")
	})
}

func TestGrantFollowsThePracticesDefaultScope(t *testing.T) {
	b := setup(t)
	b.settings("seed", map[string]any{"grant_default_scope": "view"})
	if g := b.give("client-1", Terms{User: "practitioner-2"}); g.Scope != authz.ScopeView {
		t.Errorf("scope %s, want view", g.Scope)
	}
}

func TestOddTermsAreMalformed(t *testing.T) {
	b := setup(t)
	afterTheEnd := authz.NoEnd.Add(day)
	for pointer, odd := range map[string]Terms{
		"/user":       {User: ""},
		"/scope":      {User: "practitioner-2", Scope: text("own")},
		"/expires_at": {User: "practitioner-2", ExpiresAt: &afterTheEnd},
		"/not_before": {User: "practitioner-2", NotBefore: &afterTheEnd},
		"/reason":     {User: "practitioner-2", Reason: text(strings.Repeat("x", maxReason+1))},
	} {
		b.unchanged(func() {
			_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", odd)
			if p := problem(t, err, "malformed"); len(p.Fields) != 1 || p.Fields[0].Pointer != pointer {
				t.Errorf("%s: %+v", pointer, p)
			}
		})
	}
}
