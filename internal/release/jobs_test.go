package release

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// slow is a lab whose step check says that it has begun and goes on when it is
// told to, or when it is stopped.
func slow(t *testing.T) (l *lab, begun chan struct{}, end chan Found, ran *atomic.Int32) {
	begun, end, ran = make(chan struct{}, 8), make(chan Found), new(atomic.Int32)
	l = newLab(t, func(o *Options) {
		gates := []Gate{quick[0], quick[1]}
		gates[0].Run = func(ctx context.Context, e Examination) (Found, error) {
			ran.Add(1)
			e.Progress(3, 10)
			begun <- struct{}{}
			select {
			case found := <-end:
				if found.Outcome == "" {
					panic(found.Summary)
				}
				return found, nil
			case <-ctx.Done():
				return Found{}, ctx.Err()
			}
		}
		o.Steps = gates
	})
	return l, begun, end, ran
}

// A step goes on without its call, is not run twice at once, and tells how far
// it is.
func TestStepRunsOnceAndOnItsOwn(t *testing.T) {
	l, begun, end, ran := slow(t)
	r := l.draft("slow")
	first, ended, err := l.Start(t.Context(), author, r.ID, stepCheck, Period{})
	if err != nil || first.Outcome != Running {
		t.Fatalf("%+v, %v", first, err)
	}
	<-begun
	again, _, err := l.Start(t.Context(), author, r.ID, stepCheck, Period{})
	if err != nil || again.Run != first.Run || ran.Load() != 1 {
		t.Errorf("%+v, %v: it ran %d times", again, err, ran.Load())
	}
	var seen Finished
	for seen.Total == 0 { // it says so every second
		seen = l.must(l.Get(t.Context(), r.ID)).Evidence.Steps[stepCheck]
	}
	if seen.Done != 3 || seen.Total != 10 || seen.Outcome != Running {
		t.Errorf("%+v", seen)
	}
	end <- Found{Outcome: Passed, Summary: "at last"}
	<-ended
	if r = l.must(l.Get(t.Context(), r.ID)); r.State != StateVerified || r.Evidence.Steps[stepCheck].Run != "" {
		t.Errorf("%s %+v", r.State, r.Evidence)
	}
}

// What is found about a source that was replaced meanwhile counts for nothing,
// and the step is stopped.
func TestEditVoidsARunningStep(t *testing.T) {
	l, begun, _, _ := slow(t)
	r := l.draft("before")
	_, ended, err := l.Start(t.Context(), author, r.ID, stepCheck, Period{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	l.must(l.Edit(t.Context(), author, r.ID, r.Title, sourceOf(t, "after"), func(int64) bool { return true }))
	<-ended // nobody tells it to go on
	if r = l.must(l.Get(t.Context(), r.ID)); r.State != StateDraft || len(r.Evidence.Steps) != 0 {
		t.Errorf("%s %+v", r.State, r.Evidence)
	}
}

// Few steps run at once; a step that died with its control, or broke, can be run
// again.
func TestStepsAreBoundedAndCanBeRunAgain(t *testing.T) {
	l, begun, end, ran := slow(t)
	a, b, c := l.draft("a"), l.draft("b"), l.draft("c")
	for _, id := range []string{a.ID, b.ID} {
		if _, _, err := l.Start(t.Context(), author, id, stepCheck, Period{}); err != nil {
			t.Fatal(err)
		}
		<-begun
	}
	_, _, err := l.Start(t.Context(), author, c.ID, stepCheck, Period{})
	l.refused(err, "too-many-steps")
	end <- Found{Summary: "broken"}
	end <- Found{Outcome: Passed}
	for len(l.jobs.slots) > 0 {
		time.Sleep(time.Millisecond)
	}
	failed := 0
	for _, id := range []string{a.ID, b.ID} {
		found := l.must(l.Get(t.Context(), id)).Evidence.Steps[stepCheck]
		if found.Outcome == Failed && strings.Contains(found.Summary, "broken") {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d of two steps failed, want 1", failed)
	}

	if _, err := l.db.Exec(t.Context(), `UPDATE releases SET evidence = jsonb_build_object('check', jsonb_build_object('outcome', 'running', 'run', 'of one that died', 'content', content,
		'by', 'author-1', 'started_at', now() - interval '1 hour', 'beat_at', now() - interval '1 hour')) WHERE id = $1`, c.ID); err != nil {
		t.Fatal(err)
	}
	before := ran.Load()
	_, ended, err := l.Start(t.Context(), author, c.ID, stepCheck, Period{})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	end <- Found{Outcome: Passed}
	<-ended
	if ran.Load() != before+1 || l.must(l.Get(t.Context(), c.ID)).State != StateVerified {
		t.Error("what died is waited for")
	}
}

// When control stops, its steps end, and say so.
func TestStepsEndWithControl(t *testing.T) {
	l, begun, _, _ := slow(t)
	r := l.draft("stopping")
	s, err := NewService(t.Context(), l.o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if _, _, err := s.Start(t.Context(), author, r.ID, stepCheck, Period{}); err != nil {
		t.Fatal(err)
	}
	<-begun
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	found := l.must(l.Get(t.Context(), r.ID)).Evidence.Steps[stepCheck]
	if found.Outcome != Failed || !strings.Contains(found.Summary, "interrupted") {
		t.Errorf("%+v", found)
	}
	if _, _, err := s.Start(t.Context(), author, r.ID, stepCheck, Period{}); err == nil {
		t.Error("a step begins while control stops")
	}
}
