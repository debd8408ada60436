package profiles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"chartgate/internal/authz"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Actions on contacts (DESIGN 11).
const (
	actionContact  = "contact.manage"
	actionLinkSelf = "contact.link_self"
	actionSearch   = "contact.search"
)

// Contact is somebody who has to do with a client: the client himself, whose id
// is authz.ContactOwn and who has no relationship, or another person. Of a
// contact who is a client too nothing shows but name and relationship (DOMAIN
// C14).
type Contact struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	Relationship string `json:"relationship,omitempty"`
	Portal       Portal `json:"portal"`

	login  string // "" until an invitation was accepted
	person string // the client that this contact is; "" when he is none
}

// Portal is what a contact may do in the portal of one client.
type Portal struct {
	Enabled     bool       `json:"enabled"`
	Permissions []string   `json:"permissions"`
	InvitedAt   *time.Time `json:"invited_at,omitempty"`
	AcceptedAt  *time.Time `json:"accepted_at,omitempty"`
}

// NewContact says who is to become a contact: exactly one of the three.
type NewContact struct {
	ExistingClient  string
	ExistingContact string
	Person          *Person
	Relationship    string
}

// Person is a contact who is not known yet.
type Person struct {
	Name  string
	Email string
}

func (n NewContact) check() error {
	named := 0
	for pointer, id := range map[string]string{"/existing_client": n.ExistingClient, "/existing_contact": n.ExistingContact} {
		if id == "" {
			continue
		}
		named++
		if err := checkID(pointer, id); err != nil {
			return err
		}
	}
	if n.Person != nil {
		named++
		if err := errors.Join(checkName("/person/name", n.Person.Name), checkEmail("/person/email", n.Person.Email)); err != nil {
			return err
		}
	}
	if named != 1 {
		return malformed("", "exactly one of existing_client, existing_contact and person must be there")
	}
	_, err := inOrder("/relationship", []string{n.Relationship}, authz.Relationships)
	if err != nil {
		return malformed("/relationship", "must be one of self, parent, guardian, spouse, other")
	}
	return nil
}

// Contacts returns the contacts of a client, the client himself first.
func (s *Service) Contacts(ctx context.Context, actor authz.Subject, practice, client string) ([]Contact, error) {
	var contacts []Contact
	err := s.do(ctx, call{actor: actor, action: actionDemographics, practice: practice, client: client}, func(a *act) error {
		var err error
		contacts, err = a.contacts(ctx, client, "")
		return err
	})
	return contacts, err
}

func (a *act) contacts(ctx context.Context, client, only string) ([]Contact, error) {
	rows, err := a.tx.Query(ctx, selectContacts, a.practice, client, only)
	if err != nil {
		return nil, fmt.Errorf("contacts: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Contact, error) {
		var k Contact
		p := &k.Portal
		err := row.Scan(&k.ID, &k.Relationship, &k.login, &p.Enabled, &p.Permissions, &p.InvitedAt, &p.AcceptedAt, &k.person, &k.Name)
		p.Permissions, _ = inOrder("", p.Permissions, authz.PortalPermissions)
		p.InvitedAt, p.AcceptedAt = inUTC(p.InvitedAt), inUTC(p.AcceptedAt)
		return k, err
	})
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := t.UTC()
	return &at
}

// contact returns one contact of a locked client, or nil.
func (a *act) contact(ctx context.Context, client, id string) (*Contact, error) {
	found, err := a.contacts(ctx, client, id)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// AddContact makes somebody a contact of a client, and reports whether he was
// none before: the same link again changes nothing. A link of relationship self
// joins the profiles of one person (see join).
func (s *Service) AddContact(ctx context.Context, actor authz.Subject, practice, client string, n NewContact) (Contact, bool, error) {
	if err := n.check(); err != nil {
		return Contact{}, false, err
	}
	person, err := s.personOf(ctx, practice, n)
	if err != nil {
		return Contact{}, false, err
	}
	var (
		added   Contact
		created bool
	)
	c := call{actor: actor, action: actionContact, practice: practice, client: client, others: []string{person}, changing: true}
	if n.Relationship == authz.RelationshipSelf {
		c.action = actionLinkSelf
	}
	err = s.do(ctx, c, func(a *act) error {
		var err error
		added, created, err = a.addContact(ctx, n, person)
		return err
	})
	if broken(err) == constraintEmail {
		return Contact{}, false, s.emailRefused(ctx, actor, practice, client)
	}
	return added, created, err
}

// personOf looks up which client the contact is, so that its row can be locked
// in order; "" when he is none. Who a contact is never changes.
func (s *Service) personOf(ctx context.Context, practice string, n NewContact) (string, error) {
	if n.ExistingContact == "" {
		return n.ExistingClient, nil
	}
	var person string
	err := s.pool.QueryRow(ctx, selectPerson, practice, n.ExistingContact).Scan(&person)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look up contact: %w", err)
	}
	return person, nil
}

