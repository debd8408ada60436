package control

import (
	"net/http"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/grants"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// grantView is a grant as callers see one. What it has not is left out.
type grantView struct {
	ID        string `json:"id"`
	User      string `json:"user,omitempty"`
	Scope     string `json:"scope"`
	NotBefore string `json:"not_before"`
	ExpiresAt string `json:"expires_at,omitempty"`
	Reason    string `json:"reason,omitempty"`
	GrantedBy string `json:"granted_by"`
	GrantedAt string `json:"granted_at"`
}

func viewGrant(g grants.Grant) *grantView {
	view := &grantView{ID: g.ID, User: g.User, Scope: g.Scope, NotBefore: authz.FormatTime(g.NotBefore),
		Reason: g.Reason, GrantedBy: g.GrantedBy, GrantedAt: authz.FormatTime(g.GrantedAt)}
	if g.ExpiresAt.Before(authz.NoEnd) {
		view.ExpiresAt = authz.FormatTime(g.ExpiresAt)
	}
	return view
}

// accessView is one member in Manage Access. Grant is the one in force, else
// the next to come; Later are those that come after it.
type accessView struct {
	User     string       `json:"user"`
	Name     string       `json:"name"`
	Roles    []string     `json:"roles"`
	Eligible bool         `json:"eligible"`
	Bases    []string     `json:"bases"`
	Grant    *grantView   `json:"grant,omitempty"`
	Later    []*grantView `json:"later,omitempty"`
}

// viewAccess returns the body of Manage Access and its tag.
func viewAccess(a grants.Access) (tag string, body []byte, err error) {
	members := make([]accessView, len(a.Members))
	for i, m := range a.Members {
		members[i] = accessView{User: m.User, Name: m.Name, Roles: m.Roles, Eligible: m.Eligible, Bases: m.Bases}
		for n, g := range m.Grants {
			view := viewGrant(g)
			view.User = "" // it stands with the member's own
			if n == 0 {
				members[i].Grant = view
			} else {
				members[i].Later = append(members[i].Later, view)
			}
		}
	}
	body, err = encode(fiber.Map{"members": members})
	return accessTag(a.Version, body), body, err
}

func showAccess(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	access, err := v.grants.Access(v.ctx, v.actor, v.practice, client)
	if err != nil {
		return err
	}
	tag, body, err := viewAccess(access)
	if err != nil {
		return err
	}
	return v.show(tag, body)
}

func saveAccess(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	seen, err := v.ifMatch()
	if err != nil {
		return err
	}
	var body struct {
		Grants []struct {
			User  string  `json:"user"`
			Scope *string `json:"scope,omitempty"`
			// No pointers: null could mean "as it is" and "none", so it is refused.
			NotBefore time.Time `json:"not_before,omitempty"`
			ExpiresAt time.Time `json:"expires_at,omitempty"`
			Reason    *string   `json:"reason,omitempty"`
		} `json:"grants"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	items := make([]grants.Terms, len(body.Grants))
	for i, g := range body.Grants {
		items[i] = grants.Terms{User: g.User, Scope: g.Scope, NotBefore: said(g.NotBefore), ExpiresAt: said(g.ExpiresAt), Reason: g.Reason}
	}
	access, err := v.grants.SaveAccess(v.ctx, v.actor, v.practice, client, items, func(version int64) bool {
		return seen.strong(func(tag string) bool { return versionOf(tag, version) })
	})
	if err != nil {
		return err
	}
	tag, text, err := viewAccess(access)
	if err != nil {
		return err
	}
	if _, err := v.settled(); err != nil {
		return err
	}
	return v.show(tag, text)
}

// said returns nil for a time that was not said.
func said(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func giveGrant(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	var body struct {
		User      string     `json:"user"`
		Scope     *string    `json:"scope,omitempty"`
		NotBefore *time.Time `json:"not_before,omitempty"`
		ExpiresAt *time.Time `json:"expires_at,omitempty"`
		Reason    *string    `json:"reason,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	g, created, err := v.grants.Give(v.ctx, v.actor, v.practice, client, grants.Terms(body))
	if err != nil {
		return err
	}
	if !created {
		return v.changed(http.StatusOK, viewGrant(g))
	}
	v.c.Set(fiber.HeaderLocation, v.path("clients", client, "grants", g.ID))
	return v.changed(http.StatusCreated, viewGrant(g))
}

func showGrant(v *visit) error {
	client, id, err := v.grantID()
	if err != nil {
		return err
	}
	g, err := v.grants.Grant(v.ctx, v.actor, v.practice, client, id)
	if err != nil {
		return err
	}
	return v.c.JSON(viewGrant(g))
}

func revokeGrant(v *visit) error {
	client, id, err := v.grantID()
	if err != nil {
		return err
	}
	if err := v.grants.Revoke(v.ctx, v.actor, v.practice, client, id, web.Copy(v.c.Query("reason"))); err != nil {
		return err
	}
	return v.taken()
}

func (v *visit) grantID() (client, id string, err error) {
	if client, err = v.id("client"); err != nil {
		return "", "", err
	}
	id, err = v.id("grant")
	return client, id, err
}

func assignPractitioner(v *visit) error {
	client, err := v.id("client")
	if err != nil {
		return err
	}
	var body struct {
		User   *string `json:"user"` // null for nobody
		Reason string  `json:"reason,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	user := ""
	if body.User != nil {
		if user = *body.User; user == "" {
			return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "user must be a user id, or null for nobody",
				Fields: []authz.Field{{Pointer: "/user", Detail: "must be a user id, or null for nobody"}}}
		}
	}
	if err := v.grants.Assign(v.ctx, v.actor, v.practice, client, user, body.Reason); err != nil {
		return err
	}
	return v.taken()
}
