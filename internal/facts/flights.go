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
}

type flight struct {
	began time.Duration
	done  chan struct{}
	l     loaded
	err   error
}

// readLimit bounds a shared read, which no caller's context ends.
const readLimit = 2 * time.Second

// share runs read, or waits for one that is on its way and began after since.
func (f *flights) share(ctx context.Context, follower *feed.Follower, a ask, since time.Duration, read func(context.Context) (loaded, error)) (loaded, bool, error) {
	f.mu.Lock()
	own, ok := f.running[a]
	joined := ok && own.began > since
	if !joined {
		own = &flight{began: follower.Now(), done: make(chan struct{})}
		f.running[a] = own
		go f.fly(context.WithoutCancel(ctx), a, own, read)
	}
	f.mu.Unlock()
	select {
	case <-own.done:
		return own.l, joined, own.err
	case <-ctx.Done():
		return loaded{}, joined, ctx.Err()
	}
}

func (f *flights) fly(ctx context.Context, a ask, own *flight, read func(context.Context) (loaded, error)) {
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	own.l, own.err = read(ctx)
	f.mu.Lock()
	if f.running[a] == own {
		delete(f.running, a)
	}
	f.mu.Unlock()
	close(own.done)
}
