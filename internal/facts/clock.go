package facts

import (
	"sync/atomic"
	"time"
)

// steadyClock keeps the time of facts from going backwards, so that a step of
// the primary's clock never brings an ended grant back. Its zero value is ready.
type steadyClock struct{ lower, upper atomic.Int64 }

// atLeast returns bounds that are not before any that it returned before.
func (c *steadyClock) atLeast(lower, upper time.Time) (time.Time, time.Time) {
	return raise(&c.lower, lower), raise(&c.upper, upper)
}

func raise(highest *atomic.Int64, t time.Time) time.Time {
	now := t.UnixMicro()
	for {
		seen := highest.Load()
		if now <= seen {
			return time.UnixMicro(seen).UTC()
		}
		if highest.CompareAndSwap(seen, now) {
			return t
		}
	}
}
