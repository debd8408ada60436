package pdp

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
)

// FactSource says what is known for a request, at least as fresh as the call.
type FactSource interface {
	Facts(ctx context.Context, r authz.Request) (authz.Facts, error)
}

// Recorder makes decisions durable before it returns. It must not keep the
// list, which is used again.
type Recorder interface {
	Record(ctx context.Context, verdicts ...authz.Verdict) error
}

// Scope is which practices the asking service may ask about (DESIGN 11, Callers).
type Scope struct {
	All       bool
	Practices []string
}

// Covers reports whether practice lies in s.
func (s Scope) Covers(practice string) bool { return s.All || slices.Contains(s.Practices, practice) }

// PDP decides. Its engine can be replaced at any time; a decision uses the one
// that it began with.
type PDP struct {
	engine   atomic.Pointer[Engine]
	facts    FactSource
	recorder Recorder
	took     func(part string, d time.Duration) // nil: nobody listens
}

// New returns a PDP that decides with engine on facts and records to recorder.
func New(engine *Engine, facts FactSource, recorder Recorder) *PDP {
	p := &PDP{facts: facts, recorder: recorder}
	p.engine.Store(engine)
	return p
}

// Engine returns the engine that decides now.
func (p *PDP) Engine() *Engine { return p.engine.Load() }

// rooms hold decisions on their way, so that none is copied around.
var rooms = sync.Pool{New: func() any { return new([1]authz.Verdict) }}

// Decide answers one question: get facts, evaluate, record, answer. An error
// means that there is no answer; it matches authz.ErrUnavailable, or
// authz.ErrMalformed where the question itself is at fault.
func (p *PDP) Decide(ctx context.Context, scope Scope, r authz.Request, requestID string) (authz.Verdict, error) {
	room := rooms.Get().(*[1]authz.Verdict)
	defer func() {
		room[0] = authz.Verdict{}
		rooms.Put(room)
	}()
	v := &room[0]
	if err := p.judge(ctx, scope, r, requestID, v); err != nil {
		return *v, err
	}
	timed := p.lap()
	if err := p.recorder.Record(ctx, room[:]...); err != nil {
		return authz.Verdict{}, err
	}
	timed.done(PartRecord)
	return *v, nil
}

// judge decides without recording. On an error the verdict says what was
// asked, and denies.
func (p *PDP) judge(ctx context.Context, scope Scope, r authz.Request, requestID string, v *authz.Verdict) error {
	v.Begin(r, requestID)
	timed := p.lap()
	facts, err := p.facts.Facts(ctx, v.Request)
	engine := p.engine.Load() // after the facts: what vouches for them vouches for the release too
	v.Release = engine.Revision()
	if err != nil {
		return err
	}
	timed.done(PartFacts)
	if facts.Practice != "" && !scope.Covers(facts.Practice) {
		facts = facts.Hidden()
	}
	v.Facts = facts
	exact, err := engine.evaluate(ctx, &v.Request, &v.Facts)
	if err != nil {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	shown, err := engine.shown(ctx, &v.Request, &v.Facts, exact)
	if err != nil {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	timed.done(PartEvaluate)
	v.Exact, v.Shown = exact, shown
	return nil
}
