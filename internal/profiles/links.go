package profiles

import (
	"context"
	"errors"
	"fmt"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// join makes the client of the call a secondary profile of the person whose
// primary profile is person. Both are locked. Stars have one primary with the
// e-mail, so with the portal identity; the others point to it and have none
// (DOMAIN 5, rule 137). The constraints of profile_stars hold to the same.
func (a *act) join(ctx context.Context, person string) error {
	first, second := a.clients[person], a.clients[a.client]
	const at = "/existing_client"
	switch {
	case first == nil:
		return linkRefused(at, "is no client that can be linked")
	case first.secondary():
		return linkRefused(at, "is itself linked to another profile: link to the primary one")
	case first.email == "":
		return linkRefused(at, "has no e-mail, which the portal login rests on")
	case second.primary == second.id:
		return linkRefused(at, "cannot be the primary profile: other profiles are linked to this one")
	case second.primary != "":
		return linkRefused(at, "cannot be the primary profile: this one is linked to another already")
	case second.email != "":
		return linkRefused(at, "cannot be the primary profile while this one has an e-mail of its own: take it away first")
	}
	if _, err := a.tx.Exec(ctx, insertPrimary, a.practice, person); err != nil {
		return fmt.Errorf("link profiles: %w", err)
	}
	if _, err := a.tx.Exec(ctx, insertSecondary, a.practice, a.client, person); err != nil {
		return fmt.Errorf("link profiles: %w", err)
	}
	return a.readClients(ctx, []string{person, a.client})
}

// part undoes join. The former primary profile is free again when no other
// profile points to it.
func (a *act) part(ctx context.Context) error {
	primary := a.clients[a.client].primary
	if _, err := a.tx.Exec(ctx, deleteSecondary, a.practice, a.client); err != nil {
		return fmt.Errorf("unlink profiles: %w", err)
	}
	if _, err := a.tx.Exec(ctx, deletePrimary, a.practice, primary); err != nil {
		return fmt.Errorf("unlink profiles: %w", err)
	}
	return nil
}

// Unlink takes a contact off a client: his portal entry, his permissions and
// his invitations end with it; both charts stay (DOMAIN rule 147). Of the
// client himself it ends his own portal login. One who is not linked any more
// is not found.
func (s *Service) Unlink(ctx context.Context, actor authz.Subject, practice, client, contact string) error {
	relationship, person, err := s.linkOf(ctx, practice, client, contact)
	if err != nil {
		return err
	}
	c := call{actor: actor, action: actionContact, practice: practice, client: client, others: []string{person}, changing: true}
	if relationship == authz.RelationshipSelf {
		c.action = actionLinkSelf
	}
	return s.do(ctx, c, func(a *act) error {
		k, err := a.contact(ctx, client, contact)
		if err != nil {
			return err
		}
		if k == nil || k.Relationship != relationship {
			return notFound()
		}
		return a.unlink(ctx, *k)
	})
}

// linkOf looks up what a contact is to a client, so that the right action is
// asked and the right rows are locked. What is decided upon is read again.
func (s *Service) linkOf(ctx context.Context, practice, client, contact string) (relationship, person string, err error) {
	err = s.pool.QueryRow(ctx, selectRelationship, practice, client, contact).Scan(&relationship)
	if err == nil {
		err = s.pool.QueryRow(ctx, selectPerson, practice, contact).Scan(&person)
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", "", fmt.Errorf("look up contact: %w", err)
	}
	return relationship, person, nil
}

func (a *act) unlink(ctx context.Context, k Contact) error {
	if k.ID != authz.ContactOwn {
		// Whoever links him at the same time waits, and then finds him or not.
		if _, err := a.tx.Exec(ctx, claimPerson, a.practice, k.ID); err != nil {
			return fmt.Errorf("unlink contact: %w", err)
		}
	}
	if k.Relationship == authz.RelationshipSelf {
		if err := a.part(ctx); err != nil {
			return err
		}
	}
	if err := a.notify(ctx, noticeUnlink, a.client, k, nil); err != nil {
		return err
	}
	if _, err := a.tx.Exec(ctx, deleteAccess, a.practice, a.client, k.ID); err != nil {
		return fmt.Errorf("unlink contact: %w", err)
	}
	if k.ID != authz.ContactOwn {
		if _, err := a.tx.Exec(ctx, deleteOrphan, a.practice, k.ID); err != nil {
			return fmt.Errorf("unlink contact: %w", err)
		}
	}
	before := map[string]any{"contact": k.ID, "enabled": k.Portal.Enabled, "permissions": k.Portal.Permissions}
	if k.Relationship != "" {
		before["relationship"] = k.Relationship
	}
	return a.record(ctx, change{client: a.client, before: before})
}

// Found is somebody whom a search found: a client, or a contact who is none.
type Found struct {
	Client  string `json:"client,omitempty"`  // names him as existing_client
	Contact string `json:"contact,omitempty"` // names him as existing_contact
	Name    string `json:"name"`
	Label   string `json:"label,omitempty"` // tells clients of one name apart
}

// maxFound is how many a search shows at most, and searchChunk how many are
// looked at together.
const (
	maxFound    = 50
	searchChunk = 200
)

// Search returns clients and contacts by a part of name, label or e-mail. An
// administrator searches the whole practice; everybody else among those whom he
// may see already (DOMAIN rule 152). It reports whether there are more.
func (s *Service) Search(ctx context.Context, actor authz.Subject, practice, text string) ([]Found, bool, error) {
	if err := checkLabel("/search", text); err != nil {
		return nil, false, err
	}
	var (
		found []Found
		more  bool
	)
	err := s.inPractice(ctx, actor, practice, func(a *act) error {
		found, more = []Found{}, false
		everybody, err := a.searches(ctx)
		if err != nil {
			return err
		}
		name, id := "", ""
		for {
			chunk, err := a.searchChunk(ctx, text, name, id)
			if err != nil {
				return fmt.Errorf("search contacts: %w", err)
			}
			for _, f := range chunk {
				seen, err := a.sees(ctx, f, everybody)
				if err != nil {
					return err
				}
				if !seen {
					continue
				}
				if len(found) == maxFound {
					more = true
					return nil
				}
				found = append(found, f)
			}
			if len(chunk) < searchChunk {
				return nil
			}
			last := chunk[len(chunk)-1]
			name, id = last.Name, last.Client+last.Contact
		}
	})
	return found, more, err
}

func (a *act) searchChunk(ctx context.Context, text, name, id string) ([]Found, error) {
	rows, err := a.tx.Query(ctx, selectFound, a.practice, text, name, id, searchChunk)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Found, error) {
		var f Found
		var kind, id string
		err := row.Scan(&kind, &id, &f.Name, &f.Label)
		if kind == "client" {
			f.Client = id
		} else {
			f.Contact = id
		}
		return f, err
	})
}

// sees reports whether the actor may know of somebody who was found.
func (a *act) sees(ctx context.Context, f Found, everybody bool) (bool, error) {
	switch {
	case everybody:
		return true, nil
	case f.Client != "":
		return a.may(ctx, authz.ActionClientList, f.Client)
	}
	return a.knowsContact(ctx, f.Contact)
}
