package sidecar

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"chartgate/internal/pdp"
	"chartgate/internal/web"
	"chartgate/internal/wire"

	"github.com/prometheus/client_golang/prometheus"
)

// later decides plain questions that have to wait for their facts, or for OPA:
// a few hands take what has gathered while they were busy, and decide it
// together. So the stores are asked once for many, as soon as many ask.
type later struct {
	s       *Server
	counted prometheus.Observer
	work    func() // answerAll
	most    int    // hands that are busy at once

	mu      sync.Mutex
	waiting []waiting
	busy    int // hands
}

// waiting is a question that has to wait, and who is owed its answer.
type waiting struct {
	pdp.Asked
	began time.Time
	call  *wire.Later
}

const (
	usualAnswer  = 768 // bytes, with its headers
	mostTogether = 64  // questions that are decided together at most
)

func newLater(s *Server) *later {
	l := &later{s: s, counted: s.metrics.Counter(plainRoute, "post"), most: 4 * runtime.GOMAXPROCS(0)}
	l.work = l.answerAll
	return l
}

// take has all of list answered: by those who are busy, or where there may be one
// more of them, by whoever calls what it returns.
func (l *later) take(list []waiting) (work func()) {
	if len(list) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, list...)
	if l.busy == l.most {
		return nil
	}
	l.busy++
	return l.work
}

// answerAll is a hand: it answers what waits, until nothing does.
func (l *later) answerAll() {
	h := hands.Get().(*hand)
	defer h.release()
	for l.gather(h) {
		l.decide(h)
	}
}

// gather takes what waits into h, which is empty. Where nothing does, the hand is no longer busy.
func (l *later) gather(h *hand) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), mostTogether)
	if n == 0 {
		l.busy--
		return false
	}
	for i := range l.waiting[:n] {
		h.take(l.waiting[i])
	}
	left := copy(l.waiting, l.waiting[n:])
	clear(l.waiting[left:])
	l.waiting = l.waiting[:left]
	return true
}

// hands hold the room of those that are not busy.
var hands = sync.Pool{New: func() any { return new(hand) }}

// hand is what it takes to decide some questions.
type hand struct {
	list    []waiting
	asked   []pdp.Asked
	answers pdp.Answers
	date    date
}

// take has h decide w too.
func (h *hand) take(w waiting) { h.list, h.asked = append(h.list, w), append(h.asked, w.Asked) }

// clear lets go of all that h was to decide.
func (h *hand) clear() {
	clear(h.list)
	clear(h.asked)
	h.list, h.asked = h.list[:0], h.asked[:0]
	h.answers.Reset()
}

// release gives the room of h to others.
func (h *hand) release() {
	h.clear()
	hands.Put(h)
}

// decide answers h.list. A question over which somebody panics must not take
// the others with it: then each is decided alone.
func (l *later) decide(h *hand) {
	defer h.clear()
	err := l.decideTogether(h)
	if err == nil {
		return
	}
	if len(h.list) == 1 {
		l.answer(h, 0, err)
		return
	}
	for i := range h.list {
		if h.list[i].call == nil {
			continue
		}
		var alone hand
		alone.take(h.list[i])
		if err := l.decideTogether(&alone); err != nil {
			l.answer(&alone, 0, err)
		}
	}
}

// decideTogether returns an error only where somebody panicked. Then some may
// have no answer yet.
func (l *later) decideTogether(h *hand) (err error) {
	ctx := newDeadline(context.Background(), slices.MaxFunc(h.list, func(a, b waiting) int { return a.began.Compare(b.began) }).began)
	defer ctx.end()
	defer func() {
		if r := recover(); r != nil {
			err = web.Panicked(r)
		}
	}()
	l.s.pdp.DecideTogether(ctx, h.asked, &h.answers, func(places []int) {
		for _, i := range places {
			l.answer(h, i, h.answers.Errs[i])
		}
	})
	return nil
}

// answer gives question i its answer, unless it has one.
func (l *later) answer(h *hand, i int, err error) {
	w := &h.list[i]
	if w.call == nil {
		return
	}
	var out []byte
	if err != nil {
		out = l.s.plainRefusal(&w.Asked, w.began, err)
	} else {
		out = l.s.appendAnswer(make([]byte, 0, usualAnswer), h.date.at(time.Now()), w.RequestID, &h.answers.Verdicts[i])
		l.counted.Observe(time.Since(w.began).Seconds())
	}
	l.s.work.end(check, 1)
	w.call.Answer(out)
	w.call = nil
}
