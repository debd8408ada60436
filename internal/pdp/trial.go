package pdp

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"chartgate/internal/authz"
)

// trial asks a candidate beside the active release, on a share of live
// decisions: which of the two decided does not matter, and no answer changes.
type trial struct {
	active, candidate *Engine
	samples           chan<- sample
	counts            *ReleaseCounts

	drawn, asked, differs, dropped atomic.Uint64

	mu   sync.Mutex
	seen map[difference]*Difference
}

// sample is a decision that the other policy is to make as well.
type sample struct {
	trial   *trial
	decided *Engine
	verdict authz.Verdict
}

const (
	sampleEvery    = 10  // one decision of so many is made by both
	maxSamples     = 256 // that wait; more are dropped, never waited for
	maxDifferences = 128 // kinds of them that are told apart
	maxExamples    = 3   // of each kind
)

// difference is a kind of them: the code of the active release, and the
// candidate's.
type difference struct{ action, from, to string }

// Difference is what a trial found of one kind.
type Difference struct {
	Action    string   `json:"action"`
	From      string   `json:"from"` // code of the active release; "" where it gave no decision
	To        string   `json:"to"`   // code of the candidate
	Count     uint64   `json:"count"`
	Decisions []string `json:"decisions"` // ids of a few of them
}

// of returns the trial that set needs: t itself where it asks the same two.
func (t *trial) of(r *Releases, set *Policies) *trial {
	if t != nil && t.active == set.active && t.candidate == set.candidate {
		return t
	}
	return &trial{active: set.active, candidate: set.candidate, samples: r.samples, counts: &r.counts, seen: map[difference]*Difference{}}
}

// draw takes a decision into the sample, sometimes.
func (t *trial) draw(decided *Engine, v *authz.Verdict) {
	if t.drawn.Add(1)%sampleEvery != 0 {
		return
	}
	s := sample{t, decided, *v}
	s.verdict.Request.Resource.Properties = maps.Clone(v.Request.Resource.Properties)
	select {
	case t.samples <- s:
	default:
		t.dropped.Add(1)
		t.counts.Dropped.Add(1)
	}
}

// ask lets the other policy decide, and notes a difference.
func (s sample) ask(ctx context.Context) {
	t, other := s.trial, s.trial.candidate
	if s.decided == t.candidate {
		other = t.active
	}
	d, err := other.Evaluate(ctx, s.verdict.Request, s.verdict.Facts)
	if ctx.Err() != nil {
		return
	}
	t.asked.Add(1)
	t.counts.Asked.Add(1)
	from, to := s.verdict.Exact.Code, d.Code
	if err != nil {
		to = ""
	}
	if from == to {
		return
	}
	if s.decided == t.candidate {
		from, to = to, from
	}
	t.differs.Add(1)
	t.counts.Differs.Add(1)
	t.note(difference{s.verdict.Request.Action, from, to}, s.verdict.ID.String())
}

func (t *trial) note(kind difference, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.seen[kind]
	if d == nil {
		if len(t.seen) >= maxDifferences {
			return // counted, not told apart: control knows by the sum
		}
		d = &Difference{Action: kind.action, From: kind.from, To: kind.to, Decisions: []string{}}
		t.seen[kind] = d
	}
	d.Count++
	if len(d.Decisions) < maxExamples {
		d.Decisions = append(d.Decisions, id)
	}
}

// Trial is what a trial found so far.
type Trial struct {
	Candidate string       `json:"candidate"` // content
	Asked     uint64       `json:"asked"`
	Differs   uint64       `json:"differs"`
	Dropped   uint64       `json:"dropped"`
	Examples  []Difference `json:"examples"`
}

// report returns what was found; nil where nothing is tried.
func (t *trial) report() *Trial {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out := &Trial{Candidate: t.candidate.Revision(), Asked: t.asked.Load(), Differs: t.differs.Load(), Dropped: t.dropped.Load(), Examples: []Difference{}}
	for _, d := range t.seen {
		copied := *d
		copied.Decisions = slices.Clone(d.Decisions)
		out.Examples = append(out.Examples, copied)
	}
	slices.SortFunc(out.Examples, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return out
}
