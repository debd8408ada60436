package sidecar

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
	"chartgate/internal/wire"

	"github.com/gofiber/fiber/v2/utils"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// plainRoute is the route whose plain requests are answered straight from the
// sockets.
const plainRoute = "access/v1/evaluation"

// Listen puts in front of App what answers single evaluations in their plain
// form, and what of them needs no waiting many at a time. Everybody else's
// requests come out of the listener that it returns. What it answers is what
// Server.evaluation would, byte for byte.
func (s *Server) Listen(l net.Listener) (net.Listener, error) {
	s.App.Server().ConnState = wire.ConnState
	return wire.Listen(l, wire.Options{
		Path: "/" + plainRoute, Guest: web.PatientConn, Request: web.RequestTime, Idle: web.IdleTime,
		Answerer: func(attend wire.Attend) wire.Answerer { return s.plainAnswers(attend) },
	})
}

// plainAnswers answers what one loop reads.
type plainAnswers struct {
	s       *Server
	counted prometheus.Observer
	asked   []pdp.Asked
	of      []int // which call each is of
	answers pdp.Answers
	date    date
	missed  []waiting // that have to wait
	line    Line      // nil: there is none

	underWay int // that were let begin and have not ended
}

func (s *Server) plainAnswers(attend wire.Attend) *plainAnswers {
	a := &plainAnswers{s: s, counted: s.metrics.Counter(plainRoute, "post")}
	if s.line != nil {
		a.line = s.line(attend)
	}
	return a
}

// Answer answers those calls that Server.evaluation would have answered with a
// decision, and leaves the others to it.
func (a *plainAnswers) Answer(calls []wire.Call) (rest func()) {
	clear(a.missed)
	a.missed = a.missed[:0]
	a.answer(calls)
	return a.s.later.take(a.ask(a.missed)) // after a fault too: they are owed an answer
}

// answer is Answer, but for those that have to wait.
func (a *plainAnswers) answer(calls []wire.Call) {
	began := time.Now() // after all were read: the lease that is taken from here on covers each
	defer a.broke(calls)
	a.gather(calls, began)
	err, panicked := a.decide()
	for i, of := range a.of {
		call, asked := &calls[of], &a.asked[i]
		switch {
		case err != nil:
			call.Out = append(call.Out, a.s.plainRefusal(asked, began, err)...)
		case panicked || a.answers.Verdicts[i].ID == uuid.Nil:
			a.missed = append(a.missed, waiting{Asked: *asked, began: began, call: call.Later()})
			a.underWay-- // here; it ends with its answer
			continue
		default:
			done := a.s.times.part("answer")
			call.Out = a.s.appendAnswer(call.Out, a.date.at(began), asked.RequestID, &a.answers.Verdicts[i])
			done.end()
			a.counted.Observe(time.Since(began).Seconds())
		}
		a.end()
	}
}

func (a *plainAnswers) end() {
	a.underWay--
	a.s.work.end(check, 1)
}

// broke is the last resort of a fault where none can be: the connections of what
// was to be answered now end without an answer, and everything else goes on.
func (a *plainAnswers) broke(calls []wire.Call) {
	r := recover()
	if r == nil {
		return
	}
	a.s.log.Error("plain questions cannot be answered", "error", web.Panicked(r))
	for i := range calls {
		calls[i].Out = nil
	}
	for a.underWay > 0 {
		a.end()
	}
}

// gather takes the questions of plain calls.
func (a *plainAnswers) gather(calls []wire.Call, began time.Time) {
	clear(a.asked) // nothing of the last ones is held on to
	a.asked, a.of = a.asked[:0], a.of[:0]
	own := a.s.pdp.Engine().OwnPolicy()
	for i := range calls {
		call := &calls[i]
		caller := a.s.callers.Recall(utils.UnsafeString(call.Token)) // which keeps nothing of it
		if own || caller == nil || !caller.Has(web.ScopeAsk) {
			call.Pass()
			continue
		}
		done := a.s.times.part("parse")
		q, ok := fastQuestion(string(call.Body))
		done.end()
		if !ok {
			call.Pass()
			continue
		}
		asked := pdp.Asked{Scope: pdp.Scope{All: caller.AllPractices, Practices: caller.Practices}, Request: q, RequestID: string(call.RequestID)}
		if err := a.s.work.begin(check, 1); err != nil {
			call.Out = append(call.Out, a.s.plainRefusal(&asked, began, err)...)
			continue
		}
		a.underWay++
		a.asked, a.of = append(a.asked, asked), append(a.of, i)
	}
}

// decide decides what is at hand. A question over which somebody panics must
// not take the others with it: then each is decided alone.
func (a *plainAnswers) decide() (err error, panicked bool) {
	defer func() { panicked = recover() != nil }()
	return a.s.pdp.DecideAtHand(context.Background(), a.asked, &a.answers), false
}

func (s *Server) plainRefusal(asked *pdp.Asked, began time.Time, err error) []byte {
	return web.Refusal(s.App, s.metrics, plainRoute, http.MethodPost, asked.RequestID, began, err)
}

// appendAnswer appends a whole answer: its first line, its headers, its body.
func (s *Server) appendAnswer(b, date []byte, requestID string, v *authz.Verdict) []byte {
	body := s.answers.body(&v.Shown)
	b = append(append(b, "HTTP/1.1 200 OK\r\nDate: "...), date...)
	b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store"...)
	if requestID != "" {
		b = appendHeader(b, web.HeaderRequestID, requestID)
	}
	b = append(b, "\r\n"+HeaderDecisionID+": "...)
	b = appendID(b, v.ID)
	for name, value := range revisions(v) {
		b = appendHeader(b, name, value)
	}
	return append(append(b, "\r\n\r\n"...), body...)
}

func appendHeader(b []byte, name, value string) []byte {
	return append(append(append(append(b, "\r\n"...), name...), ": "...), value...)
}

// date is the text of a time, as HTTP writes it, kept for its second.
type date struct {
	second int64
	text   []byte
}

func (d *date) at(now time.Time) []byte {
	if second := now.Unix(); second != d.second || d.text == nil {
		d.second, d.text = second, now.UTC().AppendFormat(d.text[:0], http.TimeFormat)
	}
	return d.text
}
