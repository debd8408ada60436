package pdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
)

// Releases holds the policies that decide and follows their activation. What
// decides is replaced by one atomic pointer, and only by a whole that was
// verified, compiled and asked its own checks; while the release that is active
// cannot be had, nothing decides (promises P2, P7).
type Releases struct {
	current atomic.Pointer[Policies]
	o       ReleaseOptions
	shipped *Engine
	floor   int64 // the activation that was known before this start: nothing older decides
	counts  ReleaseCounts
	failure atomic.Pointer[string] // why the release that is active does not decide here
	kick    chan struct{}          // there is work for Run
	samples chan sample
	gate    chan struct{} // held by the one decision that catches up

	mu       sync.Mutex
	latest   feed.Activation // as last read, whether or not it holds here
	accepted highest
	held     []*loaded // most recently used last
	flights  map[feed.Release]*flight
	tried    attempt // the last one to catch up
}

// attempt is what became of catching up with an activation, and when.
type attempt struct {
	serial int64
	at     time.Time
	err    error
}

// highest is how far a deployment's activations have come, as this sidecar
// knows: an older one is never taken, whoever offers it.
type highest struct{ serial, revision int64 }

// ReleaseOptions say where releases come from. Without Read, nothing is
// followed.
type ReleaseOptions struct {
	Shipped    *Engine // decides until the first activation
	Keys       *Keys
	Deployment string
	Read       func(context.Context) (feed.Activation, error)
	Dir        string                         // where the last known good is kept; "": nowhere
	Control    *Control                       // nil: there is none
	Certify    func(context.Context, *Engine) // lets programs decide; nil: OPA decides
	Shadow     *Shadow                        // looks at programs; may be nil
	Log        *slog.Logger

	// Of the reports to control.
	Sidecar string
	Lease   func() time.Duration // how old the lease is; -1ms before the first poll
}

// ReleaseCounts are numbers since the start.
type ReleaseCounts struct {
	Swaps    atomic.Uint64 // how often another release began to decide
	Refused  atomic.Uint64 // bundles that were refused
	Waited   atomic.Uint64 // decisions that waited for a release
	Unloaded atomic.Uint64 // decisions not made, because a release could not be loaded
	Asked    atomic.Uint64 // live decisions that candidate and active release both made
	Differs  atomic.Uint64 // of those: another code
	Dropped  atomic.Uint64 // of those drawn for it: not asked, since too many waited
}

// NewReleases returns what follows the activation. Hear must be among the
// listeners of the feed that the facts follow, and Run must be running.
func NewReleases(o ReleaseOptions) *Releases {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Keys == nil {
		o.Keys = &Keys{}
	}
	r := newReleases(&Policies{active: o.Shipped})
	r.o, r.shipped = o, o.Shipped
	if o.Read != nil {
		unread := "it was not read yet which release of the policy is active"
		r.failure.Store(&unread)
	}
	r.accepted = r.readAccepted()
	r.floor = r.accepted.serial
	return r
}

func newReleases(first *Policies) *Releases {
	r := &Releases{kick: make(chan struct{}, 1), samples: make(chan sample, maxSamples), gate: make(chan struct{}, 1), flights: map[feed.Release]*flight{}}
	r.current.Store(first)
	return r
}

// Counts returns the live counters.
func (r *Releases) Counts() *ReleaseCounts { return &r.counts }

// Activation returns the activation that holds here.
func (r *Releases) Activation() feed.Activation { return r.current.Load().activation }

// Says names the release that decides, for everybody to see, or says why the
// one that is active does not.
func (r *Releases) Says() string {
	if why := r.failure.Load(); why != nil {
		return *why
	}
	set := r.current.Load()
	if set.activation.Serial == 0 {
		return "the release that came with the program, " + set.active.Revision()
	}
	return fmt.Sprintf("release %s, %s, revision %d", set.activation.Active.Name, set.active.Revision(), set.activation.Active.Revision)
}

// Check returns why the release that is active does not decide here.
func (r *Releases) Check(context.Context) error {
	if why := r.failure.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// patience is how long a poll, or a decision, waits for a release that is being
// loaded. It is less than a poll may take.
const patience = time.Second

// Hear is a feed.Listener: it does not return before the release that is active
// decides here, so that the lease vouches for it as for the facts. Its error
// makes the poll not count.
func (r *Releases) Hear(ctx context.Context, news feed.News) error {
	heard := news.All
	for _, touch := range news.Touches {
		heard = heard || touch.Key.Kind == feed.KindRelease || touch.Key.Kind == feed.KindAll
	}
	if !heard {
		return nil
	}
	return r.follow(ctx)
}

// follow makes what is active now decide here.
func (r *Releases) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text := "the database does not say which release of the policy is active"
	a, err := r.o.Read(ctx)
	if err == nil {
		if err = r.obey(ctx, a); err == nil {
			r.failure.Store(nil)
			return nil
		}
		text = err.Error()
	}
	if old := r.failure.Swap(&text); old == nil || *old != text {
		r.o.Log.ErrorContext(ctx, "the active release of the policy does not decide here; nothing is decided", "error", err)
	}
	return err
}

