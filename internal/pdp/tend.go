package pdp

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"chartgate/internal/feed"
)

const (
	tendEvery   = time.Second     // how soon a release that could not be loaded is tried again
	reportEvery = 5 * time.Second // how often control is told what runs, beside every change
)

// Report is what a sidecar tells control of itself.
type Report struct {
	Release  string `json:"release"` // that decides here; "" for the one that came with the program
	Content  string `json:"content"`
	Revision int64  `json:"revision"`
	Serial   int64  `json:"serial"` // of the activation that holds here
	// Prepared are contents that can decide at once, under the signature that is
	// asked for, each by its program unless it could not be certified.
	Prepared []string  `json:"prepared"`
	Refused  []Refusal `json:"refused"` // what is asked for and cannot be had
	Shadow   *Trial    `json:"shadow,omitempty"`
	LeaseMS  int64     `json:"lease_ms"` // how old the lease is; -1 before the first poll
}

// Refusal says why a release cannot decide here.
type Refusal struct {
	Release string `json:"release"`
	Content string `json:"content"`
	Why     string `json:"why"`
}

// Run prepares what is announced, keeps what decides, asks candidates and
// reports, until ctx ends. Nothing that decides waits for it.
func (r *Releases) Run(ctx context.Context) error {
	certify, report := make(chan struct{}, 1), make(chan struct{}, 1)
	var running sync.WaitGroup
	running.Go(func() { r.certifyAll(ctx, certify) })
	running.Go(func() { r.reportAll(ctx, report) })
	running.Go(func() { r.askAll(ctx) })
	kept, said := feed.Activation{Serial: -1}, ""
	for ctx.Err() == nil {
		r.prepare(ctx)
		if now := r.Activation(); now != kept && r.o.Dir != "" && now.Serial > 0 {
			if err := r.keep(); err != nil && err.Error() != said {
				said = err.Error()
				r.o.Log.ErrorContext(ctx, "the last known good policy cannot be kept on disk", "error", err)
			} else if err == nil {
				kept, said = now, ""
			}
		}
		for _, next := range []chan struct{}{certify, report} {
			select {
			case next <- struct{}{}:
			default:
			}
		}
		pause(ctx, tendEvery, r.kick)
	}
	running.Wait()
	return nil
}

// pause waits for a moment, or until it is woken.
func pause(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-woken:
	case <-ctx.Done():
	}
}

// prepare loads what the last known activation names, and lets a candidate that
// became ready join.
func (r *Releases) prepare(ctx context.Context) {
	r.mu.Lock()
	latest, set := r.latest, r.current.Load()
	r.mu.Unlock()
	for _, release := range []feed.Release{latest.Active, latest.Candidate} {
		if release.Revision > 0 {
			_ = r.await(ctx, release) // told by the attempt itself
		}
	}
	if set.candidate == nil && set.activation == latest && latest.Candidate.Revision > 0 {
		r.mu.Lock()
		ready := r.engine(latest.Candidate) != nil
		r.mu.Unlock()
		if ready {
			_ = r.take(latest)
		}
	}
}

// certifyAll lets programs decide, one engine at a time, since it takes seconds
// of a processor.
func (r *Releases) certifyAll(ctx context.Context, woken <-chan struct{}) {
	if r.o.Certify == nil {
		return
	}
	for ctx.Err() == nil {
		if next := r.untried(); next != nil {
			r.o.Certify(ctx, next)
			next.tried.Store(true)
			r.wake()
			continue
		}
		pause(ctx, tendEvery, woken)
	}
}

// untried returns the next engine to be certified: those that decide first.
func (r *Releases) untried() *Engine {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.current.Load()
	all := []*Engine{set.active, set.candidate}
	for _, l := range slices.Backward(r.held) {
		all = append(all, l.engine)
	}
	for _, e := range append(all, r.shipped) {
		if e != nil && !e.tried.Load() {
			return e
		}
	}
	return nil
}

// askAll lets candidates decide what was drawn.
func (r *Releases) askAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-r.samples:
			s.ask(ctx)
		}
	}
}

// reportAll tells control what runs here, at every change and every few seconds.
func (r *Releases) reportAll(ctx context.Context, woken <-chan struct{}) {
	if r.o.Control == nil || r.o.Sidecar == "" {
		return
	}
	said := ""
	var last time.Time
	var before Report
	for ctx.Err() == nil {
		report := r.Report()
		now := report
		now.Shadow, now.LeaseMS = nil, 0 // they always change
		if !reflect.DeepEqual(now, before) || time.Since(last) >= reportEvery {
			before, last = now, time.Now()
			err := r.o.Control.report(ctx, r.o.Sidecar, report)
			text := ""
			if err != nil && ctx.Err() == nil {
				text = err.Error()
				if text != said {
					r.o.Log.WarnContext(ctx, "control cannot be told what runs here", "error", err)
				}
			}
			said = text
		}
		pause(ctx, reportEvery, woken)
	}
}

// Report returns what runs here.
func (r *Releases) Report() Report {
	r.mu.Lock()
	set := r.current.Load()
	out := Report{Release: set.activation.Active.Name, Content: set.active.Revision(), Revision: set.activation.Active.Revision,
		Serial: set.activation.Serial, Prepared: []string{}, Refused: []Refusal{}, LeaseMS: -1}
	for _, of := range []feed.Release{r.latest.Active, r.latest.Candidate} {
		if of.Revision == 0 {
			continue
		}
		if e := r.engine(of); e != nil {
			if r.o.Certify == nil || e.tried.Load() {
				out.Prepared = append(out.Prepared, of.Content)
			}
		} else if f := r.flights[of]; f != nil && !f.at.IsZero() {
			out.Refused = append(out.Refused, Refusal{of.Name, of.Content, f.err.Error()})
		}
	}
	r.mu.Unlock()
	out.Shadow = set.trial.report()
	if r.o.Lease != nil {
		out.LeaseMS = max(-1, r.o.Lease().Milliseconds())
	}
	return out
}
