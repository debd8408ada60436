package control

import (
	"context"
	"fmt"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
)

// authority answers "may I?" for one call, with the policy that decides
// everywhere else, on the facts that the call's own transaction sees.
//
// A decision that leads to a change is on record in the change's transaction.
// Whatever goes wrong takes that record back with the rest, so what was decided
// is written again, by recordUndone, before the call is answered (promise P3).
// It is for one goroutine.
type authority struct {
	policies   Policies
	deployment *feed.Deployment
	requestID  string
	reads      bool // nothing is written in the transaction: see recordRead

	tx       pgx.Tx          // the last one
	policy   Policy          // that is active in it
	verdicts []authz.Verdict // what was decided in it, in the order in which it was asked
}

// May decides r on what tx sees. A call that begins again, after a deadlock,
// asks again; what its first attempt decided led to nothing.
func (a *authority) May(ctx context.Context, tx pgx.Tx, r authz.Request) (authz.Verdict, error) {
	if tx != a.tx || a.policy == nil {
		policy, err := a.policies(ctx, tx, !a.reads)
		if err != nil {
			return authz.NewVerdict(r, "", a.requestID), err
		}
		a.tx, a.policy, a.verdicts = tx, policy, nil
	}
	v := authz.NewVerdict(r, a.policy.Revision(), a.requestID)
	var err error
	if v.Facts, err = facts.Load(ctx, tx, a.deployment, v.Request); err != nil {
		return v, err
	}
	if v.Exact, err = a.policy.Evaluate(ctx, v.Request, v.Facts); err != nil {
		return v, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	v.Shown = v.Exact
	a.verdicts = append(a.verdicts, v)
	if a.reads {
		return v, nil
	}
	if err := record.AppendDecision(ctx, tx, v); err != nil {
		return v, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	return v, nil
}

// Listed takes the entry of a page of a list, which is on record like what was
// decided. Lists are made by calls that read.
func (a *authority) Listed(v authz.Verdict) {
	v.RequestID = a.requestID
	a.verdicts = append(a.verdicts, v)
}

// recordRead puts on record what a call decided that only read, in a snapshot
// in which nothing can be written.
func (a *authority) recordRead(ctx context.Context, recorder Recorder) error {
	if len(a.verdicts) == 0 {
		return nil
	}
	return putOnRecord(ctx, recorder, a.verdicts)
}

// recordTimeout is how long a call waits for its entries. It is no part of the
// time that the caller gave: they are written also when he has gone.
const recordTimeout = 5 * time.Second

func putOnRecord(ctx context.Context, recorder Recorder, verdicts []authz.Verdict) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer stop()
	return recorder.Record(ctx, verdicts...)
}

// Evaluate decides by the policy of the last transaction that was asked about,
// for what is shown beside a decision.
func (a *authority) Evaluate(ctx context.Context, r authz.Request, f authz.Facts) (authz.Decision, error) {
	if a.policy == nil {
		return authz.Decision{}, fmt.Errorf("%w: nothing was asked yet", authz.ErrUnavailable)
	}
	return a.policy.Evaluate(ctx, r, f)
}

// recordUndone puts on record what was decided in a transaction that did not
// commit. Each decision gets a new id, since nobody can be sure that a commit
// which failed did not happen.
func (a *authority) recordUndone(ctx context.Context, recorder Recorder) error {
	if len(a.verdicts) == 0 {
		return nil
	}
	for i := range a.verdicts {
		v := &a.verdicts[i]
		v.ID = authz.NewVerdict(v.Request, v.Release, v.RequestID).ID
	}
	return putOnRecord(ctx, recorder, a.verdicts)
}

// first is the decision that a call is about, if it came to one.
func (a *authority) first() (authz.Verdict, bool) {
	if len(a.verdicts) == 0 {
		return authz.Verdict{}, false
	}
	return a.verdicts[0], true
}
