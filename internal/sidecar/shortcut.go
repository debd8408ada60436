package sidecar

import (
	"context"
	"encoding/hex"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// routeShortcut answers single evaluations in their plain form before Fiber's
// router. What it does is what Server.evaluation does with them.
func (s *Server) routeShortcut(o web.Options, callers *web.Authenticator) {
	web.Shortcut[authz.Request]{Path: "/access/v1/evaluation", Name: "access/v1/evaluation", Scope: web.ScopeAsk, Callers: callers,
		Read: s.readPlain, Answer: s.answerPlain}.Put(s.App, o)
}

func (s *Server) readPlain(r *fasthttp.Request) (authz.Request, bool) {
	if s.pdp.Engine().OwnPolicy() || len(r.Header.Peek(HeaderMinRevision)) > 0 {
		return authz.Request{}, false
	}
	done := s.times.part("parse")
	q, ok := fastQuestion(string(r.Body()))
	done.end()
	return q, ok
}

func (s *Server) answerPlain(c *fasthttp.RequestCtx, asked web.Asked[authz.Request]) error {
	if err := s.work.begin(check, 1); err != nil {
		return err
	}
	defer s.work.end(check, 1)
	ctx := newDeadline(context.Background(), asked.At)
	defer ctx.end()
	v, err := s.pdp.Decide(ctx, pdp.Scope{All: asked.Caller.AllPractices, Practices: asked.Caller.Practices}, asked.Question, asked.RequestID)
	if err != nil {
		return err
	}
	done := s.times.part("answer")
	h := &c.Response.Header
	writeVerdictHeaders(h, &v)
	h.SetContentType(fiber.MIMEApplicationJSON)
	c.Response.SetBodyRaw(s.answers.body(&v.Shown))
	done.end()
	return nil
}

// Names of headers in the form in which they travel.
var (
	decisionID     = []byte(HeaderDecisionID)
	policyRevision = []byte(HeaderPolicyRevision)
	revision       = []byte(HeaderRevision)
	degraded       = []byte(HeaderDegraded)
)

func setVerdictHeaders(c *fiber.Ctx, v authz.Verdict) { writeVerdictHeaders(&c.Response().Header, &v) }

// writeVerdictHeaders says which decision it was, by which release, on which facts.
func writeVerdictHeaders(h *fasthttp.ResponseHeader, v *authz.Verdict) {
	var id [36]byte
	h.SetCanonical(decisionID, appendID(id[:0], v.ID))
	writeRevisions(h, v)
}

func writeRevisions(h *fasthttp.ResponseHeader, v *authz.Verdict) {
	h.SetCanonical(policyRevision, utils.UnsafeBytes(headerText(v.Named))) // SetCanonical copies
	if v.Facts.Revision != "" {
		h.SetCanonical(revision, utils.UnsafeBytes(headerText(v.Facts.Revision)))
	}
	if v.Facts.Degraded != "" {
		h.SetCanonical(degraded, utils.UnsafeBytes(headerText(v.Facts.Degraded)))
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
