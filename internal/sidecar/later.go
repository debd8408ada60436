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

	most     int           // hands
	patience time.Duration // handTime
	work     chan struct{} // one for each hand that is called: there is room for all

	mu      sync.Mutex
	waiting []waiting
	hands   int
	idle    int // hands that nobody has called yet
}

// waiting is a question that has to wait, and who is owed its answer.
type waiting struct {
	pdp.Asked
	began time.Time
	call  *wire.Later
}

const (
	usualAnswer  = 768              // bytes, with its headers
	mostTogether = 64               // questions that are decided together at most
	handTime     = 10 * time.Second // for how long a hand waits for more: a new one grows its stack again
)

func newLater(s *Server) *later {
	most := 4 * runtime.GOMAXPROCS(0)
	return &later{s: s, counted: s.metrics.Counter(plainRoute, "post"), most: most, patience: handTime, work: make(chan struct{}, most)}
}

// take has w answered.
func (l *later) take(w waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, w)
	switch {
	case l.idle > 0:
		l.idle--
		l.work <- struct{}{}
	case l.hands < l.most:
		l.hands++
		go l.answerAll()
	}
}

// answerAll is a hand: it answers what waits, until nothing has for a while.
func (l *later) answerAll() {
	var h hand
	patience := time.NewTimer(l.patience)
	defer patience.Stop()
	for {
		for l.gather(&h) {
			l.decide(&h)
		}
		patience.Reset(l.patience)
		select {
		case <-l.work:
		case <-patience.C:
			if l.leave() {
				return
			}
			<-l.work // it was called just now
		}
	}
}

// gather takes what waits into h. Where nothing does, the hand is idle from then
// on, and has to be called.
func (l *later) gather(h *hand) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), mostTogether)
	if n == 0 {
		l.idle++
		return false
	}
	h.list = append(h.list[:0], l.waiting[:n]...)
	left := copy(l.waiting, l.waiting[n:])
	clear(l.waiting[left:])
	l.waiting = l.waiting[:left]
	return true
}

// leave lets an idle hand go, unless all have been called.
func (l *later) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle == 0 {
		return false
	}
	l.idle--
	l.hands--
	return true
}

// hand is what it takes to decide some questions.
type hand struct {
	list    []waiting
	asked   []pdp.Asked
	answers pdp.Answers
	date    date
}

// decide answers h.list. A question over which somebody panics must not take
// the others with it: then each is decided alone.
func (l *later) decide(h *hand) {
	defer func() { // nothing of them is held on to
		clear(h.list)
		clear(h.asked)
		h.answers.Reset()
	}()
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
		alone := hand{list: []waiting{h.list[i]}}
		if err := l.decideTogether(&alone); err != nil {
			l.answer(&alone, 0, err)
		}
	}
}

// decideTogether returns an error only where somebody panicked. Then some may
// have no answer yet.
func (l *later) decideTogether(h *hand) (err error) {
	h.asked = h.asked[:0]
	for i := range h.list {
		h.asked = append(h.asked, h.list[i].Asked)
	}
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
