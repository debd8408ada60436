package grants

import (
	"context"
	"testing"

	"chartgate/internal/authz"
)

func (b *bench) assign(client, to string) {
	b.t.Helper()
	if err := b.Assign(b.t.Context(), admin, "practice-1", client, to, ""); err != nil {
		b.t.Fatal(err)
	}
}

func TestRule50_ReassignmentMovesTheBasisInOneMoment(t *testing.T) {
	b := setup(t)
	// Each look is one snapshot: in none of them both or neither may open.
	ctx, stop := context.WithCancel(t.Context())
	looked := make(chan string)
	go func() {
		defer close(looked)
		for ctx.Err() == nil {
			var who string
			if err := b.db.QueryRow(context.WithoutCancel(ctx), `SELECT coalesce(assigned, 'nobody') FROM clients WHERE id = 'client-1'`).Scan(&who); err == nil {
				looked <- who
			}
		}
	}()
	go func() {
		defer stop()
		for i := range 20 {
			to := []string{"practitioner-2", "practitioner-1"}[i%2]
			if err := b.Assign(t.Context(), admin, "practice-1", "client-1", to, ""); err != nil {
				t.Errorf("assign: %v", err)
			}
		}
	}()
	for who := range looked {
		if who != "practitioner-1" && who != "practitioner-2" {
			t.Errorf("assigned: %s", who)
		}
	}
	b.opens("practitioner-1", "client-1", "assigned")
	b.assign("client-1", "practitioner-2")
	b.opens("practitioner-1", "client-1")
	b.opens("practitioner-2", "client-1", "assigned")
	if c := b.lastChange(); c.Action != "client.reassign" || c.Target != "practitioner-2" || c.Client != "client-1" ||
		c.Before["assigned"] != "practitioner-1" || c.After["assigned"] != "practitioner-2" {
		t.Errorf("record: %+v", c)
	}
	b.unchanged(func() { b.assign("client-1", "practitioner-2") })
	b.assign("client-1", "")
	b.opens("practitioner-2", "client-1")
	if c := b.lastChange(); c.Target != "practitioner-2" || len(c.After) != 0 {
		t.Errorf("record: %+v", c)
	}
}

func TestRule51_OwnGrantOutlivesReassignment(t *testing.T) {
	b := setup(t)
	b.settings("seed", map[string]any{"close_redundant_grant_on_assign": false})
	b.give("client-3", Terms{User: "practitioner-1"})
	b.assign("client-3", "practitioner-1")
	b.opens("practitioner-1", "client-3", "assigned", "client_grant")
	b.assign("client-3", "practitioner-2")
	b.opens("practitioner-1", "client-3", "client_grant")
}

func TestRule52_HandOver(t *testing.T) {
	b := setup(t)
	b.settings("seed", map[string]any{"on_reassign_previous": map[string]any{"grant_days": int64(14)}})
	b.assign("client-1", "practitioner-2")
	b.opens("practitioner-1", "client-1", "client_grant")
	if n := b.count(`SELECT count(*) FROM grants WHERE user_id = 'practitioner-1' AND expires_at = not_before + interval '14 days' AND not_before = granted_at AND granted_by = 'admin-1'`); n != 1 {
		t.Error("no grant of 14 days from now")
	}
	// Back again: what he held for the hand-over is superseded, and nothing is left (rule 53).
	b.assign("client-1", "practitioner-1")
	b.assign("client-1", "practitioner-1")
	if n := b.count(`SELECT count(*) FROM grants WHERE user_id = 'practitioner-1'`); n != 0 {
		t.Error("the hand-over grant stands beside the assignment")
	}
	// Who could not be given a grant gets none.
	b.exec(`UPDATE members SET roles = '{scheduler}' WHERE user_id = 'practitioner-2'`)
	b.exec(`UPDATE clients SET assigned = 'practitioner-2' WHERE id = 'client-3'`)
	b.assign("client-3", "practitioner-1")
	if n := b.count(`SELECT count(*) FROM grants WHERE client = 'client-3'`); n != 0 {
		t.Error("a hand-over grant for one who is no practitioner")
	}
}

func TestRule53_SupersededGrantLeavesNoResidue(t *testing.T) {
	b := setup(t)
	b.give("client-1", Terms{User: "practitioner-2"})
	b.give("client-1", Terms{User: "user-both", NotBefore: inDays(1)})
	b.assign("client-1", "practitioner-2")
	b.opens("practitioner-2", "client-1", "assigned")
	if n := b.count(`SELECT count(*) FROM changes WHERE target = 'practitioner-2' AND after ->> 'closed' = 'superseded'`); n != 1 {
		t.Error("the closed grant is not on record as superseded")
	}
	b.assign("client-1", "practitioner-1")
	b.opens("practitioner-2", "client-1")
}

func TestRule54_OtherGrantsStayOrEnd(t *testing.T) {
	for setting, want := range map[string][]string{"keep": {"client_grant"}, "revoke_all": nil} {
		t.Run(setting, func(t *testing.T) {
			b := setup(t)
			b.settings("seed", map[string]any{"on_reassign_grants": setting})
			b.give("client-1", Terms{User: "user-both"})
			b.give("client-3", Terms{User: "user-both"})
			b.assign("client-1", "practitioner-2")
			b.opens("user-both", "client-1", want...)
			b.assign("client-3", "practitioner-2") // the first assignment is none of a reassignment
			b.opens("user-both", "client-3", "client_grant")
		})
	}
}

func TestRule55_WhoMayReassign(t *testing.T) {
	b := setup(t)
	b.unchanged(func() {
		problem(t, b.Assign(t.Context(), user("practitioner-1"), "practice-1", "client-1", "practitioner-2", ""), "not-allowed")
		problem(t, b.Assign(t.Context(), user("user-both"), "practice-1", "client-1", "user-both", ""), "not-found")
		problem(t, b.Assign(t.Context(), user("admin-2"), "practice-1", "client-1", "practitioner-2", ""), "not-found")
	})
	b.settings("seed", map[string]any{"reassign_managers": []any{"administrator", "assigned_practitioner"}})
	b.unchanged(func() {
		problem(t, b.Assign(t.Context(), user("practitioner-1"), "practice-1", "client-2", "practitioner-1", ""), "not-found")
	})
	if err := b.Assign(t.Context(), user("practitioner-1"), "practice-1", "client-1", "practitioner-2", ""); err != nil {
		t.Errorf("his own client: %v", err)
	}
}

func TestRule56_WhoCannotBeAssigned(t *testing.T) {
	b := setup(t)
	b.unchanged(func() {
		for _, who := range []string{"scheduler-1", "admin-1", "invited-1", "removed-1", "practitioner-3", "nobody"} {
			p := problem(t, b.Assign(t.Context(), admin, "practice-1", "client-1", who, ""), "grantee-not-eligible")
			if p.Status != 422 || p.Kind != authz.ErrConflict {
				t.Errorf("%s: %+v", who, p)
			}
		}
		problem(t, b.Assign(t.Context(), admin, "practice-1", "client-1", "a\x00b", ""), "malformed")
		problem(t, b.Assign(t.Context(), admin, "practice-1", "client-4", "practitioner-1", ""), "not-found") // rule 105
		problem(t, b.Assign(t.Context(), admin, "practice-1", "client-none", "practitioner-1", ""), "not-found")
	})
}
