package web

import (
	"slices"
	"strings"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// Scopes that a caller can have (DESIGN 11, Callers).
const (
	ScopeAsk           = "ask"
	ScopeAdminister    = "administer"
	ScopeProfiles      = "profiles"
	ScopePortal        = "portal"
	ScopeRecords       = "records"
	ScopePolicyDraft   = "policy.draft"
	ScopePolicyApprove = "policy.approve"
	ScopeOperate       = "operate"
)

// Scopes lists every scope, in the order of DESIGN 11.
var Scopes = []string{
	ScopeAsk, ScopeAdminister, ScopeProfiles, ScopePortal, ScopeRecords, ScopePolicyDraft, ScopePolicyApprove, ScopeOperate,
}

// Headers that name the person whom the holder of a static key acts for: a
// user of staff, and on the portal's routes a portal login.
const (
	HeaderActor      = "Chartgate-Actor"
	HeaderPortalUser = "Chartgate-Portal-User"
)

// Caller is a service or a person whose credentials were checked. The zero
// Caller may do nothing.
type Caller struct {
	ID           string   // names it in logs and in idempotency: "static", "key:<id>" or "jwt:<client>"
	Scopes       []string // doors it may knock at
	Practices    []string // practices it is bound to
	AllPractices bool
	Person       string // the one person it acts for: a JWT's sub, or the user a key was made for; "" otherwise
	SubjectType  string // of Person: authz.SubjectUser or authz.SubjectPortal
	Static       bool   // a static key, not a JWT
}

// Has reports whether the caller has a scope.
func (c *Caller) Has(scope string) bool { return slices.Contains(c.Scopes, scope) }

// MayAskAbout reports whether the caller is bound to this practice or to all.
func (c *Caller) MayAskAbout(practice string) bool {
	return c.AllPractices || slices.Contains(c.Practices, practice)
}

type callerKey struct{}

// CallerOf returns who calls. On a route without Authenticator it is the zero
// Caller.
func CallerOf(c *fiber.Ctx) *Caller {
	if caller, ok := c.Locals(callerKey{}).(*Caller); ok {
		return caller
	}
	return &Caller{}
}

// Require lets only callers with one of these scopes pass; others get 403 with
// insufficient_scope (RFC 6750, 3.1).
func Require(scopes ...string) fiber.Handler {
	challenge := `Bearer realm="chartgate", error="insufficient_scope", scope="` + strings.Join(scopes, " ") + `"`
	return func(c *fiber.Ctx) error {
		if !slices.ContainsFunc(scopes, CallerOf(c).Has) {
			c.Set(fiber.HeaderWWWAuthenticate, challenge)
			return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: "this caller does not have the scope " + strings.Join(scopes, " or ")}
		}
		return c.Next()
	}
}

// RequirePractice returns an error unless the caller may ask about the
// practice. It is the same error as for a practice that does not exist
// (promise P8).
func RequirePractice(c *fiber.Ctx, practice string) error {
	if !CallerOf(c).MayAskAbout(practice) {
		return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	return nil
}

// ActorOf returns the person who acts: the JWT's sub, else the person that the
// key was made for, else whom the header Chartgate-Actor names (DESIGN 11,
// Callers). A JWT's caller cannot name another.
func ActorOf(c *fiber.Ctx) (authz.Subject, error) {
	caller := CallerOf(c)
	named := Copy(strings.TrimSpace(c.Get(HeaderActor)))
	switch {
	case caller.Person != "" && caller.Static && named != "" && named != caller.Person:
		return authz.Subject{}, &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed",
			Detail: "this key was made for one person; " + HeaderActor + " cannot name another"}
	case caller.Person != "":
		return authz.Subject{Type: caller.SubjectType, ID: caller.Person}, nil
	case !caller.Static || named == "":
		return authz.Subject{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "actor-missing",
			Detail: "header " + HeaderActor + " must name the user who acts"}
	case !authz.ValidID(named):
		return authz.Subject{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed",
			Detail: "header " + HeaderActor + " is not a user id: 1 to 128 bytes of UTF-8 without control characters"}
	}
	return authz.Subject{Type: authz.SubjectUser, ID: named}, nil
}

// PortalActorOf returns the portal login that acts: the JWT's sub, if the token
// says that it is one, else whom the header Chartgate-Portal-User names (DESIGN
// 11, Callers). Nobody of staff acts in the portal.
func PortalActorOf(c *fiber.Ctx) (authz.Subject, error) {
	caller := CallerOf(c)
	named := Copy(strings.TrimSpace(c.Get(HeaderPortalUser)))
	switch {
	case caller.Person != "" && caller.SubjectType == authz.SubjectPortal && (named == "" || named == caller.Person):
		return authz.Subject{Type: authz.SubjectPortal, ID: caller.Person}, nil
	case caller.Person != "":
		return authz.Subject{}, Forbidden("this caller acts for one person, who is not that portal login")
	case !caller.Static || named == "":
		return authz.Subject{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "actor-missing",
			Detail: "header " + HeaderPortalUser + " must name the portal login that acts"}
	case !authz.ValidID(named):
		return authz.Subject{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed",
			Detail: "header " + HeaderPortalUser + " is not an id: 1 to 128 bytes of UTF-8 without control characters"}
	}
	return authz.Subject{Type: authz.SubjectPortal, ID: named}, nil
}

// Copy makes a string of its own from one that Fiber handed out.
func Copy(s string) string { return strings.Clone(s) }
