package profiles

import (
	"context"
	"fmt"
	"slices"

	"chartgate/internal/authz"

	"github.com/google/uuid"
)

// Actions on clients (DESIGN 11).
const (
	actionCreate       = "client.create"
	actionArchive      = "client.archive"
	actionMerge        = "client.merge"
	actionReassign     = "client.reassign"
	actionDemographics = "demographics.read"
	actionWrite        = "demographics.write"
	actionDelete       = "client.delete" // on record only: whoever may archive may
)

// Client is a client profile as one member sees it.
type Client struct {
	ID        string   `json:"id"`
	FirstName string   `json:"first_name"`
	LastName  string   `json:"last_name"`
	Label     string   `json:"label"`
	Status    string   `json:"status"`
	Details   *Details `json:"details,omitempty"` // nil without demographics.read
}

// Details are the part of a client that takes demographics.read. What is not
// there is "".
type Details struct {
	Email    string `json:"email,omitempty"`
	Assigned string `json:"assigned,omitempty"`
	Primary  string `json:"primary,omitempty"` // the primary profile that this one is linked to
}

// NewClient is a client to be created. First and last name are enough.
type NewClient struct {
	ID        string // "": one is made up
	FirstName string
	LastName  string
	Label     string
	Email     string
	Assigned  string
}

func (n NewClient) check() error {
	if n.ID != "" {
		if err := checkID("/id", n.ID); err != nil {
			return err
		}
	}
	if n.Assigned != "" {
		if err := checkID("/assigned", n.Assigned); err != nil {
			return err
		}
	}
	for _, err := range []error{checkName("/first_name", n.FirstName), checkName("/last_name", n.LastName),
		checkLabel("/label", n.Label), checkEmail("/email", n.Email)} {
		if err != nil {
			return err
		}
	}
	return nil
}

// Create makes a client. A practitioner's new client is assigned to himself;
// only an administrator assigns one to another.
func (s *Service) Create(ctx context.Context, actor authz.Subject, practice string, n NewClient) (Client, error) {
	if err := n.check(); err != nil {
		return Client{}, err
	}
	if n.ID == "" {
		n.ID = uuid.NewString()
	}
	var shown Client
	c := call{actor: actor, action: actionCreate, practice: practice, members: []string{n.Assigned}}
	err := s.do(ctx, c, func(a *act) error {
		assigned, err := a.assignedTo(n.Assigned)
		if err != nil {
			return err
		}
		n.Assigned = assigned
		if err := a.insertClient(ctx, n); err != nil {
			return err
		}
		shown, err = a.view(ctx, n.ID)
		return err
	})
	if broken(err) == constraintEmail {
		return Client{}, s.emailRefused(ctx, actor, practice, "")
	}
	return shown, err
}

// assignedTo says whom a new client is assigned to, where wanted is asked for.
func (a *act) assignedTo(wanted string) (string, error) {
	bases := a.verdict.Exact.Bases
	if wanted == "" {
		if slices.Contains(bases, "practitioner") {
			return a.actor.ID, nil
		}
		return "", nil
	}
	if !slices.Contains(bases, "administrator") && wanted != a.actor.ID {
		return "", notAllowed("only an administrator assigns a new client to another practitioner")
	}
	if m, ok := a.people[wanted]; !ok || !m.assignable() {
		return "", refused("grantee-not-eligible", "/assigned", "is no active practitioner of the practice")
	}
	return wanted, nil
}

// insertClient writes a new client and its record. An address that is taken is
// left to the caller, since the transaction is lost.
func (a *act) insertClient(ctx context.Context, n NewClient) error {
	_, err := a.tx.Exec(ctx, insertClient, n.ID, a.practice, n.Assigned, n.FirstName, n.LastName, n.Label, n.Email)
	switch {
	case broken(err) == constraintClientID:
		return &authz.Problem{Kind: authz.ErrConflict, Type: "id-refused", Detail: "this id cannot be used",
			Fields: []authz.Field{{Pointer: "/id", Detail: "cannot be used"}}}
	case err != nil:
		return fmt.Errorf("create client: %w", err)
	}
	if err := a.readClients(ctx, []string{n.ID}); err != nil {
		return fmt.Errorf("create client: %w", err)
	}
	after := map[string]any{"status": authz.ClientActive}
	if n.Assigned != "" {
		after["assigned"] = n.Assigned
	}
	return a.record(ctx, change{action: actionCreate, client: n.ID, target: n.Assigned, after: after})
}

