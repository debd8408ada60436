package facts

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"chartgate/internal/feed"

	"github.com/redis/go-redis/v9"
)

const (
	entryLife  = 10 * time.Minute       // how long Redis keeps an entry nobody asks for
	redisLimit = 50 * time.Millisecond  // how long a decision waits for Redis
	redisPause = 500 * time.Millisecond // for how long Redis is left alone after it failed
)

// sharedCache keeps what was read in Redis, for other sidecars and for the next
// start. Whatever goes wrong with it is a miss.
type sharedCache struct {
	redis      redis.UniversalClient
	deployment *feed.Deployment
	counts     *Counts
	retryAt    atomic.Int64 // Redis is not asked before this time (Unix nanoseconds)
}

// get returns the entry of a, and the position of the feed at which it was
// read. The caller judges whether it still holds.
func (c *sharedCache) get(ctx context.Context, a ask, identity string) (known, feed.Snapshot, bool) {
	if !c.up() {
		return known{}, feed.Snapshot{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, redisLimit)
	defer cancel()
	key := a.key(identity)
	raw, err := c.redis.Get(ctx, key).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return known{}, feed.Snapshot{}, false
	case err != nil:
		c.failed(ctx, err)
		return known{}, feed.Snapshot{}, false
	}
	k, at, ok := decodeEntry(c.deployment, key, raw)
	if !ok {
		c.counts.Rubbish.Add(1)
	}
	return k, at, ok
}

func (c *sharedCache) put(ctx context.Context, a ask, l loaded, identity string) {
	if !c.up() {
		return
	}
	key := a.key(identity)
	raw := encodeEntry(c.deployment, key, l)
	ctx, cancel := context.WithTimeout(ctx, redisLimit)
	defer cancel()
	if err := c.redis.Set(ctx, key, raw, entryLife).Err(); err != nil {
		c.failed(ctx, err)
	}
}

// up reports whether Redis did not just fail: a slow Redis must cost one
// decision its limit, not every decision.
func (c *sharedCache) up() bool { return time.Now().UnixNano() >= c.retryAt.Load() }

func (c *sharedCache) failed(ctx context.Context, err error) {
	if errors.Is(err, context.Canceled) {
		return // the caller went away
	}
	c.retryAt.Store(time.Now().Add(redisPause).UnixNano())
	slog.WarnContext(ctx, "redis is left alone for a moment; facts come from Postgres", "error", err)
}
