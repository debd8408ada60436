package facts

import (
	"context"
	"errors"
	"fmt"
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

// entry is what Redis holds for a question, and the position of the feed at
// which it was read. The caller judges whether it still holds.
type entry struct {
	known known
	at    feed.Snapshot
	ok    bool
}

// keysOf returns where the entries of list stand, in its order.
func keysOf(list []missing, identity string) []string {
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].ask.key(identity)
	}
	return keys
}

// get returns what stands under keys, in their order; nil where Redis cannot be had.
func (c *sharedCache) get(ctx context.Context, keys []string) []any {
	if !c.up() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, redisLimit)
	defer cancel()
	values, err := c.redis.MGet(ctx, keys...).Result()
	if err == nil && len(values) != len(keys) {
		err = fmt.Errorf("%d values for %d keys", len(values), len(keys))
	}
	if err != nil {
		c.failed(ctx, err)
		return nil
	}
	return values
}

// read returns the entries that were found under keys. A value that is no text is none.
func (c *sharedCache) read(keys []string, values []any) []entry {
	entries := make([]entry, len(keys))
	for i, value := range values {
		raw, is := value.(string)
		if !is {
			continue
		}
		e := &entries[i]
		if e.known, e.at, e.ok = decodeEntry(c.deployment, keys[i], raw); !e.ok {
			c.counts.Rubbish.Add(1)
		}
	}
	return entries
}

// put keeps what flights brought.
func (c *sharedCache) put(ctx context.Context, list []*flight, identity string) {
	if !c.up() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisLimit)
	defer cancel()
	pipe := c.redis.Pipeline()
	for _, f := range list {
		if f.err == nil {
			key := f.ask.key(identity)
			pipe.Set(ctx, key, encodeEntry(c.deployment, key, f.l), entryLife)
		}
	}
	if pipe.Len() == 0 {
		return
	}
	if _, err := pipe.Exec(ctx); err != nil {
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