// view is a locked client as the actor sees it.
func (a *act) view(ctx context.Context, id string) (Client, error) {
	may, err := a.may(ctx, actionDemographics, id)
	return a.clients[id].shown(err == nil && may), err
}

// shown is the client with or without what takes demographics.read.
func (c *client) shown(detailed bool) Client {
	shown := Client{ID: c.id, FirstName: c.firstName, LastName: c.lastName, Label: c.label, Status: c.status}
	if detailed {
		shown.Details = &Details{Email: c.email, Assigned: c.assigned}
		if c.secondary() {
			shown.Details.Primary = c.primary
		}
	}
	return shown
}

// Client returns one client.
func (s *Service) Client(ctx context.Context, actor authz.Subject, practice, client string) (Client, error) {
	var shown Client
	err := s.do(ctx, call{actor: actor, action: authz.ActionClientList, practice: practice, client: client}, func(a *act) error {
		var err error
		shown, err = a.view(ctx, client)
		return err
	})
	return shown, err
}

// ClientChange is what is to become different about a client; nil stays. An
// empty e-mail takes it away.
type ClientChange struct {
	FirstName, LastName, Label, Email *string
}

// over lays the change over c and names what differs.
func (cc ClientChange) over(c *client) (client, []string) {
	after, changed := *c, []string{}
	for _, field := range []struct {
		name string
		to   *string
		at   *string
	}{{"first_name", cc.FirstName, &after.firstName}, {"last_name", cc.LastName, &after.lastName}, {"label", cc.Label, &after.label}, {"email", cc.Email, &after.email}} {
		if field.to != nil && *field.to != *field.at {
			*field.at = *field.to
			changed = append(changed, field.name)
		}
	}
	return after, changed
}

// Change changes name, label and e-mail of a client. A profile that is linked
// to another has no e-mail, and one that others are linked to keeps one.
func (s *Service) Change(ctx context.Context, actor authz.Subject, practice, id string, cc ClientChange) (Client, error) {
	empty := &client{firstName: "x", lastName: "x"}
	wanted, _ := cc.over(empty)
	n := NewClient{FirstName: wanted.firstName, LastName: wanted.lastName, Label: wanted.label, Email: wanted.email}
	if err := n.check(); err != nil {
		return Client{}, err
	}
	var shown Client
	c := call{actor: actor, action: actionWrite, practice: practice, client: id, changing: true}
	err := s.do(ctx, c, func(a *act) error {
		after, changed := cc.over(a.clients[id])
		if len(changed) > 0 {
			_, err := a.tx.Exec(ctx, updateClient, practice, id, after.firstName, after.lastName, after.label, after.email)
			switch {
			case broken(err) == constraintStarMail && a.clients[id].secondary():
				return conflict("email-refused", "a profile that is linked to another one of the same person has no e-mail of its own")
			case broken(err) == constraintStarMail:
				return conflict("has-linked-profiles", "other profiles of this person rest on this e-mail: unlink them first")
			case err != nil:
				return fmt.Errorf("change client: %w", err)
			}
			if err := a.readClients(ctx, []string{id}); err != nil {
				return fmt.Errorf("change client: %w", err)
			}
			// What was changed, and not to what: names and addresses stay out of the record.
			if err := a.record(ctx, change{client: id, after: map[string]any{"changed": changed}}); err != nil {
				return err
			}
		}
		var err error
		shown, err = a.view(ctx, id)
		return err
	})
	if broken(err) == constraintEmail {
		return Client{}, s.emailRefused(ctx, actor, practice, id)
	}
	return shown, err
}

