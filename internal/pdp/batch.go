package pdp

import (
	"context"
	"errors"

	"chartgate/internal/authz"

	"github.com/google/uuid"
)

// Answer is one answer of a batch: a verdict, or why there is none.
type Answer struct {
	Verdict authz.Verdict
	Err     error
}

// DecideAll answers several questions that arrived together, each as Decide
// would (DOMAIN rule 120), in order. It stops after the first answer for which
// stop returns true; stop may be nil. All of them become durable in one group.
// Where only some could not be decided, those carry their error and are on
// record as unavailable; the error returned is one that spoils the whole.
func (p *PDP) DecideAll(ctx context.Context, scope Scope, requests []authz.Request, requestID string, stop func(Answer) bool) ([]Answer, error) {
	var set *Policies // one for all: they arrived together
	return p.decideAll(ctx, len(requests), stop, func(i int) (v authz.Verdict, err error) {
		set, err = p.judge(ctx, set, scope, requests[i], requestID, &v)
		return v, err
	})
}

// DecideAllOwn is DecideAll with a user's own bundle, each answer as of
// DecideOwn. An input of nil is a question that cannot be asked: its answer is
// the zero verdict, which denies and is not on record.
func (p *PDP) DecideAllOwn(ctx context.Context, inputs []map[string]any, requestID string, stop func(Answer) bool) ([]Answer, error) {
	return p.decideAll(ctx, len(inputs), stop, func(i int) (authz.Verdict, error) {
		if inputs[i] == nil {
			return authz.Verdict{}, nil
		}
		return p.judgeOwn(ctx, inputs[i], requestID)
	})
}

func (p *PDP) decideAll(ctx context.Context, n int, stop func(Answer) bool, judge func(int) (authz.Verdict, error)) ([]Answer, error) {
	answers := make([]Answer, 0, n)
	verdicts := make([]authz.Verdict, 0, n)
	decided := false
	for i := range n {
		v, err := judge(i)
		answers = append(answers, Answer{Verdict: v, Err: err})
		if v.ID != uuid.Nil && (err == nil || errors.Is(err, authz.ErrUnavailable)) {
			verdicts = append(verdicts, v)
		}
		decided = decided || err == nil
		if stop != nil && stop(answers[len(answers)-1]) {
			break
		}
	}
	if !decided {
		if len(answers) == 0 {
			return nil, nil
		}
		return nil, answers[0].Err
	}
	if len(verdicts) == 0 {
		return answers, nil
	}
	if err := p.recorder.Record(ctx, verdicts...); err != nil {
		return nil, err
	}
	return answers, nil
}
