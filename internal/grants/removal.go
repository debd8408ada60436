package grants

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// Remove ends a membership. Every active client of the member goes to the
// successor that is named for it, and his archived ones are left unassigned
// (DOMAIN rule 61, C15); his grants and full clinical access end. One who was
// removed before stays removed: that is a success too.
func (s *Service) Remove(ctx context.Context, actor authz.Subject, practice, user string, successors map[string]string, reason string) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	c := call{actor: actor, action: actionMemberRemove, practice: practice, members: []string{user}, hold: changingPractice}
	for _, successor := range successors {
		c.members = append(c.members, successor)
	}
	return s.do(ctx, c, func(a *act) error {
		m, ok := a.members[user]
		switch {
		case !ok:
			return notFound()
		case m.Status == authz.MemberRemoved:
			return nil
		case m.Owner:
			return &authz.Problem{Kind: authz.ErrConflict, Type: "owner-stays", Detail: "the owner of the practice cannot be removed"}
		}
		if err := a.anotherAdministrator(ctx, m); err != nil {
			return err
		}
		clients, err := a.clientsOf(ctx, user)
		if err != nil {
			return err
		}
		if err := a.checkSuccessors(user, clients, successors); err != nil {
			return err
		}
		return a.remove(ctx, m, clients, successors, reason)
	})
}

// clientsOf locks and returns the clients that user is assigned to, by id.
func (a *act) clientsOf(ctx context.Context, user string) ([]client, error) {
	rows, err := a.tx.Query(ctx, holdAssignedClients, a.practice, user)
	if err != nil {
		return nil, fmt.Errorf("clients of %s: %w", user, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (client, error) {
		c, err := readClient(row)
		if err != nil {
			return client{}, err
		}
		return *c, nil
	})
}

// checkSuccessors refuses unless each active client, and nothing else, has an
// active practitioner to go to.
func (a *act) checkSuccessors(user string, clients []client, successors map[string]string) error {
	missing, active := []string{}, map[string]bool{}
	for _, c := range clients {
		if c.status != authz.ClientActive {
			continue
		}
		active[c.id] = true
		if _, ok := successors[c.id]; !ok {
			missing = append(missing, c.id)
		}
	}
	if len(missing) > 0 {
		return &authz.Problem{Kind: authz.ErrConflict, Type: "successors-missing", Extra: map[string]any{"clients": missing},
			Detail: "each active client of this member needs a successor"}
	}
	for _, id := range slices.Sorted(maps.Keys(successors)) {
		at := "/successors/" + escape.Replace(id)
		if !active[id] {
			return malformed(at, "is no active client of this member")
		}
		if m, ok := a.members[successors[id]]; !ok || successors[id] == user || !assignable(m) {
			return notEligible(at)
		}
	}
	return nil
}

// escape writes a member's name as part of a JSON pointer (RFC 6901).
var escape = strings.NewReplacer("~", "~0", "/", "~1")

func (a *act) remove(ctx context.Context, m Member, clients []client, successors map[string]string, reason string) error {
	for _, c := range clients {
		if to, ok := successors[c.id]; ok {
			if err := a.reassign(ctx, c, to, reason); err != nil {
				return err
			}
			continue
		}
		if err := a.recordAssigned(ctx, c, "", reason); err != nil {
			return err
		}
	}
	if _, err := a.tx.Exec(ctx, clearAssigned, a.practice, m.User); err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	if err := a.closeAll(ctx, m.User); err != nil {
		return err
	}
	if _, err := a.tx.Exec(ctx, removeMember, a.practice, m.User); err != nil {
		return fmt.Errorf("remove member: %w", err)
	}
	after := m
	after.Status, after.FullClinicalAccess = authz.MemberRemoved, false
	return a.recordMember(ctx, change{target: m.User, reason: reason}, m, after)
}

// closeAll closes every open grant of a member, on all clients. Those that have
// ended go with the member, by a trigger; the history keeps them all.
func (a *act) closeAll(ctx context.Context, user string) error {
	rows, err := a.tx.Query(ctx, selectOpenGrantsOf, a.practice, user, a.now)
	if err != nil {
		return fmt.Errorf("grants of %s: %w", user, err)
	}
	type held struct {
		client string
		Grant
	}
	open, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (held, error) {
		var h held
		err := row.Scan(&h.client, &h.ID, &h.User, &h.Scope, &h.NotBefore, &h.ExpiresAt, &h.Reason, &h.GrantedBy, &h.GrantedAt)
		return h, err
	})
	if err != nil {
		return fmt.Errorf("grants of %s: %w", user, err)
	}
	for _, h := range open {
		if err := a.closeGrantOn(ctx, h.client, h.Grant, "member_removed", ""); err != nil {
			return err
		}
	}
	return nil
}
