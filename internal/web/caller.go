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

// HeaderActor names the person that the holder of a static key acts for.
const HeaderActor = "Chartgate-Actor"

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

// Require lets only callers with this scope pass; others get 403 with
// insufficient_scope (RFC 6750, 3.1).
func Require(scope string) fiber.Handler {
	challenge := `Bearer realm="chartgate", error="insufficient_scope", scope="` + scope + `"`
	return func(c *fiber.Ctx) error {
		if !CallerOf(c).Has(scope) {
			c.Set(fiber.HeaderWWWAuthenticate, challenge)
			return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: "this caller does not have the scope " + scope}
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

// Copy makes a string of its own from one that Fiber handed out.
func Copy(s string) string { return strings.Clone(s) }