func (a *act) addContact(ctx context.Context, n NewContact, person string) (Contact, bool, error) {
	id, err := a.resolve(ctx, n)
	if err != nil {
		return Contact{}, false, err
	}
	if before, err := a.contact(ctx, a.client, id); err != nil || before != nil {
		if err == nil && before.Relationship != n.Relationship {
			err = linkRefused("/relationship", "is another one than this contact has: unlink him first")
		}
		if err != nil {
			return Contact{}, false, err
		}
		return *before, false, nil
	}
	if n.Relationship == authz.RelationshipSelf {
		if err := a.join(ctx, person); err != nil {
			return Contact{}, false, err
		}
	}
	permissions := a.defaults.List("portal_default_permissions")
	if _, err := a.tx.Exec(ctx, insertAccess, a.practice, a.client, id, n.Relationship, false, permissions); err != nil {
		return Contact{}, false, fmt.Errorf("link contact: %w", err)
	}
	if _, err := a.tx.Exec(ctx, insertLink, a.practice, a.client, id, a.actor.ID); err != nil {
		return Contact{}, false, fmt.Errorf("link contact: %w", err)
	}
	err = a.record(ctx, change{client: a.client, after: map[string]any{"contact": id, "relationship": n.Relationship, "permissions": permissions}})
	if err != nil {
		return Contact{}, false, err
	}
	added, err := a.contact(ctx, a.client, id)
	if err != nil {
		return Contact{}, false, err
	}
	return *added, true, a.notify(ctx, noticeLink, a.client, *added, map[string]any{"relationship": n.Relationship})
}

// resolve returns the id of the contact that n speaks of, and holds him. A
// person of whom the actor may not know is answered as one that does not exist.
func (a *act) resolve(ctx context.Context, n NewContact) (string, error) {
	switch {
	case n.Person != nil:
		if n.Relationship == authz.RelationshipSelf {
			return "", linkRefused("/relationship", "self is for the client of another profile: name him as existing_client")
		}
		id := uuid.NewString()
		if _, err := a.tx.Exec(ctx, insertPerson, id, a.practice, n.Person.Name, n.Person.Email); err != nil {
			return "", fmt.Errorf("add contact: %w", err)
		}
		return id, nil
	case n.ExistingClient != "":
		return a.resolveClient(ctx, n.ExistingClient)
	}
	var person string
	err := a.tx.QueryRow(ctx, holdPerson, a.practice, n.ExistingContact).Scan(&person)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("add contact: %w", err)
	}
	known := false
	if err == nil {
		if known, err = a.knowsContact(ctx, n.ExistingContact); err != nil {
			return "", err
		}
	}
	switch {
	case !known:
		return "", linkRefused("/existing_contact", "is no contact that can be linked")
	case person == a.client:
		return "", linkRefused("/existing_contact", "is the client himself")
	case person == "" && n.Relationship == authz.RelationshipSelf:
		return "", linkRefused("/relationship", "self is for the client of another profile: name him as existing_client")
	}
	return n.ExistingContact, nil
}

func (a *act) resolveClient(ctx context.Context, other string) (string, error) {
	if other == a.client {
		return "", linkRefused("/existing_client", "is the client himself")
	}
	known, err := a.searches(ctx)
	if err == nil && !known {
		known, err = a.may(ctx, authz.ActionClientList, other)
	}
	if err != nil {
		return "", err
	}
	if a.clients[other] == nil || !known {
		return "", linkRefused("/existing_client", "is no client that can be linked")
	}
	if _, err := a.tx.Exec(ctx, insertClientPerson, uuid.NewString(), a.practice, other); err != nil {
		return "", fmt.Errorf("add contact: %w", err)
	}
	var id string
	if err := a.tx.QueryRow(ctx, holdClientPerson, a.practice, other).Scan(&id); err != nil {
		return "", fmt.Errorf("add contact: %w", err)
	}
	return id, nil
}

// searches reports whether the actor may search all contacts of the practice.
func (a *act) searches(ctx context.Context) (bool, error) {
	v, err := a.ask(ctx, actionSearch, "")
	return v.Exact.Allow, err
}

// knowsContact reports whether the actor may know of a contact: he searches the
// whole practice, or sees the contacts of one of his clients (DOMAIN rule 152).
func (a *act) knowsContact(ctx context.Context, contact string) (bool, error) {
	if known, err := a.searches(ctx); err != nil || known {
		return known, err
	}
	rows, err := a.tx.Query(ctx, selectPersonsClients, a.practice, contact)
	if err != nil {
		return false, fmt.Errorf("clients of a contact: %w", err)
	}
	clients, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return false, fmt.Errorf("clients of a contact: %w", err)
	}
	for _, client := range clients {
		if known, err := a.may(ctx, actionDemographics, client); err != nil || known {
			return known, err
		}
	}
	return false, nil
}
