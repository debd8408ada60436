package feed

import (
	"context"
	"fmt"
	"time"
)

// The lease of promise P2. A sidecar uses what it remembers only while its last
// complete poll of the feed began less than its lease ago; a call that takes
// access away answers MaxLease+Margin after its commit. So a request that comes
// later meets memory that has heard of the change, on every sidecar, whatever
// Redis, the network or a paused process does, and nobody keeps a list of
// sidecars.
const (
	// MaxLease is the longest lease that a sidecar may use, and what every
	// writer waits for: it is compiled in, so that the two cannot differ while
	// a new setting is rolled out.
	MaxLease = 500 * time.Millisecond
	// Margin covers clocks that do not run at the same rate: 20% of the lease.
	Margin = MaxLease / 5
)

// CheckLease refuses a lease that is longer than writers wait for, or too short
// for a poll to keep it alive.
func CheckLease(lease, poll time.Duration) error {
	switch {
	case lease > MaxLease:
		return fmt.Errorf("lease %v: writers wait for %v, so no sidecar may use a longer one", lease, MaxLease)
	case poll < time.Millisecond:
		return fmt.Errorf("poll interval %v: at least 1ms", poll)
	case lease < 2*poll:
		return fmt.Errorf("lease %v with a poll every %v: the lease must be at least two polls long", lease, poll)
	}
	return nil
}

// AwaitTaken waits until no sidecar can answer on the strength of what a
// transaction that committed before the call took away. An error means that the
// wait was interrupted: the change is done, but must not be reported as
// acknowledged.
func AwaitTaken(ctx context.Context, clock Clock) error {
	until := clock() + MaxLease + Margin
	for {
		left := until - clock() // after a suspend the timer is late and the clock is right
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait until the change holds everywhere: %w", ctx.Err())
		}
	}
}
