package release

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/record"

	"github.com/google/uuid"
)

// Recorded is where a replay reads decisions: a record.Stream of the database,
// or a record.File.
type Recorded interface {
	Next(ctx context.Context, b *record.Bodies) error
	Settings(ctx context.Context, digest []byte) ([]byte, error)
	Progress() (done, total int64)
}

// ReplayOptions say how to replay. The zero value is sensible.
type ReplayOptions struct {
	Against  *pdp.Engine // decides what was before; nil: what is on record
	Examples int         // ids of each group, 1 to MaxExamples; 0: 5
	Workers  int         // decisions that are made at once; 0: as many as there are processors
	// Progress is told now and then how far the replay is, in the source's own
	// measure: decisions of a database, bytes of a file.
	Progress func(done, total int64)
}

// MaxExamples is how many example ids a group may have.
const MaxExamples = 100

// ReplayReport says what a candidate would have answered to recorded questions
// on their recorded facts. It holds ids and no other data of a person, and the
// same records give the same report.
type ReplayReport struct {
	Candidate string `json:"candidate"`
	Against   string `json:"against,omitempty"` // the policy that decided what was before; absent: what is on record

	Read      int64 `json:"read"`     // decisions that were looked at
	Replayed  int64 `json:"replayed"` // of them: decided again
	Unchanged int64 `json:"unchanged"`
	Gained    Tally `json:"gained"` // denied before, allowed by the candidate
	Lost      Tally `json:"lost"`   // allowed before, denied by the candidate
	Reason    Tally `json:"reason"` // the same answer with another code or other bases

	Groups      []ReplayGroup  `json:"groups"`
	Actions     []ReplayAction `json:"actions"`
	NotReplayed []Skipped      `json:"not_replayed"`
	// Slow lists actions of which OPA's evaluator decided some, since the
	// candidate has no certified program for them: slower, not less exact.
	Slow []SlowAction `json:"slow"`
}

// Changed is how many decisions came out otherwise.
func (r *ReplayReport) Changed() int64 {
	return r.Gained.Decisions + r.Lost.Decisions + r.Reason.Decisions
}

// Tally counts decisions, and the different members (or portal logins) and
// clients in them.
type Tally struct {
	Decisions int64 `json:"decisions"`
	Members   int   `json:"members"`
	Clients   int   `json:"clients"`
	AtLeast   bool  `json:"at_least,omitempty"` // members or clients are more than were counted
}

// ReplayGroup is decisions of an action that changed in the same way.
type ReplayGroup struct {
	Change string `json:"change"` // "gained", "lost" or "reason"
	Action string `json:"action"`
	Before Answer `json:"before"`
	After  Answer `json:"after"`
	Tally
	Examples []uuid.UUID `json:"examples"` // of the decisions: the smallest ids
}

// Answer is a decision without its sentences.
type Answer struct {
	Allow bool     `json:"decision"`
	Code  string   `json:"code"`
	Bases []string `json:"bases"`
}

// ReplayAction counts the decisions of an action; "" stands for those that the
// candidate does not know.
type ReplayAction struct {
	Action   string `json:"action"`
	Replayed int64  `json:"replayed"`
	Gained   int64  `json:"gained"`
	Lost     int64  `json:"lost"`
	Reason   int64  `json:"reason"`
}

// Skipped is recorded decisions that cannot be replayed, and why not.
type Skipped struct {
	Why       string `json:"why"`
	Decisions int64  `json:"decisions"`
}

// SlowAction counts decisions that OPA's evaluator made.
type SlowAction struct {
	Action    string `json:"action"`
	Decisions int64  `json:"decisions"`
}

// Replay decides every decision of source again with the candidate, on the
// facts that are on record with it. What the record does not hold is not
// guessed: such decisions are counted by the reason. A body that cannot be read
// is an error, since a report must be whole.
//
// It holds a bounded number of decisions at a time.
func Replay(ctx context.Context, source Recorded, candidate *pdp.Engine, o ReplayOptions) (*ReplayReport, error) {
	o.Workers = cmp.Or(o.Workers, runtime.GOMAXPROCS(0))
	o.Examples = min(cmp.Or(o.Examples, 5), MaxExamples)
	r := &replay{source: source, options: o, settings: settingsOnRecord{source: source}}
	var err error
	if r.candidate, err = newJudge(ctx, candidate); err != nil {
		return nil, err
	}
	if o.Against != nil {
		if r.against, err = newJudge(ctx, o.Against); err != nil {
			return nil, err
		}
	}
	counts, err := r.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return r.report(counts), nil
}

