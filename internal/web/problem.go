package web

import (
	"encoding/json"
	"maps"
	"strings"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// ProblemBase comes before the last part of every problem type. It names the
// types and is no address: the top-level domain is reserved (RFC 2606), so
// that a type means the same in every installation and nobody else can own it.
const ProblemBase = "https://chartgate.example/problems/"

// ErrorWriter puts a failure in the form of a family of routes: AuthZEN's plain
// message, OPA's JSON, problem+json. Status and headers of all families are
// set before; it writes the body and its content type.
type ErrorWriter func(c *fiber.Ctx, f Failure) error

// WriteProblem answers with problem+json (RFC 9457, DESIGN 11).
func WriteProblem(c *fiber.Ctx, f Failure) error {
	body := make(map[string]any, 6+len(f.Extra))
	maps.Copy(body, f.Extra)
	body["type"] = ProblemBase + f.Type
	body["title"] = f.Title
	body["status"] = f.Status
	body["detail"] = f.Detail
	body["instance"] = instance(c)
	if len(f.Fields) > 0 {
		body["errors"] = f.Fields
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return c.Send(text)
}

// instance is the path that was asked for, without its query: a query can
// hold what is searched for.
func instance(c *fiber.Ctx) string {
	path, _, _ := strings.Cut(c.OriginalURL(), "?")
	return Copy(path)
}

// Forbidden makes a problem for a caller who may not use a route.
func Forbidden(detail string) *authz.Problem {
	return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: detail}
}
