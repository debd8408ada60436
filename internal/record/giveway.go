package record

import (
	"context"
	"runtime"
	"syscall"
	"time"
)

// The shipper gives way to decisions: where this process is busy and the spool
// is shallow, a round is followed by a rest. What waits then comes to Postgres
// when there is time for it, or when the spool has filled so far that shipping
// may not wait any longer. Its rounds are short then: Postgres, which often has
// the same processors, takes 15 us for a decision, and whoever asks while it is
// at thousands waits for it.
const (
	shortRound = 512                    // decisions of a round before a rest
	restShare  = 15                     // a rest is at most so many times as long as the round before it
	shallow    = 8                      // no rest once an eighth of what the spool may hold waits
	busyFrom   = 0.20                   // of the CPU that the process may use: there is time enough below it
	busyWhole  = 0.40                   // and none to spare from here on
	restLook   = 50 * time.Millisecond  // how often it is looked at
	busyWindow = 200 * time.Millisecond // over how long
)

// load measures how busy the process is.
type load struct {
	at   time.Time
	used time.Duration
	busy float64
}

// measure returns how much of the CPU that it may use the process used lately,
// from 0 to 1.
func (l *load) measure() float64 {
	now := time.Now()
	if since := now.Sub(l.at); since >= busyWindow {
		used := cpuUsed()
		if !l.at.IsZero() {
			l.busy = float64(used-l.used) / float64(since) / float64(runtime.GOMAXPROCS(0))
		}
		l.at, l.used = now, used
	}
	return l.busy
}

// cpuUsed is the CPU time of this process so far.
func cpuUsed() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// leisure is how much shipping may wait, from 0 to 1: more the busier the process
// is, and less the more waits of what may wait at all.
func leisure(busy float64, waiting, most int64) float64 {
	pressure := min(1, max(0, (busy-busyFrom)/(busyWhole-busyFrom)))
	room := max(0, 1-float64(waiting)*shallow/float64(most))
	return pressure * room
}

// leisure measures it.
func (s *Shipper) leisure() float64 {
	return leisure(s.load.measure(), s.spool.stats.DepthBytes.Load(), s.spool.options.MaxBytes)
}

// most is how many decisions the next round may bring.
func (s *Shipper) most() uint64 {
	if s.leisure() > 0 {
		return shortRound
	}
	return batchRecords
}

// giveWay rests after a round that took so long, until there is time again.
func (s *Shipper) giveWay(ctx context.Context, round time.Duration) {
	began := time.Now()
	for ctx.Err() == nil {
		left := time.Duration(float64(round)*restShare*s.leisure()) - time.Since(began)
		if left <= 0 {
			return
		}
		pause(ctx, min(left, restLook), nil)
	}
}
