//go:build !linux

package feed

import "time"

var started = time.Now()

// BootTime reads the monotonic clock. Outside Linux it may not count suspends:
// such systems are for development only.
func BootTime() time.Duration { return time.Since(started) }