type replay struct {
	source             Recorded
	options            ReplayOptions
	candidate, against *judge // against is nil where the record says what was before
	settings           settingsOnRecord
}

// run lets workers decide what one goroutine reads.
func (r *replay) run(ctx context.Context) (*counts, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	free := make(chan *record.Bodies, 2*r.options.Workers)
	for range cap(free) {
		free <- &record.Bodies{}
	}
	full := make(chan *record.Bodies, cap(free))
	var reading, working sync.WaitGroup
	reading.Go(func() {
		defer close(full)
		for b := range free {
			if err := r.source.Next(ctx, b); err != nil {
				if !errors.Is(err, io.EOF) {
					stop(err)
				}
				return
			}
			full <- b
		}
	})
	reading.Go(func() { r.tell(ctx) })
	workers := make([]*worker, r.options.Workers)
	for i := range workers {
		w := &worker{replay: r, counts: newCounts(r.options.Examples)}
		workers[i] = w
		working.Go(func() {
			for b := range full {
				if ctx.Err() == nil {
					if err := w.all(ctx, b); err != nil {
						stop(err)
					}
				}
				free <- b
			}
		})
	}
	working.Wait()
	err := context.Cause(ctx)
	stop(nil)
	reading.Wait()
	if err != nil {
		return nil, err
	}
	sum := workers[0].counts
	for _, w := range workers[1:] {
		sum.add(w.counts)
	}
	return sum, sum.fault()
}

// tell reports progress until ctx ends.
func (r *replay) tell(ctx context.Context) {
	if r.options.Progress == nil {
		return
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.options.Progress(r.source.Progress())
		}
	}
}

// worker decides; each has counts of its own.
type worker struct {
	*replay
	*counts
	view    record.View
	rebuilt record.Rebuilt
}

func (w *worker) all(ctx context.Context, b *record.Bodies) error {
	for body := range b.All() {
		if err := w.view.Read(body); err != nil {
			return fmt.Errorf("%w: 'chartgate record verify' says what is damaged", err)
		}
		if err := w.one(ctx); err != nil {
			return fmt.Errorf("decision %s: %w", w.view.ID, err)
		}
	}
	return nil
}

// one decides what is in the view again.
func (w *worker) one(ctx context.Context) error {
	v := &w.view
	w.read++
	if why := apart(v); why != "" {
		w.skipped[why]++
		return nil
	}
	settings, err := w.settings.of(ctx, v.SettingsDigest)
	if err != nil {
		return err
	}
	for _, j := range []*judge{w.candidate, w.against} {
		if why := j.lacks(settings); why != "" {
			w.skipped[why]++
			return nil
		}
	}
	w.rebuilt.Fill(v)
	w.rebuilt.Facts.Settings = settings.exact
	after, slow, err := w.candidate.decide(ctx, v, &w.rebuilt, settings)
	if err != nil {
		return err
	}
	action := w.candidate.named(w.rebuilt.Request.Action)
	if slow {
		w.slow[action]++
	}
	if w.against == nil {
		w.compare(action, v, recorded(v, after), after)
		return nil
	}
	before, _, err := w.against.decide(ctx, v, &w.rebuilt, settings)
	if err != nil {
		return err
	}
	w.compare(action, v, before, after)
	return nil
}

// Why decisions stand apart: no policy on Chartgate's facts made them.
const (
	whyOwnBundle   = "a bundle of one's own decided it: its input is not kept"
	whyList        = "it is a list, not one decision: lists of an edit are seen in its blast radius"
	whyUnavailable = "it could not be decided: facts or policy could not be had"
)

func apart(v *record.View) string {
	switch {
	case string(v.Code) == authz.CodeListed && !v.Replayable():
		return whyList
	case !v.Replayable():
		return whyOwnBundle
	case string(v.Code) == authz.CodeUnavailable:
		return whyUnavailable
	}
	return ""
}
