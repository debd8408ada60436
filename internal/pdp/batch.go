package pdp

import (
	"context"
	"errors"
	"slices"

	"chartgate/internal/authz"

	"github.com/google/uuid"
)

// Answers are verdicts in the order of the questions, and of those that could
// not be decided, why. A batch that was stopped ends with the one that did.
type Answers struct {
	Verdicts []authz.Verdict
	Errs     map[int]error
}

// Reset makes room for other answers where these stood.
func (a *Answers) Reset() {
	clear(a.Verdicts)
	a.Verdicts, a.Errs = a.Verdicts[:0], nil
}

func (a *Answers) fail(i int, err error) {
	if a.Errs == nil {
		a.Errs = map[int]error{}
	}
	a.Errs[i] = err
}

// DecideAll answers several questions that arrived together, each as Decide
// would (DOMAIN rule 120), in order, into answers. It stops after the first for
// which stop returns true; stop may be nil. All of them become durable in one
// group. Where only some could not be decided, those carry their error and are
// on record as unavailable; the error returned is one that spoils the whole, and
// leaves no answers.
func (p *PDP) DecideAll(ctx context.Context, scope Scope, requests []authz.Request, requestID string, stop func(*authz.Verdict, error) bool, answers *Answers) error {
	var set *Policies // one for all: they arrived together
	atHand := p.atHand()
	return p.decideAll(ctx, len(requests), stop, answers, func(i int, v *authz.Verdict) (err error) {
		if set == nil || atHand == nil {
			set, err = p.judge(ctx, set, scope, requests[i], requestID, v)
			return err
		}
		v.Begin(requests[i], requestID)
		if facts, ok := atHand(&v.Request); ok {
			return p.judgeOn(ctx, set, scope, facts, v, p.lap())
		}
		*v = authz.Verdict{}
		_, err = p.judge(ctx, set, scope, requests[i], requestID, v)
		atHand = p.atHand() // that took its time
		return err
	})
}

// atHand returns what looks facts up without waiting, nil where that is not to be had.
func (p *PDP) atHand() func(*authz.Request) (authz.Facts, bool) {
	if source, ok := p.facts.(AtHand); ok {
		return source.AtHand()
	}
	return nil
}

// Asked is a question of one of many who ask at the same time.
type Asked struct {
	Scope     Scope
	Request   authz.Request
	RequestID string
}

// DecideAtHand answers those of several questions, of different callers, whose
// facts and policies need no waiting, each as Decide would, into answers. The
// others get the zero verdict, which is no answer: they are to be asked by
// Decide. All that are answered become durable in one group; an error leaves no
// answers.
func (p *PDP) DecideAtHand(ctx context.Context, asked []Asked, answers *Answers) error {
	answers.Reset()
	answers.Verdicts = slices.Grow(answers.Verdicts, len(asked))[:len(asked)]
	atHand := p.atHand()
	if atHand == nil || p.Engine().Program() == nil { // OPA takes its time
		return nil
	}
	for i := range asked {
		q, v := &asked[i], &answers.Verdicts[i]
		v.Begin(q.Request, q.RequestID)
		timed := p.lap()
		facts, ok := atHand(&v.Request)
		timed.done(PartFacts)
		set := p.releases.atHand() // after the facts, as in judge
		if ok = ok && set != nil; ok {
			err := p.judgeOn(ctx, set, q.Scope, facts, v, timed)
			ok = err == nil // by Decide it is an error, and is told as one
		}
		if !ok {
			*v = authz.Verdict{}
		}
	}
	timed := p.lap()
	if err := p.record(ctx, answers); err != nil {
		return err
	}
	timed.done(PartRecord)
	return nil
}

// record makes what answers hold durable, or leaves none.
func (p *PDP) record(ctx context.Context, answers *Answers) error {
	entries := answers.entries()
	if len(entries) == 0 {
		return nil
	}
	err := p.recorder.Record(ctx, entries...)
	if err != nil {
		answers.Reset()
	}
	return err
}

// DecideAllOwn is DecideAll with a user's own bundle, each answer as of
// DecideOwn. An input of nil is a question that cannot be asked: its answer is
// the zero verdict, which denies and is not on record.
func (p *PDP) DecideAllOwn(ctx context.Context, inputs []map[string]any, requestID string, stop func(*authz.Verdict, error) bool, answers *Answers) error {
	return p.decideAll(ctx, len(inputs), stop, answers, func(i int, v *authz.Verdict) (err error) {
		if inputs[i] != nil {
			*v, err = p.judgeOwn(ctx, inputs[i], requestID)
		}
		return err
	})
}

func (p *PDP) decideAll(ctx context.Context, n int, stop func(*authz.Verdict, error) bool, answers *Answers, judge func(int, *authz.Verdict) error) error {
	answers.Reset()
	answers.Verdicts = slices.Grow(answers.Verdicts, n)
	for i := range n {
		answers.Verdicts = answers.Verdicts[:i+1]
		v := &answers.Verdicts[i]
		err := judge(i, v)
		if err != nil {
			answers.fail(i, err)
		}
		if stop != nil && stop(v, err) {
			break
		}
	}
	if n := len(answers.Verdicts); n > 0 && len(answers.Errs) == n {
		err := answers.Errs[0]
		answers.Reset()
		return err
	}
	return p.record(ctx, answers)
}

// entries are the verdicts that go on record.
func (a *Answers) entries() []authz.Verdict {
	kept := func(i int) bool {
		return a.Verdicts[i].ID != uuid.Nil && (a.Errs[i] == nil || errors.Is(a.Errs[i], authz.ErrUnavailable))
	}
	for i := range a.Verdicts {
		if kept(i) {
			continue
		}
		var list []authz.Verdict
		for i := range a.Verdicts {
			if kept(i) {
				list = append(list, a.Verdicts[i])
			}
		}
		return list
	}
	return a.Verdicts
}
