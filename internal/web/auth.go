package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// MinStaticKey is the length of the shortest static key, in bytes.
const MinStaticKey = 16

// StaticKey is the one key that stands in the configuration
// (CHARTGATE_API_KEY). Only its hash is kept.
type StaticKey struct {
	hash   [sha256.Size]byte
	caller Caller
}

// NewStaticKey makes a static key for a caller with these rights.
func NewStaticKey(key string, caller Caller) (*StaticKey, error) {
	if len(key) < MinStaticKey {
		return nil, fmt.Errorf("a static key must be at least %d characters long", MinStaticKey)
	}
	if strings.TrimSpace(key) != key || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("a static key must be printable ASCII without spaces, since it travels in a header")
	}
	caller.Static = true
	if caller.ID == "" {
		caller.ID = "static"
	}
	if caller.Person != "" && caller.SubjectType == "" {
		caller.SubjectType = authz.SubjectUser
	}
	return &StaticKey{hash: sha256.Sum256([]byte(key)), caller: caller}, nil
}

func (k *StaticKey) matches(token string) bool {
	hash := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(hash[:], k.hash[:]) == 1
}

// Authenticator finds out who calls, by "Authorization: Bearer". What is nil
// is not in use.
type Authenticator struct {
	Static *StaticKey
	Keys   *KeyStore
	JWT    *Verifier
}

// errUnknownCaller is the one answer to credentials that do not hold, whatever
// is wrong with them.
var errUnknownCaller = &authz.Problem{Kind: authz.ErrNotAllowed, Type: "no-caller", Status: http.StatusUnauthorized,
	Detail: "the credentials are not valid, or not valid any more"}

var errNoCaller = &authz.Problem{Kind: authz.ErrNotAllowed, Type: "no-caller", Status: http.StatusUnauthorized,
	Detail: "this route needs a key or a token in the header Authorization: Bearer"}

// Middleware lets only known callers pass. Others get 401 with
// WWW-Authenticate (RFC 6750); credentials that cannot be checked, because a
// part is down, are a 503.
func (a *Authenticator) Middleware() fiber.Handler {
	return func(c *fiber.Ctx) error {
		token, ok := bearer(c.Get(fiber.HeaderAuthorization))
		if !ok {
			c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="chartgate"`)
			return errNoCaller
		}
		caller, err := a.Identify(c.UserContext(), token)
		if err != nil {
			if errors.Is(err, errUnknownCaller) {
				c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="chartgate", error="invalid_token"`)
			}
			return err
		}
		c.Locals(callerKey{}, caller)
		return c.Next()
	}
}

// Identify returns the caller that a bearer token stands for.
func (a *Authenticator) Identify(ctx context.Context, token string) (*Caller, error) {
	switch {
	case a.Static != nil && a.Static.matches(token):
		return &a.Static.caller, nil
	case a.Keys != nil && strings.HasPrefix(token, keyPrefix):
		return a.Keys.Identify(ctx, token)
	case a.JWT != nil && strings.Count(token, ".") == 2:
		return a.JWT.Identify(ctx, token)
	}
	return nil, errUnknownCaller
}

// Recall is Identify from memory alone: nil where somebody would have to be
// asked, or something computed at length, and for callers that are not known.
// It keeps nothing of token.
func (a *Authenticator) Recall(token string) *Caller {
	switch {
	case a.Static != nil && a.Static.matches(token):
		return &a.Static.caller
	case a.Keys != nil && strings.HasPrefix(token, keyPrefix):
		return a.Keys.recall(token)
	}
	return nil
}

// bearer returns the token of an Authorization header. The scheme's letter
// case does not matter (RFC 9110, 11.1).
func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimLeft(token, " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}
