package feed

import "time"

// Clock is a clock that only goes forward and counts the time for which the
// machine was suspended, which Go's own monotonic clock does not (freshness:
// a lease must end while the lid is closed). It counts from any fixed moment.
type Clock func() time.Duration
