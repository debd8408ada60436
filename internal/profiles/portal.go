package profiles

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"chartgate/internal/authz"
)

// Actions on the portal (DESIGN 11).
const (
	actionInvite   = "portal.invite"
	actionPermit   = "portal.permit"
	actionFeatures = "portal_settings.manage"
)

// invitationLife is how long an invitation can be accepted.
const invitationLife = 14 * 24 * time.Hour

// Invitation is what the invited person needs. The code is shown this once:
// only its hash is kept.
type Invitation struct {
	Code      string
	ExpiresAt time.Time
}

// Invite invites a contact to the portal of a client; an earlier invitation
// that was not accepted is void. The client himself (authz.ContactOwn) needs an
// e-mail, on which his login rests, and gets his access with it switched on.
func (s *Service) Invite(ctx context.Context, actor authz.Subject, practice, client, contact string) (Invitation, error) {
	var invitation Invitation
	c := call{actor: actor, action: actionInvite, practice: practice, client: client, changing: true}
	err := s.do(ctx, c, func(a *act) error {
		k, err := a.invited(ctx, contact)
		if err != nil {
			return err
		}
		if _, err := a.tx.Exec(ctx, cancelInvitations, practice, client, contact); err != nil {
			return fmt.Errorf("invite: %w", err)
		}
		invitation.Code = rand.Text() // 130 bits
		err = a.tx.QueryRow(ctx, insertInvitation, practice, client, contact, codeHash(invitation.Code), actor.ID, invitationLife).
			Scan(&invitation.ExpiresAt)
		if err != nil {
			return fmt.Errorf("invite: %w", err)
		}
		invitation.ExpiresAt = invitation.ExpiresAt.UTC()
		return a.markInvited(ctx, client, *k)
	})
	return invitation, err
}

// codeHash is what is kept of a code. It is long and random: a plain hash will do.
func codeHash(code string) []byte {
	sum := sha256.Sum256([]byte(code))
	return sum[:]
}

// invited returns the contact of the call's client who is to be invited; for
// the client himself it makes room.
func (a *act) invited(ctx context.Context, contact string) (*Contact, error) {
	k, err := a.contact(ctx, a.client, contact)
	if err != nil {
		return nil, err
	}
	switch {
	case k != nil && k.login != "":
		return nil, refused("redundant", "", "this contact has accepted an invitation already")
	case contact == authz.ContactOwn && a.clients[a.client].email == "":
		return nil, linkRefused("", "the client has no e-mail, which his own portal login rests on")
	case k != nil:
		return k, nil
	case contact != authz.ContactOwn:
		return nil, notFound()
	}
	if _, err := a.tx.Exec(ctx, insertAccess, a.practice, a.client, contact, "", true, []string{}); err != nil {
		return nil, fmt.Errorf("invite: %w", err)
	}
	return a.contact(ctx, a.client, contact)
}

func (a *act) markInvited(ctx context.Context, client string, k Contact) error {
	if _, err := a.tx.Exec(ctx, markInvited, a.practice, client, k.ID); err != nil {
		return fmt.Errorf("invite: %w", err)
	}
	if err := a.record(ctx, change{client: client, after: map[string]any{"contact": k.ID, "invited": true}}); err != nil {
		return err
	}
	return a.notify(ctx, noticeInvitation, client, k, nil)
}

// Permit sets the master switch and the permissions of a contact. What they
// give, together with the practice's features, is the policy's to say.
func (s *Service) Permit(ctx context.Context, actor authz.Subject, practice, client, contact string, enabled bool, permissions []string) (Contact, error) {
	permissions, err := inOrder("/permissions", permissions, authz.PortalPermissions)
	if err != nil {
		return Contact{}, err
	}
	var after Contact
	c := call{actor: actor, action: actionPermit, practice: practice, client: client, changing: true}
	err = s.do(ctx, c, func(a *act) error {
		k, err := a.contact(ctx, client, contact)
		if err != nil {
			return err
		}
		if k == nil {
			return notFound()
		}
		after, err = a.permitContact(ctx, client, *k, enabled, permissions)
		return err
	})
	return after, err
}

// permitContact writes switch and permissions, if they differ, and tells the
// contact of what is new.
func (a *act) permitContact(ctx context.Context, client string, k Contact, enabled bool, permissions []string) (Contact, error) {
	before := k.Portal
	if before.Enabled == enabled && slices.Equal(before.Permissions, permissions) {
		return k, nil
	}
	if _, err := a.tx.Exec(ctx, updateAccess, a.practice, client, k.ID, enabled, permissions); err != nil {
		return k, fmt.Errorf("permit: %w", err)
	}
	k.Portal.Enabled, k.Portal.Permissions = enabled, permissions
	err := a.record(ctx, change{client: client,
		before: map[string]any{"contact": k.ID, "enabled": before.Enabled, "permissions": before.Permissions},
		after:  map[string]any{"contact": k.ID, "enabled": enabled, "permissions": permissions}})
	if err != nil {
		return k, err
	}
	added := slices.ContainsFunc(permissions, func(p string) bool { return !slices.Contains(before.Permissions, p) })
	if !added && (before.Enabled || !enabled) {
		return k, nil
	}
	return k, a.notify(ctx, noticePermission, client, k, map[string]any{"enabled": enabled, "permissions": permissions})
}

// Features returns what the practice offers in its portal.
func (s *Service) Features(ctx context.Context, actor authz.Subject, practice string) ([]string, error) {
	var features []string
	err := s.do(ctx, call{actor: actor, action: actionFeatures, practice: practice}, func(a *act) error {
		var err error
		features, err = inOrder("", a.offered, authz.PortalFeatures)
		return err
	})
	return features, err
}

// SetFeatures says what the practice offers in its portal, to nobody more than
// he was permitted.
func (s *Service) SetFeatures(ctx context.Context, actor authz.Subject, practice string, features []string) ([]string, error) {
	features, err := inOrder("/features", features, authz.PortalFeatures)
	if err != nil {
		return nil, err
	}
	err = s.do(ctx, call{actor: actor, action: actionFeatures, practice: practice, settings: true}, func(a *act) error {
		before, err := inOrder("", a.offered, authz.PortalFeatures)
		if err != nil || slices.Equal(before, features) {
			return err
		}
		if _, err := a.tx.Exec(ctx, updateOffered, practice, features); err != nil {
			return fmt.Errorf("portal settings: %w", err)
		}
		return a.record(ctx, change{before: map[string]any{"features": before}, after: map[string]any{"features": features}})
	})
	return features, err
}

// Narrow leaves only these features to the portal of one client, of those that
// the practice offers. All of them is no narrowing.
func (s *Service) Narrow(ctx context.Context, actor authz.Subject, practice, client string, features []string) ([]string, error) {
	features, err := inOrder("/features", features, authz.PortalFeatures)
	if err != nil {
		return nil, err
	}
	c := call{actor: actor, action: actionPermit, practice: practice, client: client, changing: true}
	err = s.do(ctx, c, func(a *act) error {
		before, narrowed := a.clients[client].features, features
		if before == nil {
			before = authz.PortalFeatures
		}
		if len(features) == len(authz.PortalFeatures) {
			narrowed = nil
		}
		if before, err = inOrder("", before, authz.PortalFeatures); err != nil || slices.Equal(before, features) {
			return err
		}
		if _, err := a.tx.Exec(ctx, updateNarrowed, practice, client, narrowed); err != nil {
			return fmt.Errorf("portal features: %w", err)
		}
		return a.record(ctx, change{client: client, before: map[string]any{"features": before}, after: map[string]any{"features": features}})
	})
	return features, err
}
