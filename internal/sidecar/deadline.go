package sidecar

import (
	"context"
	"sync"
	"time"
)

// decideTimeout is how long a call may take. Whoever waits longer is better
// served by an error.
const decideTimeout = 5 * time.Second

// deadlined is the context of one call. Its timer is started by the first who
// waits for it: a decision from memory never does.
type deadlined struct {
	parent context.Context
	at     time.Time

	mu    sync.Mutex
	ended bool
	timed context.Context // with a timer; nil until somebody waits
	stop  context.CancelFunc
}

// newDeadline begins the time of a call. Who made it must call end.
func newDeadline(parent context.Context, now time.Time) *deadlined {
	return &deadlined{parent: parent, at: now.Add(decideTimeout)}
}

func (d *deadlined) Deadline() (time.Time, bool) { return d.at, true }

func (d *deadlined) Done() <-chan struct{} { return d.timer().Done() }

// Value is asked by contexts that are made of this one: those of a context with
// a timer need no goroutine to hear of its end.
func (d *deadlined) Value(key any) any { return d.timer().Value(key) }

// Err does not look at the clock: what takes long waits for something.
func (d *deadlined) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.timed != nil:
		return d.timed.Err()
	case d.ended:
		return context.Canceled
	}
	return d.parent.Err()
}

func (d *deadlined) timer() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.stop = context.WithDeadline(d.parent, d.at)
		if d.ended {
			d.stop()
		}
	}
	return d.timed
}

// end says that the call is over.
func (d *deadlined) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.stop != nil {
		d.stop()
	}
}
