package control

import (
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"chartgate/internal/authz"
	"chartgate/internal/profiles"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// clientView is a client as callers see one; what takes demographics.read is
// left out for who has it not.
type clientView struct {
	ID        string `json:"id"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Label     string `json:"label"`
	Status    string `json:"status"`
	Email     string `json:"email,omitempty"`
	Assigned  string `json:"assigned,omitempty"`
	Primary   string `json:"primary,omitempty"`
}

func viewClient(c profiles.Client) clientView {
	view := clientView{ID: c.ID, FirstName: c.FirstName, LastName: c.LastName, Label: c.Label, Status: c.Status}
	if d := c.Details; d != nil {
		view.Email, view.Assigned, view.Primary = d.Email, d.Assigned, d.Primary
	}
	return view
}

func listClients(v *visit) error {
	limit, err := v.limit()
	if err != nil {
		return err
	}
	v.asked.reads = true
	clients, next, err := v.profiles.Clients(v.ctx, v.actor, v.practice, web.Copy(v.c.Query("cursor")), limit)
	if err != nil {
		return err
	}
	body := struct {
		Clients []clientView `json:"clients"`
		Next    string       `json:"next,omitempty"`
	}{make([]clientView, len(clients)), next}
	for i, c := range clients {
		body.Clients[i] = viewClient(c)
	}
	return v.c.JSON(body)
}

// limit is how many entries the caller wants on a page.
func (v *visit) limit() (int, error) {
	text := v.c.Query("limit")
	if text == "" {
		return profiles.DefaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > profiles.MaxPage {
		return 0, &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "limit must be a whole number from 1 to " + strconv.Itoa(profiles.MaxPage)}
	}
	return n, nil
}

// text is a member that may be left out or null, which say the same.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func createClient(v *visit) error {
	var body struct {
		ID        *string `json:"id,omitempty"`
		FirstName string  `json:"first_name"`
		LastName  string  `json:"last_name"`
		Email     *string `json:"email,omitempty"`
		Label     *string `json:"label,omitempty"`
		Assigned  *string `json:"assigned,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	for pointer, id := range map[string]*string{"/id": body.ID, "/assigned": body.Assigned} {
		if id != nil && *id == "" {
			return web.Malformed(pointer[1:]+" must not be empty", pointer, "must not be empty")
		}
	}
	c, err := v.profiles.Create(v.ctx, v.actor, v.practice, profiles.NewClient{ID: text(body.ID), FirstName: body.FirstName, LastName: body.LastName,
		Label: text(body.Label), Email: text(body.Email), Assigned: text(body.Assigned)})
	if err != nil {
		return err
	}
	v.c.Set(fiber.HeaderLocation, v.path("clients", c.ID))
	return v.changed(http.StatusCreated, viewClient(c))
}

func showClient(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	c, err := v.profiles.Client(v.ctx, v.actor, v.practice, client)
	if err != nil {
		return err
	}
	return v.c.JSON(viewClient(c))
}

// changeClient: a member that is left out stays; an e-mail of null is taken away.
func changeClient(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	var body struct {
		FirstName *string `json:"first_name,omitempty"`
		LastName  *string `json:"last_name,omitempty"`
		Label     *string `json:"label,omitempty"`
		Email     any     `json:"email,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	change := profiles.ClientChange{FirstName: body.FirstName, LastName: body.LastName, Label: body.Label}
	members, err := web.StrictObject(v.c.BodyRaw())
	if err != nil {
		return err
	}
	if said, ok := members["email"]; ok {
		email, isText := said.(string)
		if said != nil && !isText {
			return web.Malformed("email must be a string or null", "/email", "must be a string or null")
		}
		email = strings.Clone(email)
		change.Email = &email
	}
	c, err := v.profiles.Change(v.ctx, v.actor, v.practice, client, change)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, viewClient(c))
}

func deleteClient(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	if err := v.profiles.Delete(v.ctx, v.actor, v.practice, client); err != nil {
		return err
	}
	return v.taken()
}

func archiveClient(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	c, err := v.profiles.Archive(v.ctx, v.actor, v.practice, client)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, viewClient(c))
}

func reactivateClient(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	var body struct {
		Confirm bool `json:"confirm"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	c, err := v.profiles.Reactivate(v.ctx, v.actor, v.practice, client, body.Confirm)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, viewClient(c))
}

// mergeClient reads no body: whatever is to be merged, it is not.
func mergeClient(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	return v.profiles.Merge(v.ctx, v.actor, v.practice, client)
}

// maxKey is the length of the longest Idempotency-Key, in bytes.
const maxKey = 255

func createSecondProfile(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	key := web.Copy(v.c.Get("Idempotency-Key"))
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl) {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed",
			Detail: "header Idempotency-Key must name this call, in 1 to 255 bytes: the same key again goes on where the call ended"}
	}
	var body struct {
		Practitioner string   `json:"practitioner"`
		Label        string   `json:"label"`
		Manage       bool     `json:"manage,omitempty"`
		Permissions  []string `json:"permissions,omitempty"`
		Invite       bool     `json:"invite,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	wanted := profiles.SecondProfile{Practitioner: body.Practitioner, Label: body.Label, Manage: body.Manage, Permissions: body.Permissions, Invite: body.Invite}
	w, err := v.profiles.CreateSecond(v.ctx, v.actor, v.practice, client, wanted, profiles.Key{Caller: web.CallerOf(v.c).ID, Key: key})
	if err != nil {
		return err
	}
	v.c.Set(fiber.HeaderLocation, v.path("clients", w.Profile.ID))
	return v.changed(http.StatusCreated, struct {
		Profile     clientView       `json:"profile"`
		Contact     profiles.Contact `json:"contact"`
		Steps       []profiles.Step  `json:"steps"`
		Correlation string           `json:"correlation"`
	}{viewClient(w.Profile), w.Contact, w.Steps, w.Correlation})
}
