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

	lookups []authz.Lookup  // what has to be found out for them; see Begin
	decided []authz.Verdict // room for those of a step
}

// Reset makes room for other answers where these stood.
func (a *Answers) Reset() {
	clear(a.Verdicts)
	clear(a.lookups)
	a.Verdicts, a.lookups, a.Errs = a.Verdicts[:0], a.lookups[:0], nil
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
	arrival := authz.Arrive()
	ahead := p.lookAhead(ctx, requests)
	return p.decideAll(ctx, len(requests), stop, answers, func(i int, v *authz.Verdict) (err error) {
		arrival.Begin(v, requests[i], requestID)
		timed := p.lap()
		facts, err := ahead.facts(i, &v.Request)
		set, err = p.judge(ctx, set, scope, facts, err, v, timed)
		return err
	})
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
