package facts

import (
	"context"
	"slices"
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
	convoy    = 16              // how many reads go to the database together at most
)

// board finds a flight for each of list: one that is on its way and began late
// enough, else a new one. New ones are read together. It returns how many are
// shared with others.
func (f *flights) board(ctx context.Context, follower *feed.Follower, list []missing, read func(ctx context.Context, list []*flight, landed func())) (shared int) {
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
	for together := range slices.Chunk(own, convoy) {
		f.aloft.Go(func() { f.fly(context.WithoutCancel(ctx), together, read) })
	}
	return len(list) - len(own)
}

func (f *flights) fly(ctx context.Context, list []*flight, read func(ctx context.Context, list []*flight, landed func())) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	read(ctx, list, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, one := range list {
			if f.running[one.ask] == one {
				delete(f.running, one.ask)
			}
			close(one.done)
		}
	})
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
