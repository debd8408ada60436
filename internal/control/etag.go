package control

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

// digest names a representation: another one has another name.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// tags is an If-Match or If-None-Match header (RFC 9110, 13.1).
type tags struct {
	any  bool     // "*"
	list []string // opaque parts, without quotes; weak ones with "W/" before
}

// readTags splits a header at its commas. A tag may hold a comma; ours do not,
// and a part of another's matches nothing.
func readTags(header string) tags {
	var t tags
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" {
			t.any = true
			continue
		}
		opaque, weak := strings.CutPrefix(part, "W/")
		if len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"' {
			continue
		}
		opaque = opaque[1 : len(opaque)-1]
		if weak {
			opaque = "W/" + opaque
		}
		t.list = append(t.list, opaque)
	}
	return t
}

// strong reports whether one of the tags is this one, compared strongly.
func (t tags) strong(same func(tag string) bool) bool {
	if t.any {
		return true
	}
	for _, tag := range t.list {
		if !strings.HasPrefix(tag, "W/") && same(tag) {
			return true
		}
	}
	return false
}

// ifMatch returns the tags of the header If-Match, which these routes ask for:
// whoever replaces something says what he replaces (DOMAIN rule 35).
func (v *visit) ifMatch() (tags, error) { return ifMatch(v.c) }

func ifMatch(c *fiber.Ctx) (tags, error) {
	header := c.Get(fiber.HeaderIfMatch)
	if header == "" {
		return tags{}, &authz.Problem{Kind: authz.ErrConflict, Type: "if-match-missing", Status: http.StatusPreconditionRequired,
			Detail: "header If-Match must hold the ETag of what was read"}
	}
	return readTags(strings.Clone(header)), nil
}

// show answers with body under a tag, or with 304 if the caller has it.
func (v *visit) show(tag string, body []byte) error { return show(v.c, tag, body) }

func show(c *fiber.Ctx, tag string, body []byte) error {
	c.Set(fiber.HeaderETag, `"`+tag+`"`)
	if c.Method() == fiber.MethodGet {
		for _, seen := range readTags(c.Get(fiber.HeaderIfNoneMatch)).list {
			if strings.TrimPrefix(seen, "W/") == tag {
				return c.SendStatus(http.StatusNotModified)
			}
		}
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(body)
}

// accessTag names what Manage Access shows: the version of the set of grants,
// which a PUT replaces, and the digest of all that is shown, which also holds
// the members' roles and bases.
func accessTag(version int64, body []byte) string {
	return fmt.Sprintf("%d.%s", version, digest(body))
}

// versionOf reports whether tag is of this version of the set of grants.
func versionOf(tag string, version int64) bool {
	number, _, ok := strings.Cut(tag, ".")
	return ok && number == strconv.FormatInt(version, 10)
}

func encode(body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write answer: %w", err)
	}
	return text, nil
}
