package grants

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// Actions that change members and settings (DESIGN 11).
const (
	actionMemberList   = "member.list"
	actionMemberInvite = "member.invite"
	actionMemberAccept = "member.accept" // on record only: the invited person needs nobody's leave
	actionMemberRoles  = "member.roles"
	actionMemberRemove = "member.remove"
	actionFullAccess   = "member.full_clinical_access"
	actionSettings     = "settings.manage"
)

// Member is a user in one practice.
type Member struct {
	User               string
	Name               string
	Status             string
	Roles              []string // in the order of authz.Roles
	Owner              bool
	FullClinicalAccess bool
	BillingEnabled     bool

	membership string // new after a re-invitation
}

func (m Member) active() bool { return m.Status == authz.MemberActive }

func (m Member) has(role string) bool { return slices.Contains(m.Roles, role) }

// Members returns all members of a practice by user id, removed ones too.
func (s *Service) Members(ctx context.Context, actor authz.Subject, practice string) ([]Member, error) {
	var members []Member
	c := call{actor: actor, action: actionMemberList, practice: practice, hold: reading}
	err := s.do(ctx, c, func(a *act) error {
		rows, err := a.tx.Query(ctx, selectMembers, practice)
		if err != nil {
			return fmt.Errorf("list members: %w", err)
		}
		members, err = pgx.CollectRows(rows, readMember)
		return err
	})
	return members, err
}

// Member returns one member, removed or not.
func (s *Service) Member(ctx context.Context, actor authz.Subject, practice, user string) (Member, error) {
	var m Member
	c := call{actor: actor, action: actionMemberList, practice: practice, members: []string{user}, hold: reading}
	err := s.do(ctx, c, func(a *act) error {
		var ok bool
		if m, ok = a.members[user]; !ok {
			return notFound()
		}
		return nil
	})
	return m, err
}

// Invitation is who is invited to a practice, and as what.
type Invitation struct {
	User  string
	Name  string
	Email string // "" when it is not known
	Roles []string
}

// Invite makes a user a member who has not accepted yet. Of one who was removed
// nothing revives (DOMAIN rule 58); one who is a member already is refused.
func (s *Service) Invite(ctx context.Context, actor authz.Subject, practice string, i Invitation) (Member, error) {
	roles, err := i.check()
	if err != nil {
		return Member{}, err
	}
	var m Member
	c := call{actor: actor, action: actionMemberInvite, practice: practice, members: []string{i.User}, hold: changingPractice}
	err = s.do(ctx, c, func(a *act) error {
		before, known := a.members[i.User]
		if known {
			if err := a.forget(ctx, before); err != nil {
				return err
			}
		}
		if _, err := a.tx.Exec(ctx, insertUser, i.User); err != nil {
			return fmt.Errorf("invite: %w", err)
		}
		m, err = one(a.tx.Query(ctx, insertMember, practice, i.User, i.Name, i.Email, roles))
		if errors.Is(err, pgx.ErrNoRows) {
			return &authz.Problem{Kind: authz.ErrConflict, Type: "id-refused", Detail: "this user is a member of the practice already",
				Fields: []authz.Field{{Pointer: "/user", Detail: "is a member already"}}}
		}
		if err != nil {
			return fmt.Errorf("invite: %w", err)
		}
		return a.recordMember(ctx, change{target: i.User}, before, m)
	})
	return m, err
}

// forget takes away what may still name a removed member, should somebody have
// written it past the triggers.
func (a *act) forget(ctx context.Context, m Member) error {
	if m.Status != authz.MemberRemoved {
		return nil
	}
	if _, err := a.tx.Exec(ctx, deleteGrantsOf, a.practice, m.User); err != nil {
		return fmt.Errorf("forget former membership: %w", err)
	}
	if _, err := a.tx.Exec(ctx, clearAssigned, a.practice, m.User); err != nil {
		return fmt.Errorf("forget former membership: %w", err)
	}
	return nil
}

// Accept makes the invited person an active member. Only he can do it himself,
// and doing it again changes nothing.
func (s *Service) Accept(ctx context.Context, actor authz.Subject, practice, user string) (Member, error) {
	if actor.Type != authz.SubjectUser || actor.ID != user {
		c := call{actor: actor, action: actionMemberInvite, practice: practice, hold: reading}
		err := s.do(ctx, c, func(*act) error {
			return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: "only the invited person can accept"}
		})
		return Member{}, err
	}
	var m Member
	err := s.inTx(ctx, call{actor: actor, practice: practice, hold: changingPractice}, func(a *act) error {
		before, ok := a.members[user]
		if !ok || before.Status == authz.MemberRemoved {
			return notFound()
		}
		if before.active() {
			m = before
			return nil
		}
		var err error
		if m, err = one(a.tx.Query(ctx, acceptMember, practice, user)); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		return a.recordMember(ctx, change{action: actionMemberAccept, target: user}, before, m)
	})
	return m, err
}

// MemberChange is what is to become different about a member; nil stays.
type MemberChange struct {
	Roles          []string
	BillingEnabled *bool
	Reason         string
}

