package sidecar

import (
	"context"

	"chartgate/internal/authz"
	"chartgate/internal/web"
	"chartgate/internal/wire"
)

// Line asks for facts that memory does not hold without waiting for the reply
// (facts.Line).
type Line interface {
	// Ask reports whether it asked for the facts of list. Then came is called once,
	// by Heard, with the places of those that have them.
	Ask(list []authz.Lookup, came func(places []int)) bool
	Heard()
	Close()
}

// ask asks on the line for what questions rest on that have to wait, and returns
// those for which it cannot.
func (a *plainAnswers) ask(list []waiting) (left []waiting) {
	if a.line == nil || len(list) == 0 || a.s.pdp.Engine().Program() == nil {
		return list
	}
	left = list[:0]
	for len(list) > 0 {
		h := hands.Get().(*hand)
		for len(list) > 0 && len(h.list) < mostTogether {
			w := list[0]
			if list = list[1:]; w.Request.Context.MinRevision != "" { // it may be in memory after all
				left = append(left, w)
				continue
			}
			h.take(w)
		}
		lookups := h.answers.Begin(h.asked)
		if len(lookups) > 0 && a.line.Ask(lookups, func(places []int) { a.found(h, lookups, places) }) {
			continue
		}
		left = append(left, h.list...)
		h.release()
	}
	return left
}

// found answers those questions of h whose facts have come, and leaves the others
// to be answered later: those too over which somebody panics.
func (a *plainAnswers) found(h *hand, lookups []authz.Lookup, places []int) {
	defer func() {
		if r := recover(); r != nil {
			a.s.log.Error("questions are decided again", "error", web.Panicked(r))
		}
		for i := range h.list {
			if w := &h.list[i]; w.call != nil {
				w.Unshared = lookups[i].Unshared
				a.missed = append(a.missed, *w)
			}
		}
		h.release()
	}()
	if len(places) > 0 && a.s.pdp.DecideFound(context.Background(), h.asked, places, &h.answers) {
		for _, i := range places {
			a.s.later.answer(h, i, h.answers.Errs[i])
		}
	}
}

// Heard answers those whose facts have come on the line.
func (a *plainAnswers) Heard() (rest func()) {
	clear(a.missed)
	a.missed = a.missed[:0]
	a.line.Heard()
	return a.s.later.take(a.missed)
}

// Close ends the line: nothing is asked any more.
func (a *plainAnswers) Close() {
	if a.line != nil {
		a.line.Close()
	}
}

var _ wire.Answerer = (*plainAnswers)(nil)
