package web

import (
	"strings"
	"testing"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// On the portal's routes a login acts, and nobody of staff.
func TestWhoActsInThePortal(t *testing.T) {
	for _, c := range []struct {
		caller Caller
		header string
		want   string // the login; else the problem
	}{
		{Caller{Static: true}, "portal-1", "portal-1"},
		{Caller{Static: true}, " portal-1 ", "portal-1"},
		{Caller{Static: true}, "", "actor-missing"},
		{Caller{Static: true}, strings.Repeat("x", authz.MaxID+1), "malformed"},
		{Caller{Static: true, Person: "admin-1", SubjectType: authz.SubjectUser}, "portal-1", "not-allowed"},
		{Caller{Person: "portal-1", SubjectType: authz.SubjectPortal}, "", "portal-1"},
		{Caller{Person: "portal-1", SubjectType: authz.SubjectPortal}, "portal-1", "portal-1"},
		{Caller{Person: "portal-1", SubjectType: authz.SubjectPortal}, "portal-2", "not-allowed"},
		{Caller{Person: "admin-1", SubjectType: authz.SubjectUser}, "", "not-allowed"},
		{Caller{}, "portal-1", "actor-missing"}, // a token without a person
	} {
		app, _ := newTestApp(t)
		app.Get("/x", func(ctx *fiber.Ctx) error {
			ctx.Locals(callerKey{}, &c.caller)
			actor, err := PortalActorOf(ctx)
			if err == nil && actor.Type != authz.SubjectPortal {
				t.Errorf("%+v acts as %s", c.caller, actor.Type)
			}
			if err != nil {
				return err
			}
			return ctx.SendString(actor.ID)
		})
		_, got := call(t, app, "GET", "/x", "", HeaderPortalUser, c.header)
		if got != c.want && !strings.Contains(got, "/problems/"+c.want) {
			t.Errorf("%+v with %q: %s, want %s", c.caller, c.header, got, c.want)
		}
	}
}
