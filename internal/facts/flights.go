package facts

import (
	"context"
	"sync"
	"time"

	"chartgate/internal/feed"
)

// flights lets questions that miss the same facts share one read, but only one
// that began less than a lease before they came: an older one may have seen
// what was taken away since (freshness, schedule 4).
type flights struct {
	mu      sync.Mutex
	running map[ask]*flight
	aloft   sync.WaitGroup
}

// flight is one read. It may be read from once it is done.
type flight struct {
	ask   ask
	began time.Duration
	done  chan struct{}
	l     loaded
	err   error
}

const (
	readLimit = 2 * time.Second // bounds a shared read, which no caller's context ends
	convoy    = 4               // how many reads go to the database together at most
)

// board finds a flight for each of list: one that is on its way and began late
// enough, else a new one. New ones are read together, the last of them before it
// returns where ctx leaves the time. It returns how many are shared with others.
func (f *flights) board(ctx context.Context, follower *feed.Follower, list []missing, read func(context.Context, []*flight)) (shared int) {
	var own []*flight
	f.mu.Lock()
	for i := range list {
		m := &list[i]
		there := f.running[m.ask]
		if there == nil || there.began <= m.since {
			there = &flight{ask: m.ask, began: follower.Now(), done: make(chan struct{})}
			f.running[m.ask] = there
			own = append(own, there)
		}
		m.flight = there
	}
	f.mu.Unlock()
	shared = len(list) - len(own)
	for len(own) > 0 {
		together := own[:min(len(own), convoy)]
		own = own[len(together):]
		if at, ok := ctx.Deadline(); ok && len(own) == 0 && time.Until(at) > readLimit {
			f.fly(ctx, together, read) // a goroutine of its own would grow its stack again
			break
		}
		f.aloft.Go(func() { f.fly(ctx, together, read) })
	}
	return shared
}

// fly reads list. Others may have come aboard, so that it does not end with ctx.
func (f *flights) fly(ctx context.Context, list []*flight, read func(context.Context, []*flight)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	read(ctx, list)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range list {
		if f.running[one.ask] == one {
			delete(f.running, one.ask)
		}
		close(one.done)
	}
}

// wait returns what was read, once it is.
func (f *flight) wait(ctx context.Context) (loaded, error) {
	select {
	case <-f.done:
		return f.l, f.err
	case <-ctx.Done():
		return loaded{}, ctx.Err()
	}
}
