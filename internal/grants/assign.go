package grants

import (
	"context"
	"fmt"
	"time"

	"chartgate/internal/authz"
)

const actionReassign = "client.reassign"

// Assign makes user the assigned practitioner of a client; "" for nobody. The
// former one loses that basis with the same commit (DOMAIN rule 50), and keeps
// what setting on_reassign_previous leaves him.
func (s *Service) Assign(ctx context.Context, actor authz.Subject, practice, client, user, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	if user != "" && !authz.ValidID(user) {
		return malformed("/user", "must be 1 to 128 bytes of UTF-8 without control characters")
	}
	former, err := s.assigned(ctx, practice, client)
	if err != nil {
		return err
	}
	c := call{actor: actor, action: actionReassign, practice: practice, client: client, members: []string{user, former}, hold: changingClient}
	return s.do(ctx, c, func(a *act) error {
		former := a.client.assigned
		if former == user {
			return nil
		}
		if m, ok := a.members[user]; user != "" && (!ok || !assignable(m)) {
			return notEligible("/user")
		}
		// He may have become another one since he was looked up. He is then locked
		// out of order: Postgres breaks the deadlock that this can make, and the
		// transaction begins again.
		if err := a.lockMembers(ctx, []string{former}); err != nil {
			return fmt.Errorf("lock former practitioner: %w", err)
		}
		if err := a.reassign(ctx, *a.client, user, reason); err != nil {
			return err
		}
		return a.leaveHandOver(ctx, former)
	})
}

// assigned looks up who is assigned, so that his row can be locked in order.
func (s *Service) assigned(ctx context.Context, practice, client string) (string, error) {
	var user string
	rows, err := s.pool.Query(ctx, selectAssigned, practice, client)
	if err != nil {
		return "", fmt.Errorf("look up assigned practitioner: %w", err)
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(&user); err != nil {
			return "", fmt.Errorf("look up assigned practitioner: %w", err)
		}
	}
	return user, rows.Err()
}

// reassign gives a locked client to its new practitioner, and closes the grants
// that end with that (settings on_reassign_grants, close_redundant_grant_on_assign;
// DOMAIN rules 53, 54).
func (a *act) reassign(ctx context.Context, c client, to, reason string) error {
	if _, err := a.tx.Exec(ctx, updateAssigned, a.practice, c.id, to); err != nil {
		return fmt.Errorf("reassign: %w", err)
	}
	if err := a.recordAssigned(ctx, c, to, reason); err != nil {
		return err
	}
	a.client = &client{id: c.id, assigned: to, status: c.status}
	open, err := a.openGrants(ctx)
	if err != nil {
		return err
	}
	s := a.settings.Effective
	for _, g := range open {
		how := ""
		switch {
		case g.User == to && s.On("close_redundant_grant_on_assign"):
			how = "superseded"
		case c.assigned != "" && s.Text("on_reassign_grants") == "revoke_all":
			how = "reassigned"
		default:
			continue
		}
		if err := a.closeGrant(ctx, g, how, ""); err != nil {
			return err
		}
	}
	return nil
}

func (a *act) recordAssigned(ctx context.Context, c client, to, reason string) error {
	target := to
	if target == "" {
		target = c.assigned
	}
	return a.record(ctx, change{action: actionReassign, target: target, client: c.id, reason: reason,
		before: assignment(c.assigned), after: assignment(to)})
}

// assignment is an assignment on record; nobody is left out.
func assignment(user string) map[string]any {
	if user == "" {
		return map[string]any{}
	}
	return map[string]any{"assigned": user}
}

// leaveHandOver gives the former practitioner a grant for the days of setting
// on_reassign_previous (DOMAIN rule 52), if he could be given one. A grant of
// his own that gives more stays instead (rule 51).
func (a *act) leaveHandOver(ctx context.Context, former string) error {
	days := a.settings.Effective.Number("on_reassign_previous")
	m, ok := a.members[former]
	if days == 0 || !ok || !eligible(m, a.settings.Effective) {
		return nil
	}
	open, err := a.openGrants(ctx)
	if err != nil {
		return err
	}
	wanted := a.standard()
	wanted.User, wanted.Reason = former, "hand-over after reassignment"
	wanted.ExpiresAt = a.now.Add(time.Duration(days) * day)
	closed, fits := makeRoom(open, wanted, a.now)
	if !fits {
		return nil
	}
	for _, g := range closed {
		if err := a.closeGrant(ctx, g, "replaced", ""); err != nil {
			return err
		}
	}
	_, err = a.giveGrant(ctx, wanted)
	return err
}
