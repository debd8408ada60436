package sidecar

import (
	"errors"
	"net/http"
	"sync"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// evaluation answers one question (AuthZEN 6).
func (s *Server) evaluation(c *fiber.Ctx) error {
	if err := requireJSON(c); err != nil {
		return err
	}
	if !s.pdp.Engine().OwnPolicy() {
		if r, ok := fastQuestion(string(c.BodyRaw())); ok {
			if token := minRevisionOf(c); token != "" {
				r.Context.MinRevision = token
			}
			return s.decide(c, question{request: r})
		}
	}
	body, err := web.StrictObject(c.BodyRaw())
	if err != nil {
		return err
	}
	return s.single(c, body)
}

// requireJSON refuses a body that is not JSON with 400: the certification
// scenario demands it, where plain HTTP would say 415.
func requireJSON(c *fiber.Ctx) error {
	err := web.RequireJSON(c)
	var p *authz.Problem
	if errors.As(err, &p) {
		return web.Malformed(p.Detail, "", "")
	}
	return err
}

func (s *Server) single(c *fiber.Ctx, body map[string]any) error {
	q := readQuestion(body, minRevisionOf(c))
	if q.fault != nil {
		return q.fault
	}
	return s.decide(c, q)
}

func (s *Server) decide(c *fiber.Ctx, q question) error {
	ctx, cancel := deadline(c)
	defer cancel()
	var v authz.Verdict
	var err error
	if s.pdp.Engine().OwnPolicy() {
		v, err = s.pdp.DecideOwn(ctx, q.input, web.RequestID(c))
	} else {
		v, err = s.pdp.Decide(ctx, scopeOf(c), q.request, web.RequestID(c))
	}
	if err != nil {
		return err
	}
	setVerdictHeaders(c, v)
	if v.Input != nil {
		return sendJSON(c, ownAnswer(v))
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(s.answers.body(&v.Shown))
}

// evaluations answers several questions, or one where there are none in the
// array (AuthZEN 7).
func (s *Server) evaluations(c *fiber.Ctx) error {
	if err := requireJSON(c); err != nil {
		return err
	}
	if !s.pdp.Engine().OwnPolicy() && minRevisionOf(c) == "" {
		room := batchRooms.Get().(*batchRoom)
		defer room.leave()
		if b, ok := fastBatch(string(c.BodyRaw()), room); ok {
			return s.decideAll(c, &b, &room.answers)
		}
	}
	body, err := web.StrictObject(c.BodyRaw())
	if err != nil {
		return err
	}
	b, err := readBatch(body, minRevisionOf(c))
	if err != nil {
		return err
	}
	if len(b.requests) > 0 {
		return s.decideAll(c, &b, new(pdp.Answers))
	}
	if err := s.work.begin(check, 1); err != nil {
		return err
	}
	defer s.work.end(check, 1)
	delete(body, "evaluations")
	delete(body, "options")
	return s.single(c, body)
}

// batchRooms hold plain questions and their answers on their way.
var batchRooms = sync.Pool{New: func() any { return new(batchRoom) }}

type batchRoom struct {
	requests []authz.Request
	named    []uint8
	answers  pdp.Answers
}

// leave holds on to nothing of the questions.
func (r *batchRoom) leave() {
	clear(r.requests)
	r.answers.Reset()
	batchRooms.Put(r)
}

func (s *Server) decideAll(c *fiber.Ctx, b *batch, answers *pdp.Answers) error {
	n := len(b.requests)
	if err := s.work.begin(several, n); err != nil {
		return err
	}
	defer s.work.end(several, n)
	ctx, cancel := deadline(c)
	defer cancel()
	var err error
	if s.pdp.Engine().OwnPolicy() {
		err = s.pdp.DecideAllOwn(ctx, b.inputs, web.RequestID(c), b.stops, answers)
	} else {
		err = s.pdp.DecideAll(ctx, scopeOf(c), b.requests, web.RequestID(c), b.stops, answers)
	}
	if err != nil {
		return err
	}
	setBatchHeaders(c, answers.Verdicts)
	return b.write(c.Response(), answers, &s.answers)
}

// itemFailure is what an item of a batch says of why it could not be decided.
func itemFailure(err error) *itemError {
	var p *authz.Problem
	if errors.As(err, &p) && errors.Is(err, authz.ErrMalformed) {
		return &itemError{Status: http.StatusBadRequest, Message: p.Detail}
	}
	return &itemError{Status: http.StatusServiceUnavailable, Message: "this could not be decided; try again"}
}