// Archive archives a client: its chart becomes read-only and its portal is
// suspended; what its linked profiles have stays (DOMAIN rules 64, 65, 149).
func (s *Service) Archive(ctx context.Context, actor authz.Subject, practice, client string) (Client, error) {
	return s.setStatus(ctx, actor, practice, client, authz.ClientArchived)
}

// Reactivate takes a client out of the archive; earlier portal permissions
// apply again, which whoever asks must have confirmed (DOMAIN rule 65).
func (s *Service) Reactivate(ctx context.Context, actor authz.Subject, practice, client string, confirmed bool) (Client, error) {
	if !confirmed {
		return Client{}, malformed("/confirm", "must be true: grants and portal permissions from before the archive apply again")
	}
	return s.setStatus(ctx, actor, practice, client, authz.ClientActive)
}

func (s *Service) setStatus(ctx context.Context, actor authz.Subject, practice, id, status string) (Client, error) {
	var shown Client
	c := call{actor: actor, action: actionArchive, practice: practice, client: id, changing: true}
	err := s.do(ctx, c, func(a *act) error {
		if before := a.clients[id].status; before != status {
			if _, err := a.tx.Exec(ctx, updateStatus, practice, id, status); err != nil {
				return fmt.Errorf("archive client: %w", err)
			}
			a.clients[id].status = status
			err := a.record(ctx, change{client: id, before: map[string]any{"status": before}, after: map[string]any{"status": status}})
			if err != nil {
				return err
			}
		}
		var err error
		shown, err = a.view(ctx, id)
		return err
	})
	return shown, err
}

// uses are the actions that leave something of a client behind, here or with
// the service that asked.
var uses = []string{
	"chart.open", "diagnosis.read", "billing.read", "billing.manage", "appointment.read", "appointment.manage", "message.send",
	"note.read", "note.write", "note.cosign", "document.read", "document.send",
	"portal.appointments.view", "portal.appointments.request", "portal.appointments.cancel", "portal.information.manage",
	"portal.demographics.manage", "portal.legal_sex.manage", "portal.documents.upload", "portal.documents.view", "portal.documents.complete",
	"portal.messages.send",
}

// Delete removes a client that was created by mistake: nothing is linked to it,
// no grant on it was ever given, and nobody was let use it (DOMAIN rule 149).
func (s *Service) Delete(ctx context.Context, actor authz.Subject, practice, client string) error {
	c := call{actor: actor, action: actionArchive, practice: practice, client: client, changing: true}
	return s.do(ctx, c, func(a *act) error {
		var linked, granted, used bool
		if err := a.tx.QueryRow(ctx, selectHindrances, practice, client, uses).Scan(&linked, &granted, &used); err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		switch {
		case linked:
			return conflict("has-linked-profiles", "other profiles are linked to this one: unlink them, or archive it")
		case granted:
			return conflict("has-records", "a grant on this client was given: archive it instead")
		case used:
			return conflict("has-records", "this client has records: archive it instead")
		}
		if _, err := a.tx.Exec(ctx, deletePerson, practice, client); err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		if _, err := a.tx.Exec(ctx, deleteClient, practice, client); err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		return a.record(ctx, change{action: actionDelete, client: client, before: map[string]any{"status": a.clients[client].status}})
	})
}

// Merge refuses, whoever asks: each profile keeps its own documentation,
// billing, claims and portal (DOMAIN rule 148).
func (s *Service) Merge(ctx context.Context, actor authz.Subject, practice, client string) error {
	return s.do(ctx, call{actor: actor, action: authz.ActionClientList, practice: practice, client: client}, func(a *act) error {
		if _, err := a.ask(ctx, actionMerge, client); err != nil {
			return err
		}
		return conflict("profiles-stay-separate",
			"profiles are never merged: each keeps its own documentation, billing, claims and portal, which no merge could take back; link them instead")
	})
}
