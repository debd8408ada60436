package control

import (
	"net/http"
	"time"

	"chartgate/internal/profiles"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

func listContacts(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	contacts, err := v.profiles.Contacts(v.ctx, v.actor, v.practice, client)
	if err != nil {
		return err
	}
	return v.c.JSON(fiber.Map{"contacts": contacts})
}

// addContact answers 201 to a new link and 200 to one that was there.
func addContact(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	var body struct {
		ExistingClient  *string `json:"existing_client,omitempty"`
		ExistingContact *string `json:"existing_contact,omitempty"`
		Person          *struct {
			Name  string  `json:"name"`
			Email *string `json:"email,omitempty"`
		} `json:"person,omitempty"`
		Relationship string `json:"relationship"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	n := profiles.NewContact{ExistingClient: text(body.ExistingClient), ExistingContact: text(body.ExistingContact), Relationship: body.Relationship}
	if body.Person != nil {
		n.Person = &profiles.Person{Name: body.Person.Name, Email: text(body.Person.Email)}
	}
	contact, created, err := v.profiles.AddContact(v.ctx, v.actor, v.practice, client, n)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		v.c.Set(fiber.HeaderLocation, v.path("clients", client, "contacts", contact.ID))
	}
	return v.changed(status, contact)
}

// contact returns the parts of the path that name a contact of a client.
func (v *visit) contact() (client, contact string, err error) {
	if client, err = v.id("client"); err != nil {
		return "", "", err
	}
	contact, err = v.id("contact")
	return client, contact, err
}

func unlinkContact(v *visit) error {
	client, contact, err := v.contact()
	if err != nil {
		return err
	}
	if err := v.profiles.Unlink(v.ctx, v.actor, v.practice, client, contact); err != nil {
		return err
	}
	return v.taken()
}

func inviteContact(v *visit) error {
	client, contact, err := v.contact()
	if err != nil {
		return err
	}
	i, err := v.profiles.Invite(v.ctx, v.actor, v.practice, client, contact)
	if err != nil {
		return err
	}
	return v.changed(http.StatusCreated, struct {
		Code      string    `json:"code"`
		ExpiresAt time.Time `json:"expires_at"`
	}{i.Code, i.ExpiresAt})
}

func permitContact(v *visit) error {
	client, contact, err := v.contact()
	if err != nil {
		return err
	}
	var body struct {
		Enabled     bool     `json:"enabled"`
		Permissions []string `json:"permissions"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	after, err := v.profiles.Permit(v.ctx, v.actor, v.practice, client, contact, body.Enabled, body.Permissions)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, after)
}

// features reads and answers a list of portal features.
type features struct {
	Features []string `json:"features"`
}

func narrowFeatures(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	var body features
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	left, err := v.profiles.Narrow(v.ctx, v.actor, v.practice, client, body.Features)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, features{left})
}

func showPortalSettings(v *visit) error {
	offered, err := v.profiles.Features(v.ctx, v.actor, v.practice)
	if err != nil {
		return err
	}
	return v.c.JSON(features{offered})
}

func savePortalSettings(v *visit) error {
	var body features
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	offered, err := v.profiles.SetFeatures(v.ctx, v.actor, v.practice, body.Features)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, features{offered})
}

// foundView is somebody whom a search found: with id he can be named as
// existing_contact, with client as existing_client.
type foundView struct {
	ID     string `json:"id,omitempty"`
	Client string `json:"client,omitempty"`
	Name   string `json:"name"`
	Label  string `json:"label,omitempty"`
}

func searchContacts(v *visit) error {
	found, more, err := v.profiles.Search(v.ctx, v.actor, v.practice, web.Copy(v.c.Query("search")))
	if err != nil {
		return err
	}
	body := struct {
		Contacts []foundView `json:"contacts"`
		More     bool        `json:"more,omitempty"`
	}{make([]foundView, len(found)), more}
	for i, f := range found {
		body.Contacts[i] = foundView{ID: f.Contact, Client: f.Client, Name: f.Name, Label: f.Label}
	}
	return v.c.JSON(body)
}
