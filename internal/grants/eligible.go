package grants

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"chartgate/internal/authz"
)

// eligible reports whether m can be given a grant: an active member with one of
// the practice's grantee roles (DOMAIN rules 32, 33; setting grantee_roles).
func eligible(m Member, s *authz.Settings) bool {
	return m.active() && slices.ContainsFunc(s.List("grantee_roles"), m.has)
}

// assignable reports whether m can be the assigned practitioner of a client
// (DOMAIN rule 56).
func assignable(m Member) bool { return m.active() && m.has(authz.RolePractitioner) }

// notEligible is the same for somebody unknown, of another practice, invited,
// removed, or without the role: it must not tell which (promise P8).
func notEligible(pointer string) error {
	return refused("grantee-not-eligible", pointer, "is no active member with a role that this needs")
}

// refused is a 422: the request is well formed, and a rule forbids it.
func refused(typ, pointer, detail string) error {
	return &authz.Problem{Kind: authz.ErrConflict, Type: typ, Status: 422, Detail: strings.TrimPrefix(pointer, "/") + " " + detail,
		Fields: []authz.Field{{Pointer: pointer, Detail: detail}}}
}

func malformed(pointer, detail string) error {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: strings.TrimPrefix(pointer, "/") + " " + detail,
		Fields: []authz.Field{{Pointer: pointer, Detail: detail}}}
}

// checkGrantee refuses to give a grant to who can not have one, or needs none
// (DOMAIN rules 32–34). at is the pointer of what names him.
func (a *act) checkGrantee(user, at string) error {
	m, ok := a.members[user]
	if !ok || !eligible(m, a.settings.Effective) {
		return notEligible(at + "/user")
	}
	if a.client.assigned == user {
		return refused("redundant", at+"/user", "is the assigned practitioner and needs no grant")
	}
	return nil
}

const day = 24 * time.Hour

// checkTerms refuses a new grant that the practice's settings forbid (DOMAIN
// rule 36), or that could never be in force.
func (a *act) checkTerms(g Grant, at string) error {
	s := a.settings.Effective
	switch limit := s.Number("grant_max_days"); {
	case !g.ExpiresAt.After(a.now):
		return refused("end-refused", at+"/expires_at", "lies in the past")
	case !g.ExpiresAt.After(g.NotBefore):
		return refused("end-refused", at+"/expires_at", "must be later than not_before")
	case g.endless() && (s.On("grant_requires_expiry") || limit > 0):
		return refused("end-missing", at+"/expires_at", "is needed: this practice gives no grant without an end")
	case limit > 0 && g.ExpiresAt.Sub(g.NotBefore) > time.Duration(limit)*day:
		return refused("end-refused", at+"/expires_at", fmt.Sprintf("is more than %d days after the start", limit))
	case s.On("grant_requires_reason") && strings.TrimSpace(g.Reason) == "":
		return refused("reason-missing", at+"/reason", "is needed: this practice gives no grant without a reason")
	}
	return nil
}

// The longest texts that are kept, in bytes.
const (
	maxName   = 200
	maxEmail  = 254
	maxReason = 2000
)

func (i Invitation) check() (roles []string, err error) {
	switch {
	case !authz.ValidID(i.User):
		return nil, malformed("/user", "must be 1 to 128 bytes of UTF-8 without control characters")
	case strings.TrimSpace(i.Name) == "" || len(i.Name) > maxName || !plain(i.Name):
		return nil, malformed("/name", fmt.Sprintf("must be a text of at most %d bytes without control characters, and not blank", maxName))
	case i.Email != "" && !looksLikeEmail(i.Email):
		return nil, malformed("/email", "must be an e-mail address")
	}
	return checkRoles(i.Roles)
}

// checkRoles refuses roles that do not exist, and returns the others in order.
func checkRoles(roles []string) ([]string, error) {
	for n, role := range roles {
		if !slices.Contains(authz.Roles, role) {
			return nil, malformed(fmt.Sprintf("/roles/%d", n), "must be one of "+strings.Join(authz.Roles, ", "))
		}
	}
	return inOrder(roles), nil
}

// inOrder returns roles without repetitions, in the order of authz.Roles, so
// that equal roles look equal.
func inOrder(roles []string) []string {
	ordered := make([]string, 0, len(roles))
	for _, role := range authz.Roles {
		if slices.Contains(roles, role) {
			ordered = append(ordered, role)
		}
	}
	return ordered
}

func checkReason(reason string) error { return checkReasonAt(reason, "") }

func checkReasonAt(reason, at string) error {
	if len(reason) > maxReason || !plain(reason) {
		return malformed(at+"/reason", fmt.Sprintf("must be a text of at most %d bytes without control characters", maxReason))
	}
	return nil
}

// plain reports whether s is UTF-8 without control characters but line breaks
// and tabs.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
	})
}

// looksLikeEmail asks only what any address has; whether it is one shows when
// it is written to.
func looksLikeEmail(s string) bool {
	at := strings.LastIndexByte(s, '@')
	return at > 0 && at < len(s)-1 && len(s) <= maxEmail && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}
