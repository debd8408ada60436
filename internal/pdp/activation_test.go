package pdp_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
)

// step is one activation, as the test made it.
type step struct {
	feed.Activation
	refused bool        // its bundle must be refused
	sudden  bool        // it was not prepared, so loading it takes a moment
	settled atomic.Bool // since then every sidecar has it
}

// decider is the content that decides for a practice; "" where nothing may.
func (s *step) decider(practice string) string {
	switch {
	case s.refused:
		return ""
	case s.Stage == feed.StageShare && practice != "" && placeOf(practice) < s.Share:
		return s.Candidate.Content
	}
	return s.Active.Content
}

// excused reports whether a sidecar may say that it cannot decide.
func (s *step) excused() bool { return s.refused || s.sudden && !s.settled.Load() }

// history is all that was activated, and how far that was acknowledged.
type history struct {
	mu           sync.RWMutex
	steps        []*step
	acknowledged int
}

// from returns the steps that may decide for a question: the last acknowledged
// one, and whatever came later.
func (h *history) from(acknowledged int) []*step {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.steps[acknowledged:]
}

// load asks every sidecar without a pause and compares every answer with that
// of the release that it names.
type load struct {
	f *fleet
	h history

	asked, answered, excused, sampled, differed, shared atomic.Int64
	wrong                                               atomic.Int64
	first                                               atomic.Pointer[string]
}

func (l *load) found(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.first.CompareAndSwap(nil, &text)
	l.wrong.Add(1)
}

func (l *load) run(ctx context.Context, s *follower) {
	for ctx.Err() == nil {
		requests := make([]authz.Request, 1)
		if rand.IntN(8) == 0 {
			requests = make([]authz.Request, 5)
		}
		for i := range requests {
			requests[i] = question(1+rand.IntN(people), rand.IntN(actions))
		}
		l.h.mu.RLock()
		acknowledged := l.h.acknowledged
		l.h.mu.RUnlock()
		excused := false
		for _, st := range l.h.from(acknowledged) {
			excused = excused || st.excused()
		}
		var answers pdp.Answers
		var err error
		if len(requests) == 1 {
			var v authz.Verdict
			v, err = s.pdp.Decide(ctx, everywhere, requests[0], "")
			answers.Verdicts = []authz.Verdict{v}
		} else {
			err = s.pdp.DecideAll(ctx, everywhere, requests, "", nil, &answers)
		}
		if ctx.Err() != nil {
			return
		}
		l.asked.Add(1)
		steps := l.h.from(acknowledged)
		if err == nil {
			for _, why := range answers.Errs {
				err = why
			}
		}
		if err != nil {
			for _, st := range steps {
				excused = excused || st.excused()
			}
			if !excused || !errors.Is(err, authz.ErrUnavailable) {
				l.found("after activation %d: not decided: %v", steps[0].Serial, err)
			}
			l.excused.Add(1)
			continue
		}
		for _, v := range answers.Verdicts {
			l.judge(ctx, v, steps)
		}
		l.answered.Add(1)
	}
}

// judge compares one answer with that of the release that it names, which must
// be one that could decide when the question came.
func (l *load) judge(ctx context.Context, v authz.Verdict, steps []*step) {
	var by *step
	for _, st := range steps {
		if st.decider(v.Facts.Practice) == v.Release {
			by = st
		}
	}
	if by == nil {
		l.found("%s decided after activation %d (%s) was acknowledged, up to %d", v.Release, steps[0].Serial, steps[0].Active.Content, steps[len(steps)-1].Serial)
		return
	}
	want, err := l.f.engines[v.Release].Evaluate(ctx, v.Request, v.Facts)
	if ctx.Err() != nil {
		return
	}
	if err != nil || !compile.Same(want, v.Exact) {
		l.found("%s says %+v, and %+v decided in its name (%v)", v.Release, want, v.Exact, err)
	}
	facts := v.Facts
	if v.Named != v.Release { // it may not show: the answer is that for a client that does not exist
		l.shared.Add(1)
		facts = facts.Hidden()
	}
	named := l.f.engines[v.Named]
	exact, err := named.Evaluate(ctx, v.Request, facts)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		l.found("%s: %v", v.Named, err)
		return
	}
	shown, err := named.Shown(ctx, v.Request, facts, exact)
	if ctx.Err() == nil && (err != nil || !compile.Same(shown, v.Shown) || shown.ReasonUser != v.Shown.ReasonUser) {
		l.found("%s shows %+v, and %+v was shown in its name (%v)", v.Named, shown, v.Shown, err)
	}
	if rand.IntN(4) > 0 {
		return
	}
	l.sampled.Add(1)
	for _, e := range l.f.engines {
		if other, err := e.Evaluate(ctx, v.Request, v.Facts); err == nil && !compile.Same(other, v.Exact) {
			l.differed.Add(1)
			break
		}
	}
}

