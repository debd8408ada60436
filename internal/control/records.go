package control

import (
	"context"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/record"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
)

// actionRecordRead is asked of the policy before the record is shown.
const actionRecordRead = "record.read"

// recordPage is a page of the record, newest first.
type recordPage[T any] struct {
	Records []T    `json:"records"`
	Next    string `json:"next,omitempty"`
}

// readRecords makes a handler that shows a page of one kind of entries (DESIGN
// 11). Whoever names a practice must be allowed to read its record; without one
// the caller must be for all practices. Each read is an entry itself (DOMAIN
// rules 110, 129).
func readRecords[T any](s *Server, kind string, read func(context.Context, pgx.Tx, record.Read, record.Query) (record.Page[T], error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		actor, err := web.ActorOf(c)
		if err != nil {
			return err
		}
		q, err := s.recordQuery(c, kind)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.UserContext(), callTimeout)
		defer cancel()
		asked := s.authority(c)
		var page record.Page[T]
		err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
			by := record.Read{Actor: actor.ID}
			if q.Practice != "" {
				v, err := asked.May(ctx, tx, authz.Request{Subject: actor, Action: actionRecordRead,
					Resource: authz.Resource{Type: authz.ResourcePractice, ID: q.Practice}})
				if err != nil {
					return err
				}
				if !v.Exact.Allow {
					return refusedRead(v)
				}
				by.Decision = v.ID.String()
			}
			var err error
			page, err = read(ctx, tx, by, q)
			return err
		})
		if err != nil {
			if unrecorded := asked.recordUndone(ctx, s.o.Recorder); unrecorded != nil {
				return unrecorded
			}
			return err
		}
		body := recordPage[T]{Records: page.Records}
		if body.Records == nil {
			body.Records = []T{}
		}
		if page.Next != nil {
			body.Next = s.recordCursor(kind, q, page.Next.String())
		}
		return c.JSON(body)
	}
}

// refusedRead is what a denied reader may know: a practice exists for its
// active members only (promise P8).
func refusedRead(v authz.Verdict) error {
	if m := v.Facts.Member; m == nil || m.Status != authz.MemberActive {
		return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: v.Exact.ReasonUser}
}

// recordQuery reads what is asked for.
func (s *Server) recordQuery(c *fiber.Ctx, kind string) (record.Query, error) {
	q := record.Query{Limit: record.DefaultPage}
	for name, to := range map[string]*string{"practice": &q.Practice, "client": &q.Client, "user": &q.User, "action": &q.Action, "code": &q.Code, "release": &q.Release} {
		if *to = web.Copy(c.Query(name)); *to != "" && !authz.ValidID(*to) {
			return q, web.Malformed(name+" is no id", "/"+name, "must be 1 to 128 bytes of UTF-8 without control characters")
		}
	}
	if kind == "changes" && (q.Code != "" || q.Release != "") {
		return q, web.Malformed("changes have no code and no release", "/code", "is of decisions only")
	}
	for name, to := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		text := c.Query(name)
		if text == "" {
			continue
		}
		var err error
		if *to, err = time.Parse(time.RFC3339, text); err != nil {
			return q, web.Malformed(name+" is no time", "/"+name, "must be a time such as 2026-12-01T00:00:00Z")
		}
	}
	if text := c.Query("limit"); text != "" {
		var err error
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > record.MaxPage {
			return q, web.Malformed("limit is out of range", "/limit", "must be a whole number from 1 to "+strconv.Itoa(record.MaxPage))
		}
	}
	caller := web.CallerOf(c)
	switch {
	case q.Practice != "" && !caller.MayAskAbout(q.Practice):
		return q, &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	case q.Practice == "" && !caller.AllPractices:
		return q, web.Malformed("practice is missing", "/practice", "must name one of the caller's practices")
	}
	if cursor := c.Query("cursor"); cursor != "" {
		at, err := s.readRecordCursor(kind, q, cursor)
		if err != nil {
			return q, err
		}
		q.After = &at
	}
	return q, nil
}

// sealedQuery is what a cursor belongs to: the kind and every condition, but
// not the size of the page.
func sealedQuery(kind string, q record.Query) []byte {
	values := url.Values{"practice": {q.Practice}, "client": {q.Client}, "user": {q.User}, "action": {q.Action}, "code": {q.Code},
		"release": {q.Release}, "from": {authz.FormatTime(q.From)}, "to": {authz.FormatTime(q.To)}}
	return []byte(kind + "?" + values.Encode())
}

func (s *Server) recordCursor(kind string, q record.Query, position string) string {
	seal := s.o.Deployment.Seal("record-cursor", sealedQuery(kind, q), []byte(position))
	return base64.RawURLEncoding.EncodeToString(append(seal, position...))
}

// readRecordCursor refuses a cursor that was altered, or belongs to another list.
func (s *Server) readRecordCursor(kind string, q record.Query, cursor string) (record.Position, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(cursor))
	if err != nil || len(raw) <= feed.SealSize || !s.o.Deployment.Sealed(raw[:feed.SealSize], "record-cursor", sealedQuery(kind, q), raw[feed.SealSize:]) {
		return record.Position{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "bad-cursor",
			Detail: "the cursor was altered, or belongs to another list: begin again without one"}
	}
	return record.ParsePosition(string(raw[feed.SealSize:]))
}
