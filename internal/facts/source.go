package facts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

const (
	entryLife  = 10 * time.Minute       // how long Redis keeps an entry nobody asks for
	redisLimit = 50 * time.Millisecond  // how long a decision waits for Redis
	redisPause = 500 * time.Millisecond // for how long Redis is left alone after it failed
)

// Source answers with facts: from Redis where Postgres says that they are still
// true, else from Postgres. It is safe for concurrent use.
type Source struct {
	pool       *pgxpool.Pool
	redis      redis.UniversalClient // nil: none
	deployment *feed.Deployment

	retryAt atomic.Int64 // Redis is not asked before this time (Unix nanoseconds)
	counts  Counts
}

// Counts says where facts came from since the start.
type Counts struct {
	Redis    atomic.Uint64 // an entry that Postgres found still true
	Stale    atomic.Uint64 // an entry that something touched since
	Rubbish  atomic.Uint64 // an entry that could not be read
	Postgres atomic.Uint64 // read whole
	Failed   atomic.Uint64 // could not be had
}

// NewSource returns a Source over the primary database and, if not nil, Redis.
func NewSource(pool *pgxpool.Pool, cache redis.UniversalClient, d *feed.Deployment) *Source {
	return &Source{pool: pool, redis: cache, deployment: d}
}

// Counts returns the live counters.
func (s *Source) Counts() *Counts { return &s.counts }

// Facts returns what is known for r, at least as fresh as the moment of the
// call. A bad or future min_revision is a *authz.Problem; every other error
// matches authz.ErrUnavailable.
func (s *Source) Facts(ctx context.Context, r authz.Request) (authz.Facts, error) {
	l, err := s.fresh(ctx, askOf(r))
	if err != nil {
		s.counts.Failed.Add(1)
		return authz.Facts{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	if r.Context.MinRevision != "" {
		if err := s.checkRevision(r.Context.MinRevision, l.snapshot); err != nil {
			return authz.Facts{}, err
		}
	}
	return l.known.at(l.now, s.deployment.Token(l.snapshot)), nil
}

// checkRevision refuses a token that is not ours or lies in the future. Facts
// are those of now, so every token that was given out is reached.
func (s *Source) checkRevision(token string, now feed.Snapshot) error {
	wanted, err := s.deployment.ParseToken(token)
	if err == nil && !now.AtLeast(wanted) {
		err = errors.New("lies in the future")
	}
	if err != nil {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "min_revision: " + err.Error(),
			Fields: []authz.Field{{Pointer: "/context/min_revision", Detail: err.Error()}}}
	}
	return nil
}

// fresh reads what is known for a as of now.
func (s *Source) fresh(ctx context.Context, a ask) (loaded, error) {
	key := a.key(s.deployment)
	if k, read, ok := s.fromRedis(ctx, key); ok {
		l, unchanged, err := s.stillTrue(ctx, a, k, read)
		if err != nil {
			return loaded{}, err
		}
		if unchanged {
			s.counts.Redis.Add(1)
			return l, nil
		}
		s.counts.Stale.Add(1)
	}
	l, err := load(ctx, s.pool, a)
	if err != nil {
		return loaded{}, err
	}
	s.counts.Postgres.Add(1)
	s.toRedis(ctx, key, l)
	return l, nil
}

// stillTrue asks Postgres whether what k rests on was written since it was
// read, and gives k the present time and position if it was not.
func (s *Source) stillTrue(ctx context.Context, a ask, k known, read feed.Snapshot) (loaded, bool, error) {
	l := loaded{known: k}
	practice := k.Practice
	if practice == "" {
		practice = a.practice
	}
	var (
		snapshot  string
		unchanged bool
	)
	err := s.pool.QueryRow(ctx, selectUnchanged, read.String(), read.Oldest(), a.client, practice, a.user).
		Scan(&l.now, &snapshot, &unchanged)
	if err != nil {
		return loaded{}, false, fmt.Errorf("check cached facts: %w", err)
	}
	if l.snapshot, err = feed.ParseSnapshot(snapshot); err != nil {
		return loaded{}, false, fmt.Errorf("check cached facts: %w", err)
	}
	return l, unchanged && l.snapshot.AtLeast(read), nil
}

func (s *Source) fromRedis(ctx context.Context, key string) (known, feed.Snapshot, bool) {
	if !s.redisUp() {
		return known{}, feed.Snapshot{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, redisLimit)
	defer cancel()
	raw, err := s.redis.Get(ctx, key).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return known{}, feed.Snapshot{}, false
	case err != nil:
		s.redisFailed(ctx, err)
		return known{}, feed.Snapshot{}, false
	}
	k, read, ok := decodeEntry(s.deployment, key, raw)
	if !ok {
		s.counts.Rubbish.Add(1)
	}
	return k, read, ok
}

func (s *Source) toRedis(ctx context.Context, key string, l loaded) {
	if !s.redisUp() {
		return
	}
	raw, err := encodeEntry(s.deployment, key, l)
	if err != nil {
		slog.ErrorContext(ctx, "facts are not cached", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisLimit)
	defer cancel()
	if err := s.redis.Set(ctx, key, raw, entryLife).Err(); err != nil {
		s.redisFailed(ctx, err)
	}
}

// redisUp reports whether Redis is there and did not just fail: a slow Redis
// must cost one decision its limit, not every decision.
func (s *Source) redisUp() bool {
	return s.redis != nil && time.Now().UnixNano() >= s.retryAt.Load()
}

func (s *Source) redisFailed(ctx context.Context, err error) {
	if errors.Is(err, context.Canceled) {
		return // the caller went away
	}
	s.retryAt.Store(time.Now().Add(redisPause).UnixNano())
	slog.WarnContext(ctx, "redis is left alone for a moment; facts come from Postgres", "error", err)
}
