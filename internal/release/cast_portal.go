package release

import (
	"fmt"
	"slices"

	"chartgate/internal/authz"
)

// portalSpec is what a portal login has on one client: as the client himself,
// or as a contact.
type portalSpec struct {
	Login        string   `yaml:"login"`
	Client       string   `yaml:"client"`
	Contact      string   `yaml:"contact"` // left out: the client himself
	Relationship string   `yaml:"relationship"`
	Enabled      *bool    `yaml:"enabled"` // left out: on
	Permissions  []string `yaml:"permissions"`
}

func (c *cast) checkPortal() error {
	for i := range c.Portal {
		p := &c.Portal[i]
		p.Contact = orElse(p.Contact, authz.ContactOwn)
		if _, ok := c.Clients[p.Client]; !ok {
			return fmt.Errorf("portal: there is no client %q", p.Client)
		}
		if p.Contact != authz.ContactOwn && !slices.Contains(authz.Relationships, p.Relationship) {
			return fmt.Errorf("portal: %s: there is no relationship %q", p.Login, p.Relationship)
		}
		if err := known("permission", p.Permissions, authz.PortalPermissions); err != nil {
			return fmt.Errorf("portal: %s: %w", p.Login, err)
		}
	}
	for id, p := range c.Practices {
		if p.Features == nil {
			p.Features = &authz.PortalFeatures
		}
		if err := known("feature", *p.Features, authz.PortalFeatures); err != nil {
			return fmt.Errorf("practices: %s: %w", id, err)
		}
		c.Practices[id] = p
	}
	for id, client := range c.Clients {
		if client.Features == nil {
			continue
		}
		if err := known("feature", *client.Features, authz.PortalFeatures); err != nil {
			return fmt.Errorf("clients: %s: %w", id, err)
		}
	}
	return nil
}

// known refuses a word that is none of the known ones: it would be denied, and
// the case hold, for the wrong reason.
func known(what string, words, all []string) error {
	for _, word := range words {
		if !slices.Contains(all, word) {
			return fmt.Errorf("there is no %s %q", what, word)
		}
	}
	return nil
}

func (c *cast) hasLogin(id string) bool {
	return slices.ContainsFunc(c.Portal, func(p portalSpec) bool { return p.Login == id })
}

// portal is what a login has on a client, with the features that are left.
func (c *cast) portal(login, client, practice string) *authz.Portal {
	for _, spec := range c.Portal {
		if spec.Login != login || spec.Client != client {
			continue
		}
		p := &authz.Portal{Contact: spec.Contact, Own: spec.Contact == authz.ContactOwn, Enabled: spec.Enabled == nil || *spec.Enabled,
			Relationship: spec.Relationship, Permissions: spec.Permissions}
		for _, feature := range *c.Practices[practice].Features {
			if left := c.Clients[client].Features; left == nil || slices.Contains(*left, feature) {
				p.Features = append(p.Features, feature)
			}
		}
		return p
	}
	return nil
}
