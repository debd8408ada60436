package soak

import (
	"sync"
	"sync/atomic"
	"time"
)

// pair is one person's access to one client, given and taken in turns by one
// revoker. Readers note what they saw of it.
type pair struct {
	user, client string

	mu    sync.Mutex
	round int  // which grant this is
	taken bool // the revoke of this round was acknowledged
}

// begin is what a reader must know before it asks: whether the access is known
// to be taken, and in which round.
func (p *pair) begin() (round int, taken bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.round, p.taken
}

func (p *pair) give() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round, p.taken = p.round+1, false
}

func (p *pair) acknowledge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = true
}

// tally counts what a run saw. A stale allow is an allow to a question that
// began after the revoke was acknowledged and ended before it was given again.
type tally struct {
	revokes     atomic.Int64 // acknowledged
	unclear     atomic.Int64 // revokes of which nothing is known: the call failed
	before      atomic.Int64 // allows seen while access was given
	after       atomic.Int64 // questions answered after the acknowledgement
	denied      atomic.Int64
	undecided   atomic.Int64 // 503 and the like: no answer is a right answer
	stale       atomic.Int64
	firstReport sync.Once
	report      atomic.Pointer[string]
	slowest     atomic.Int64 // longest time to an acknowledgement, in nanoseconds
}

func (t *tally) took(d time.Duration) {
	for {
		old := t.slowest.Load()
		if int64(d) <= old || t.slowest.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// judge counts one answer. It was asked when p was in round, taken or not.
func (t *tally) judge(p *pair, round int, taken, allowed, decided bool, where string) {
	switch {
	case !decided:
		t.undecided.Add(1)
		return
	case taken:
		t.after.Add(1)
	}
	if !allowed {
		t.denied.Add(1)
		return
	}
	now, _ := p.begin()
	switch {
	case !taken:
		t.before.Add(1)
	case now == round:
		t.stale.Add(1)
		text := where + " allowed " + p.user + " on " + p.client + " after the revoke was acknowledged"
		t.firstReport.Do(func() { t.report.Store(&text) })
	}
}
