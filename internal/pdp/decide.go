package pdp

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"chartgate/internal/authz"
)

// FactSource says what is known for a request, at least as fresh as the call.
type FactSource interface {
	Facts(ctx context.Context, r authz.Request) (authz.Facts, error)
}

// AtHand is a FactSource that can say what it knows without waiting.
type AtHand interface {
	// AtHand returns what Facts would say of questions that have arrived already,
	// from memory alone: false where something would have to be read. It is nil
	// where everything would.
	AtHand() func(r *authz.Request) (authz.Facts, bool)
}

// Together is a FactSource that can be asked about many at once.
type Together interface {
	// Together brings what Facts would say of questions that have all arrived. It
	// yields the places in list of those that have their facts or their error by
	// then, each place once.
	Together(ctx context.Context, list []authz.Lookup) iter.Seq[[]int]
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

// PDP decides. Its policies can be replaced at any time; a decision uses those
// that it began with.
type PDP struct {
	releases *Releases
	facts    FactSource
	recorder Recorder
	took     func(part string, d time.Duration) // nil: nobody listens
}

// New returns a PDP that decides with engine on facts and records to recorder.
func New(engine *Engine, facts FactSource, recorder Recorder) *PDP {
	return Follow(newReleases(fixed(engine)), facts, recorder)
}

// Follow returns a PDP that decides with the releases that are activated.
func Follow(releases *Releases, facts FactSource, recorder Recorder) *PDP {
	return &PDP{releases: releases, facts: facts, recorder: recorder}
}

// Engine returns the engine that decides now; of a candidate's share of the
// practices, the candidate does.
func (p *PDP) Engine() *Engine { return p.releases.current.Load().active }

// Policies returns who decides on facts that were read together with this
// activation's serial (authz.Facts). An error matches authz.ErrUnavailable.
func (p *PDP) Policies(ctx context.Context, activation int64) (*Policies, error) {
	return p.releases.at(ctx, activation)
}

// Now returns who decides, for what is answered of the policy alone.
func (p *PDP) Now(ctx context.Context) (*Policies, error) {
	facts, err := p.facts.Facts(ctx, authz.Request{}) // they vouch for the policies
	if err != nil {
		return nil, err
	}
	return p.releases.at(ctx, facts.Activation)
}

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
	v.Begin(r, requestID)
	timed := p.lap()
	facts, err := p.facts.Facts(ctx, v.Request)
	if _, err := p.judge(ctx, nil, scope, facts, err, v, timed); err != nil {
		return *v, err
	}
	timed = p.lap()
	if err := p.recorder.Record(ctx, room[:]...); err != nil {
		return authz.Verdict{}, err
	}
	timed.done(PartRecord)
	return *v, nil
}

// judge decides without recording, on facts, or fails where it is known why there
// are none: by set, or by the policies of the time where that is nil. It returns
// which they were. On an error the verdict says what was asked, and denies.
func (p *PDP) judge(ctx context.Context, set *Policies, scope Scope, facts authz.Facts, err error, v *authz.Verdict, timed *lap) (*Policies, error) {
	if err == nil && set == nil { // after the facts: what vouches for them vouches for the policies too
		set, err = p.releases.at(ctx, facts.Activation)
	}
	if err != nil {
		v.Release, v.Named = p.Engine().Revision(), p.Engine().Revision()
		return set, err
	}
	timed.done(PartFacts)
	return set, p.judgeOn(ctx, set, scope, facts, v, timed)
}

// judgeOn is judge by set.
func (p *PDP) judgeOn(ctx context.Context, set *Policies, scope Scope, facts authz.Facts, v *authz.Verdict, timed *lap) error {
	if facts.Practice != "" && !scope.Covers(facts.Practice) {
		facts = facts.Hidden()
	}
	v.Facts = facts
	engine := set.of(&v.Request, &v.Facts)
	v.Release, v.Named = engine.Revision(), engine.Revision()
	program := set.leading(engine)
	if !engine.follow(program, v) {
		span := authz.Always
		exact, err := engine.evaluate(ctx, &v.Request, &v.Facts, &span)
		if err != nil {
			return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		}
		shown, named, err := set.shown(ctx, engine, &v.Request, &v.Facts, exact, &span)
		if err != nil {
			return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		}
		v.Exact, v.Shown, v.Named = exact, shown, named
		engine.lead(program, v, span)
	}
	timed.done(PartEvaluate)
	if set.trial != nil {
		set.trial.draw(engine, v)
	}
	return nil
}
