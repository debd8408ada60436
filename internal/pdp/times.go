package pdp

import (
	"math/rand/v2"
	"time"
)

// Parts of a decision whose times are taken.
const (
	PartFacts    = "facts"
	PartEvaluate = "evaluate"
	PartRecord   = "record"
)

// timedShare: one of so many decisions is timed.
const timedShare = 64

// Timed reports whether this one is to be timed: it costs next to nothing.
func Timed() bool { return rand.Uint32()%timedShare == 0 }

// Time lets took hear how long the parts of some decisions take. It is to be
// called before anything is decided.
func (p *PDP) Time(took func(part string, d time.Duration)) { p.took = took }

// lap is the watch of one decision; nil where it is not timed.
type lap struct {
	at   time.Time
	took func(part string, d time.Duration)
}

func (p *PDP) lap() *lap {
	if p.took == nil || !Timed() {
		return nil
	}
	return &lap{at: time.Now(), took: p.took}
}

// done ends a part and begins the next.
func (l *lap) done(part string) {
	if l != nil {
		now := time.Now()
		l.took(part, now.Sub(l.at))
		l.at = now
	}
}