// change makes the next activation.
func (l *load) change(t *testing.T, a feed.Activation, refused, sudden bool) *step {
	t.Helper()
	l.h.mu.Lock()
	last := l.h.steps[len(l.h.steps)-1]
	a.Serial = last.Serial + 1
	st := &step{Activation: a, refused: refused, sudden: sudden}
	l.h.steps = append(l.h.steps, st)
	l.h.mu.Unlock()
	l.f.activate(t, a)
	return st
}

// acknowledge waits as control does before it answers success, and then, where
// the release was sudden, until every sidecar has it.
func (l *load) acknowledge(t *testing.T, st *step) {
	t.Helper()
	if err := feed.AwaitTaken(t.Context(), feed.BootTime); err != nil {
		t.Fatal(err)
	}
	l.h.mu.Lock()
	l.h.acknowledged = int(st.Serial)
	l.h.mu.Unlock()
	if !st.refused {
		until(t, fmt.Sprintf("activation %d everywhere", st.Serial), func() bool { return l.f.holds(st.Serial) })
		st.settled.Store(true)
	}
}

// other draws a variant that is not the one of content.
func (l *load) other(content string) int {
	for {
		if v := rand.IntN(variants); pdp.Content(l.f.files[v]) != content {
			return v
		}
	}
}

// tally counts what was activated.
type tally struct{ activations, rollbacks, refused, staged int }

func (c tally) all() int { return c.activations + c.rollbacks + c.refused }

var spoils = []string{"wrong key", "altered file", "type error", "failing case", "older revision", "truncated"}

// wantedChanges is how many activations, roll-backs and refused bundles a run has.
func wantedChanges(t *testing.T) int {
	text := os.Getenv("CHARTGATE_ACTIVATIONS")
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CHARTGATE_ACTIVATIONS=%q: want a number", text)
	}
	return n
}

// No wrong answer and none dropped while releases come, go back and are refused,
// under full load; and after an activation was acknowledged, no answer of the
// release before it (promises P2, P7).
func TestActivationUnderFullLoad(t *testing.T) {
	f := startFleet(t, 3)
	l := &load{f: f}
	l.h.steps = []*step{{Activation: feed.Activation{Active: feed.Release{Content: pdp.Content(f.files[f.shipped])}}}}
	until(t, "first polls", func() bool {
		for _, s := range f.sidecars {
			if s.source.Follower().Live() == nil {
				return false
			}
		}
		return true
	})
	ctx, stop := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	for _, s := range f.sidecars {
		for range 2 {
			askers.Go(func() { l.run(ctx, s) })
		}
	}
	askers.Go(func() { l.trouble(ctx, t) })
	count := l.rounds(t, wantedChanges(t))
	stop()
	askers.Wait()
	t.Logf("%d activations, %d roll-backs, %d refused, %d staged; %d questions answered, %d while a release could not be loaded; on %d of %d answers the releases differ, %d were hidden",
		count.activations, count.rollbacks, count.refused, count.staged, l.answered.Load(), l.excused.Load(), l.differed.Load(), l.sampled.Load(), l.shared.Load())
	if first := l.first.Load(); first != nil {
		t.Errorf("%d wrong or dropped, the first: %s", l.wrong.Load(), *first)
	}
	if l.answered.Load()+l.excused.Load() != l.asked.Load() && l.wrong.Load() == 0 {
		t.Errorf("%d of %d questions have no outcome", l.asked.Load()-l.answered.Load()-l.excused.Load(), l.asked.Load())
	}
	// An idle run, or one whose releases agree, proves nothing.
	if l.answered.Load() < 1000 || l.differed.Load() < l.sampled.Load()/2 || l.shared.Load() == 0 {
		t.Errorf("too little was asked: %d answers, %d of %d telling, %d hidden", l.answered.Load(), l.differed.Load(), l.sampled.Load(), l.shared.Load())
	}
}

