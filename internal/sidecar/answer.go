package sidecar

import (
	"encoding/hex"
	"encoding/json"
	"iter"
	"strings"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
)

// Headers of an answer (DESIGN 11).
const (
	HeaderDecisionID     = "Chartgate-Decision-Id"
	HeaderPolicyRevision = "Chartgate-Policy-Revision"
	HeaderRevision       = "Chartgate-Revision"
	HeaderDegraded       = "Chartgate-Degraded"
)

// maxListedIDs is how many decisions of a batch the header names: more would
// be a header that clients refuse.
const maxListedIDs = 100

// answer is a decision as AuthZEN 5.5 writes it. It holds no id and no time, so
// that identical requests on identical facts have identical bodies.
type answer struct {
	Decision bool `json:"decision"`
	Context  any  `json:"context,omitempty"`
}

// reasons are the context of a decision (DESIGN 11), and with allow in front
// the document authz/decision of OPA's routes.
type reasons struct {
	Code        string   `json:"code"`
	Bases       []string `json:"bases"`
	ReasonAdmin sentence `json:"reason_admin"`
	ReasonUser  sentence `json:"reason_user"`
	ValidUntil  string   `json:"valid_until,omitempty"`
}

type sentence struct {
	En string `json:"en"`
}

type itemContext struct {
	Error *itemError `json:"error"`
}

type itemError struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// answerTo writes a verdict: of the shipped policy with its reasons, of a
// user's own bundle with the context that it gave.
func answerTo(v authz.Verdict) answer {
	if v.Input != nil {
		return ownAnswer(v)
	}
	return answer{Decision: v.Shown.Allow, Context: reasonsOf(v.Shown)}
}

func ownAnswer(v authz.Verdict) answer {
	a := answer{Decision: v.Shown.Allow}
	if v.Context != nil {
		a.Context = v.Context
	}
	return a
}

func reasonsOf(d authz.Decision) reasons {
	r := reasons{Code: d.Code, Bases: d.Bases, ReasonAdmin: sentence{d.ReasonAdmin}, ReasonUser: sentence{d.ReasonUser}}
	if r.Bases == nil {
		r.Bases = []string{}
	}
	if d.ValidUntil != nil {
		r.ValidUntil = authz.FormatTime(*d.ValidUntil)
	}
	return r
}

// setVerdictHeaders says which decision it was, by which release, on which facts.
func setVerdictHeaders(c *fiber.Ctx, v authz.Verdict) {
	c.Set(HeaderDecisionID, v.ID.String())
	setRevisions(c, &v)
}

func setRevisions(c *fiber.Ctx, v *authz.Verdict) {
	for name, value := range revisions(v) {
		c.Set(name, value)
	}
}

// revisions yields the headers that say on what a decision rests.
func revisions(v *authz.Verdict) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		_ = yield(HeaderPolicyRevision, headerText(v.Named)) &&
			(v.Facts.Revision == "" || yield(HeaderRevision, headerText(v.Facts.Revision))) &&
			(v.Facts.Degraded == "" || yield(HeaderDegraded, headerText(v.Facts.Degraded)))
	}
}

// appendID is uuid.UUID.String without its allocation.
func appendID(b []byte, id uuid.UUID) []byte {
	for i, end := range [...]int{4, 6, 8, 10, 16} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, id[[...]int{0, 4, 6, 8, 10}[i]:end])
	}
	return b
}

// setBatchHeaders names the decisions in the order of the answers. The facts'
// revision is that of the first: the others are no older.
func setBatchHeaders(c *fiber.Ctx, verdicts []authz.Verdict) {
	var ids []string
	for i := range verdicts {
		v := &verdicts[i]
		if v.ID == uuid.Nil {
			continue
		}
		if len(ids) == 0 {
			setRevisions(c, v)
		}
		if ids = append(ids, v.ID.String()); len(ids) > maxListedIDs {
			return
		}
	}
	if len(ids) > 0 {
		c.Set(HeaderDecisionID, strings.Join(ids, ", "))
	}
}

// headerText leaves out of a bundle's revision what a header cannot hold.
func headerText(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && ' ' <= s[i] && s[i] <= '~'
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

func sendJSON(c *fiber.Ctx, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(body)
}
