package web

import (
	"errors"
	"net/http"
	"strings"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// Failure is an error as a caller may see it. A family of routes puts it in
// its own form (ErrorWriter).
type Failure struct {
	Status int
	Type   string // last part of the problem type (DESIGN 11, Errors)
	Title  string
	Detail string
	Fields []authz.Field
	Extra  map[string]any
}

// statuses is the one table from the five errors to a status, with the type
// and the sentence for an error that brings none of its own.
var statuses = []struct {
	kind   error
	status int
	typ    string
	detail string
}{
	{authz.ErrMalformed, http.StatusBadRequest, "malformed", "the request cannot be read"},
	{authz.ErrNotAllowed, http.StatusForbidden, "not-allowed", "the policy does not allow this"},
	{authz.ErrNotFound, http.StatusNotFound, "not-found", notFound},
	{authz.ErrConflict, http.StatusConflict, "conflict", "the request conflicts with what is there"},
	{authz.ErrUnavailable, http.StatusServiceUnavailable, "cannot-decide", unavailable},
}

const (
	notFound    = "it does not exist, or this caller may not see it"
	unavailable = "a part that is needed is down; try again"
)

// TypeBusy is the type of the error Busy.
const TypeBusy = "busy"

// Busy is a request that was not tried, since too much is under way. It is no
// fault, and none that the log has to tell of each time.
func Busy(detail string) error {
	return &authz.Problem{Kind: authz.ErrUnavailable, Type: TypeBusy, Detail: detail}
}

// titles are the short names of the problem types, for people.
var titles = map[string]string{
	"malformed":              "The request cannot be read",
	"actor-missing":          "The request does not say who acts",
	"bad-cursor":             "The cursor is not one of this list",
	"no-caller":              "The caller is not known",
	"not-allowed":            "Not allowed",
	"not-found":              "Not found",
	"method-not-allowed":     "The method is not allowed here",
	"too-large":              "The request is too large",
	"conflict":               "Conflicts with what is there",
	"profiles-stay-separate": "Profiles of one person stay separate",
	"email-refused":          "The e-mail address cannot be used",
	"id-refused":             "The id cannot be used",
	"successors-missing":     "Clients would be left without a practitioner",
	"owner-stays":            "The owner cannot be removed",
	"last-administrator":     "The last administrator cannot be removed",
	"has-linked-profiles":    "The profile has linked profiles",
	"has-records":            "The client has records",
	"assigned-meanwhile":     "The profile was assigned meanwhile",
	"grant-overlaps":         "The member has a grant at that time",
	"changed-meanwhile":      "It was changed meanwhile",
	"grantee-not-eligible":   "The member cannot be given a grant",
	"redundant":              "The grant would add nothing",
	"reason-missing":         "A reason is missing",
	"end-missing":            "An end is missing",
	"end-refused":            "The end is refused",
	"link-refused":           "The profiles cannot be linked",
	"key-reused":             "The idempotency key was used for another request",
	"if-match-missing":       "If-Match is missing",
	"cannot-decide":          "Cannot decide",
	TypeBusy:                 "Too much is under way",
	"release-state":          "The release is in another state",
	"evidence-stale":         "What was found is about another policy",
	"release-refused":        "The release is refused",
	"nobody-could-manage":    "Nobody could manage access any more",
	"no-way-back":            "There would be no way back",
	"no-signing-key":         "There is no key to sign with",
	"candidate-there":        "Another release is on its way",
	"no-candidate":           "The release is no candidate",
	"sidecars-refuse":        "Sidecars refuse the release",
	"sidecars-not-ready":     "Sidecars are not ready",
	"too-many-drafts":        "There are too many drafts",
	"too-many-steps":         "Too many steps run",
	"too-many-sidecars":      "There are too many sidecars",
}

// Describe says what a caller may see of an error. Whatever does not exist or
// may not be seen looks the same, whoever made the error (promise P8), and an
// error that is none of the five is one of a part that failed.
func Describe(err error) Failure {
	var framework *fiber.Error
	if errors.As(err, &framework) {
		return describeFramework(framework)
	}
	f := Failure{Status: http.StatusServiceUnavailable, Type: "cannot-decide", Detail: unavailable}
	for _, row := range statuses {
		if errors.Is(err, row.kind) {
			f = Failure{Status: row.status, Type: row.typ, Detail: row.detail}
			break
		}
	}
	var p *authz.Problem
	if errors.As(err, &p) && !errors.Is(err, authz.ErrNotFound) {
		f.Fields, f.Extra = p.Fields, p.Extra
		if p.Type != "" {
			f.Type = p.Type
		}
		if p.Status != 0 {
			f.Status = p.Status
		}
		if p.Detail != "" {
			f.Detail = p.Detail
		}
	}
	f.Title = title(f)
	return f
}

// describeFramework is Describe for what Fiber and fasthttp refuse themselves.
func describeFramework(err *fiber.Error) Failure {
	f := Failure{Status: err.Code, Type: "malformed", Detail: "the request cannot be read"}
	switch err.Code {
	case http.StatusNotFound:
		f.Type, f.Detail = "not-found", notFound
	case http.StatusMethodNotAllowed:
		f.Type, f.Detail = "method-not-allowed", "this route does not take that method; header Allow names those it takes"
	case http.StatusRequestEntityTooLarge:
		f.Type, f.Detail = "too-large", "the body is larger than this route takes"
	case http.StatusRequestHeaderFieldsTooLarge:
		f.Type, f.Detail = "too-large", "the headers are larger than this server takes"
	case http.StatusRequestTimeout:
		f.Detail = "the request did not arrive in time"
	default:
		if err.Code >= http.StatusInternalServerError {
			f.Type, f.Detail = "cannot-decide", unavailable
		}
	}
	f.Title = title(f)
	return f
}

func title(f Failure) string {
	if t, ok := titles[f.Type]; ok {
		return t
	}
	return strings.ReplaceAll(f.Type, "-", " ")
}
