package control

import (
	"net/http"

	"chartgate/internal/authz"
	"chartgate/internal/grants"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// memberView is a member as callers see one.
type memberView struct {
	User               string   `json:"user"`
	Name               string   `json:"name"`
	Status             string   `json:"status"`
	Roles              []string `json:"roles"`
	Owner              bool     `json:"owner"`
	FullClinicalAccess bool     `json:"full_clinical_access"`
	BillingEnabled     bool     `json:"billing_enabled"`
}

func viewMember(m grants.Member) memberView {
	return memberView{User: m.User, Name: m.Name, Status: m.Status, Roles: m.Roles, Owner: m.Owner,
		FullClinicalAccess: m.FullClinicalAccess, BillingEnabled: m.BillingEnabled}
}

func listMembers(v *visit) error {
	members, err := v.grants.Members(v.ctx, v.actor, v.practice)
	if err != nil {
		return err
	}
	views := make([]memberView, len(members))
	for i, m := range members {
		views[i] = viewMember(m)
	}
	return v.c.JSON(fiber.Map{"members": views})
}

func showMember(v *visit) error {
	user, err := v.id("user")
	if err != nil {
		return err
	}
	m, err := v.grants.Member(v.ctx, v.actor, v.practice, user)
	if err != nil {
		return err
	}
	return v.c.JSON(viewMember(m))
}

func inviteMember(v *visit) error {
	var body struct {
		User  string   `json:"user"`
		Name  string   `json:"name"`
		Roles []string `json:"roles"`
		Email *string  `json:"email,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	invitation := grants.Invitation{User: body.User, Name: body.Name, Roles: body.Roles}
	if body.Email != nil {
		invitation.Email = *body.Email
	}
	m, err := v.grants.Invite(v.ctx, v.actor, v.practice, invitation)
	if err != nil {
		return err
	}
	v.c.Set(fiber.HeaderLocation, v.path("members", m.User))
	return v.changed(http.StatusCreated, viewMember(m))
}

func acceptInvitation(v *visit) error {
	user, err := v.id("user")
	if err != nil {
		return err
	}
	m, err := v.grants.Accept(v.ctx, v.actor, v.practice, user)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, viewMember(m))
}

func changeMember(v *visit) error {
	user, err := v.id("user")
	if err != nil {
		return err
	}
	var body struct {
		Roles          *[]string `json:"roles,omitempty"`
		BillingEnabled *bool     `json:"billing_enabled,omitempty"`
		Reason         string    `json:"reason,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	if body.Roles == nil && body.BillingEnabled == nil {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "the body must name roles, billing_enabled or both",
			Fields: []authz.Field{{Pointer: "/roles", Detail: "is missing, and so is billing_enabled"}}}
	}
	change := grants.MemberChange{BillingEnabled: body.BillingEnabled, Reason: body.Reason}
	if body.Roles != nil {
		change.Roles = *body.Roles
	}
	m, err := v.grants.ChangeMember(v.ctx, v.actor, v.practice, user, change)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, viewMember(m))
}

func setFullClinicalAccess(v *visit) error {
	user, err := v.id("user")
	if err != nil {
		return err
	}
	var body struct {
		Enabled bool   `json:"enabled"`
		Reason  string `json:"reason,omitempty"`
	}
	if err := web.Read(v.c, &body); err != nil {
		return err
	}
	m, err := v.grants.SetFullClinicalAccess(v.ctx, v.actor, v.practice, user, body.Enabled, body.Reason)
	if err != nil {
		return err
	}
	return v.changed(http.StatusOK, viewMember(m))
}

// removeMember takes no body from one who has no clients to hand over.
func removeMember(v *visit) error {
	user, err := v.id("user")
	if err != nil {
		return err
	}
	var body struct {
		Successors map[string]string `json:"successors,omitempty"`
		Reason     string            `json:"reason,omitempty"`
	}
	if len(v.c.BodyRaw()) > 0 {
		if err := web.Read(v.c, &body); err != nil {
			return err
		}
	}
	if err := v.grants.Remove(v.ctx, v.actor, v.practice, user, body.Successors, body.Reason); err != nil {
		return err
	}
	return v.taken()
}