// trouble changes facts, so that they are read directly at times, and lets the
// polls of a sidecar stall for longer than its lease.
func (l *load) trouble(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		person := 1 + rand.IntN(people)
		_, err := l.f.owner.Exec(ctx, `UPDATE clients SET assigned = CASE WHEN assigned IS NULL THEN $2 END WHERE id = $1`,
			fmt.Sprintf("client-%d", person), fmt.Sprintf("practitioner-%d", person))
		if err != nil && ctx.Err() == nil {
			t.Errorf("change of facts: %v", err)
		}
		stalls := &l.f.sidecars[rand.IntN(len(l.f.sidecars))].stalls
		stalls.Store(!stalls.Load() && rand.IntN(3) == 0)
		select {
		case <-time.After(time.Duration(5+rand.IntN(60)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// rounds activates, goes back, stages and offers what must be refused.
func (l *load) rounds(t *testing.T, want int) (count tally) {
	past := map[int]bool{} // variants that were active before
	next := func(content string) int {
		v := l.other(content)
		if past[v] {
			count.rollbacks++
		} else {
			count.activations++
		}
		past[v] = true
		return v
	}
	active := l.h.steps[0].Active
	for round := 0; count.all() < want; round++ {
		switch round % 4 {
		case 0: // one after the other, none of them prepared
			var st *step
			for range 6 + rand.IntN(10) {
				active = l.f.release(t, next(active.Content), "")
				st = l.change(t, feed.Activation{Active: active}, false, true)
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			}
			l.acknowledge(t, st)
		case 1: // prepared, then activated: nothing waits
			active = l.prepared(t, active, l.f.release(t, next(active.Content), ""))
		case 2: // refused, and mended
			variant := l.other(active.Content)
			for variant == l.f.shipped { // that one is built in, and fetched from nowhere
				variant = l.other(active.Content)
			}
			bad := l.f.release(t, variant, spoils[round/4%len(spoils)])
			count.refused++
			l.acknowledge(t, l.change(t, feed.Activation{Active: bad}, true, true))
			for i, s := range l.f.sidecars { // one whose poll stalls may not have been asked yet
				until(t, fmt.Sprintf("sidecar %d refuses a bundle with %s", i, spoils[round/4%len(spoils)]), func() bool { return s.releases.Check(t.Context()) != nil })
			}
			active = l.f.release(t, next(active.Content), "")
			l.acknowledge(t, l.change(t, feed.Activation{Active: active}, false, true))
		case 3: // in stages
			if round/4%2 == 0 {
				continue
			}
			count.staged++
			active = l.staged(t, active, l.f.release(t, next(active.Content), ""))
		}
	}
	return count
}

// prepared announces a release, waits for the sidecars, and activates it.
func (l *load) prepared(t *testing.T, active, of feed.Release) feed.Release {
	t.Helper()
	l.announce(t, active, of)
	l.acknowledge(t, l.change(t, feed.Activation{Active: of}, false, false))
	return of
}

func (l *load) announce(t *testing.T, active, of feed.Release) {
	t.Helper()
	st := l.change(t, feed.Activation{Active: active, Candidate: of, Stage: feed.StagePrepare}, false, false)
	until(t, "a release that is prepared everywhere", func() bool {
		return l.f.holds(st.Serial) && l.f.control.prepared(len(l.f.sidecars), of)
	})
}

// staged lets a release decide in the shadow, then for a share, then everywhere.
func (l *load) staged(t *testing.T, active, of feed.Release) feed.Release {
	t.Helper()
	l.announce(t, active, of)
	l.change(t, feed.Activation{Active: active, Candidate: of, Stage: feed.StageShadow}, false, false)
	until(t, "a difference that the shadow finds", func() bool {
		for _, s := range l.f.sidecars {
			if shadow := s.releases.Report().Shadow; shadow == nil || len(shadow.Examples) == 0 {
				return false
			}
		}
		return true
	})
	for _, share := range []int{30, 70} {
		l.acknowledge(t, l.change(t, feed.Activation{Active: active, Candidate: of, Stage: feed.StageShare, Share: share}, false, false))
	}
	l.acknowledge(t, l.change(t, feed.Activation{Active: of}, false, false))
	return of
}