// ChangeMember gives a member other roles, or switches his billing. The last
// administrator stays one, and so does the owner.
func (s *Service) ChangeMember(ctx context.Context, actor authz.Subject, practice, user string, mc MemberChange) (Member, error) {
	var roles []string
	if mc.Roles != nil {
		var err error
		if roles, err = checkRoles(mc.Roles); err != nil {
			return Member{}, err
		}
	}
	if err := checkReason(mc.Reason); err != nil {
		return Member{}, err
	}
	return s.updateMember(ctx, actor, actionMemberRoles, practice, user, mc.Reason, func(a *act, m *Member) error {
		if mc.BillingEnabled != nil {
			m.BillingEnabled = *mc.BillingEnabled
		}
		if mc.Roles == nil {
			return nil
		}
		before := *m
		m.Roles = roles
		return a.administratorStays(ctx, before, *m)
	})
}

// SetFullClinicalAccess switches full clinical access on or off. Without the
// role practitioner it has no effect, but keeps its value (DOMAIN rule 40). The
// other administrators are told of one who switches his own (DOMAIN rule 39).
func (s *Service) SetFullClinicalAccess(ctx context.Context, actor authz.Subject, practice, user string, enabled bool, reason string) (Member, error) {
	if err := checkReason(reason); err != nil {
		return Member{}, err
	}
	return s.updateMember(ctx, actor, actionFullAccess, practice, user, reason, func(a *act, m *Member) error {
		if m.FullClinicalAccess != enabled && user == actor.ID {
			if _, err := a.tx.Exec(ctx, insertMemberNotices, practice, user, enabled); err != nil {
				return fmt.Errorf("tell the other administrators: %w", err)
			}
		}
		m.FullClinicalAccess = enabled
		return nil
	})
}

// updateMember lets edit change a member who is not removed, and saves what it
// made of him if it is different.
func (s *Service) updateMember(ctx context.Context, actor authz.Subject, action, practice, user, reason string,
	edit func(a *act, m *Member) error) (Member, error) {
	var m Member
	c := call{actor: actor, action: action, practice: practice, members: []string{user}, hold: changingPractice}
	err := s.do(ctx, c, func(a *act) error {
		before, ok := a.members[user]
		if !ok || before.Status == authz.MemberRemoved {
			return notFound()
		}
		m = before
		if err := edit(a, &m); err != nil {
			return err
		}
		if len(difference(before, m)) == 0 {
			return nil
		}
		var err error
		m, err = one(a.tx.Query(ctx, updateMember, practice, user, m.Roles, m.BillingEnabled, m.FullClinicalAccess))
		if err != nil {
			return fmt.Errorf("change member: %w", err)
		}
		return a.recordMember(ctx, change{target: user, reason: reason}, before, m)
	})
	return m, err
}

// administratorStays refuses a change of roles after which nobody could
// administer the practice, or its owner could not.
func (a *act) administratorStays(ctx context.Context, before, after Member) error {
	if !before.has(authz.RoleAdministrator) || after.has(authz.RoleAdministrator) {
		return nil
	}
	if err := a.anotherAdministrator(ctx, before); err != nil {
		return err
	}
	if before.Owner {
		return &authz.Problem{Kind: authz.ErrConflict, Type: "owner-stays", Detail: "the owner of the practice stays an administrator"}
	}
	return nil
}

// anotherAdministrator returns an error if m is the only active administrator.
func (a *act) anotherAdministrator(ctx context.Context, m Member) error {
	if !m.active() || !m.has(authz.RoleAdministrator) {
		return nil
	}
	var others int
	if err := a.tx.QueryRow(ctx, countOtherAdministrators, a.practice, m.User).Scan(&others); err != nil {
		return fmt.Errorf("count administrators: %w", err)
	}
	if others == 0 {
		return &authz.Problem{Kind: authz.ErrConflict, Type: "last-administrator",
			Detail: "this member is the only active administrator: make another one first"}
	}
	return nil
}

// recordMember records c with what differs between before and after.
func (a *act) recordMember(ctx context.Context, c change, before, after Member) error {
	c.before, c.after = map[string]any{}, map[string]any{}
	for name, values := range difference(before, after) {
		c.before[name], c.after[name] = values[0], values[1]
	}
	if before.User == "" {
		c.before = nil // there was nothing
	}
	return a.record(ctx, c)
}

// difference returns what differs, by name, as [before, after]: facts only.
func difference(before, after Member) map[string][2]any {
	d := map[string][2]any{}
	put := func(name string, differs bool, b, a any) {
		if differs {
			d[name] = [2]any{b, a}
		}
	}
	put("membership", before.membership != after.membership, before.membership, after.membership)
	put("status", before.Status != after.Status, before.Status, after.Status)
	put("roles", !slices.Equal(before.Roles, after.Roles), before.Roles, after.Roles)
	put("full_clinical_access", before.FullClinicalAccess != after.FullClinicalAccess, before.FullClinicalAccess, after.FullClinicalAccess)
	put("billing_enabled", before.BillingEnabled != after.BillingEnabled, before.BillingEnabled, after.BillingEnabled)
	return d
}

// one reads the one member that a statement returns.
func one(rows pgx.Rows, err error) (Member, error) {
	if err != nil {
		return Member{}, err
	}
	return pgx.CollectExactlyOneRow(rows, readMember)
}