// obey makes a decide here, once all that it lets decide is loaded.
func (r *Releases) obey(ctx context.Context, a feed.Activation) error {
	r.mu.Lock()
	now, last := r.current.Load().activation, r.accepted
	if a.Serial >= last.serial {
		r.latest = a
	}
	r.mu.Unlock()
	switch {
	case a.Serial < last.serial:
		return fmt.Errorf("the database names activation %d, %d was known here already: it went back; where a backup was restored on purpose, remove %s of --policy-dir", a.Serial, last.serial, acceptedFile)
	case a.Active.Revision < last.revision:
		return fmt.Errorf("the database activates revision %d of the policy, %d was known here already", a.Active.Revision, last.revision)
	case a.Serial == now.Serial && a != now:
		return fmt.Errorf("activation %d of the database is another one than activation %d here", a.Serial, now.Serial)
	case a == now:
		return nil
	}
	r.wake()
	if err := r.await(ctx, a.Active); err != nil {
		return err
	}
	if a.Stage == feed.StageShare {
		if err := r.await(ctx, a.Candidate); err != nil {
			return err
		}
	}
	return r.take(a)
}

// take swaps the policies. What a lets decide must be loaded; a candidate that
// decides nothing yet may join later.
func (r *Releases) take(a feed.Activation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.current.Load()
	if a.Serial < now.activation.Serial {
		return nil // somebody was quicker with a later one
	}
	next := &Policies{activation: a, active: r.shipped}
	if a.Serial > 0 {
		next.active = r.engine(a.Active)
	}
	next.candidate = r.engine(a.Candidate)
	if next.active == nil || a.Stage == feed.StageShare && next.candidate == nil {
		return errors.New("the release was put aside while it was loaded; try again")
	}
	if next.candidate != nil && a.Stage != feed.StagePrepare {
		next.trial = now.trial.of(r, next)
	}
	r.current.Store(next)
	if next.active != now.active {
		r.counts.Swaps.Add(1)
		r.o.Log.Info("another release of the policy decides", "release", a.Active.Name, "content", next.active.Revision(), "revision", a.Active.Revision, "serial", a.Serial)
	}
	r.accepted = highest{max(r.accepted.serial, a.Serial), max(r.accepted.revision, a.Active.Revision)}
	r.wake()
	return nil
}

// retryEvery is how long a failure to catch up, or to load, is believed.
const retryEvery = 250 * time.Millisecond

// at returns the policies for facts that were read together with serial; a
// serial newer than what decides here is caught up with first. Its error matches
// authz.ErrUnavailable and says why.
func (r *Releases) at(ctx context.Context, serial int64) (*Policies, error) {
	set := r.current.Load()
	if serial = max(serial, r.floor); serial <= set.activation.Serial {
		return set, nil
	}
	r.counts.Waited.Add(1)
	err := r.catchUp(ctx, serial)
	if set = r.current.Load(); serial <= set.activation.Serial {
		return set, nil
	}
	r.counts.Unloaded.Add(1)
	detail := "the active release of the policy does not decide here yet"
	if why := r.failure.Load(); err != nil && why != nil {
		detail = "the active release of the policy cannot be loaded here: " + *why
	}
	return nil, &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide", Detail: detail}
}

// atHand is at for facts that vouch for the policies too, without waiting: nil
// where at would.
func (r *Releases) atHand() *Policies {
	if set := r.current.Load(); r.floor <= set.activation.Serial {
		return set
	}
	return nil
}

// catchUp follows the activation for one decision; the others wait for it, and
// believe its failure for a moment if they need no later activation.
func (r *Releases) catchUp(ctx context.Context, serial int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case r.gate <- struct{}{}:
	case <-ctx.Done():
		return errors.New("it is being loaded")
	}
	defer func() { <-r.gate }()
	if r.current.Load().activation.Serial >= serial {
		return nil
	}
	r.mu.Lock()
	last := r.tried
	r.mu.Unlock()
	if last.err != nil && serial <= last.serial && time.Since(last.at) < retryEvery { // it says nothing of a later one
		return last.err
	}
	err := r.follow(context.WithoutCancel(ctx)) // others believe it, whoever leaves
	r.mu.Lock()
	r.tried = attempt{serial, time.Now(), err}
	r.mu.Unlock()
	return err
}

func (r *Releases) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}
