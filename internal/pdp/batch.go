package pdp

import (
	"context"
	"errors"

	"chartgate/internal/authz"
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
	answers := make([]Answer, 0, len(requests))
	verdicts := make([]authz.Verdict, 0, len(requests))
	decided := false
	for _, r := range requests {
		v, err := p.judge(ctx, scope, r, requestID)
		answers = append(answers, Answer{Verdict: v, Err: err})
		if err == nil || errors.Is(err, authz.ErrUnavailable) {
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
	if err := p.recorder.Record(ctx, verdicts...); err != nil {
		return nil, err
	}
	return answers, nil
}
