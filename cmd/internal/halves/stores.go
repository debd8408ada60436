package halves

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/record"
	"chartgate/internal/web"
)

// Each use has connections of its own, so that none waits behind another: a
// change holds one while it waits for its decision to be on record.
const (
	// connections is how many a half opens for its callers where DATABASE_URL
	// does not say (pool_max_conns): enough for 32 who wait for short queries.
	connections       = 16
	followConnections = 2 // to follow the feed: one polls, one listens
	recordConnections = 2 // to bring the record to Postgres
)

// openPool connects in role. The operator's pool_max_conns goes before most,
// where that is the callers' own.
func (h *Half) openPool(ctx context.Context, c Config, role string, most int32) (*pgxpool.Pool, error) {
	if most == connections && strings.Contains(c.DatabaseURL, "pool_max_conns=") {
		most = 0
	}
	pool, err := postgres.Open(ctx, c.DatabaseURL, role, most)
	if err != nil {
		return nil, err
	}
	h.closers = append(h.closers, pool.Close)
	return pool, nil
}

// openSpool keeps decisions on this host until they are in Postgres, to which
// they are brought as long as the half serves.
func (h *Half) openSpool(ctx context.Context, c Config, role string) (*record.Spool, error) {
	pool, err := h.openPool(ctx, c, role, recordConnections)
	if err != nil {
		return nil, err
	}
	spool, err := record.OpenSpool(c.SpoolDir, record.Options{SyncInterval: c.SpoolSync, Log: c.Log})
	if err != nil {
		return nil, err
	}
	h.closers = append(h.closers, func() {
		if err := spool.Close(); err != nil {
			c.Log.Error("the record's spool was not closed well", "error", err)
		}
	})
	h.services = append(h.services, record.NewShipper(spool, pool).Run)
	return spool, nil
}

// openRedis returns nil where there is none. It does not connect: a Redis that
// is down is no fault (promise P6).
func (h *Half) openRedis(c Config) (redis.UniversalClient, error) {
	if c.RedisURL == "" {
		return nil, nil
	}
	client, err := facts.OpenRedis(c.RedisURL)
	if err != nil {
		return nil, err
	}
	h.closers = append(h.closers, func() { client.Close() })
	return client, nil
}

// openCallers says whose credentials hold: the static key, keys that were made
// by `chartgate key`, and JWTs.
func (h *Half) openCallers(c Config, pool *pgxpool.Pool) (*web.Authenticator, error) {
	callers := &web.Authenticator{Keys: web.NewKeyStore(pool).CountBy(feed.BootTime)}
	if c.APIKey != "" {
		key, err := web.NewStaticKey(c.APIKey, web.Caller{Scopes: c.KeyScopes, AllPractices: true})
		if err != nil {
			return nil, fmt.Errorf("CHARTGATE_API_KEY: %w", err)
		}
		callers.Static = key
	}
	if c.Tokens.JWKSURL != "" {
		verifier, err := c.Tokens.verifier(c.Log)
		if err != nil {
			return nil, fmt.Errorf("--jwks-url: %w", err)
		}
		callers.JWT = verifier
		h.services = append(h.services, verifier.Run)
	}
	return callers, nil
}

// checks are what must hold for a half to be ready.
func checks(pool *pgxpool.Pool, cache redis.UniversalClient) []web.Check {
	list := []web.Check{{
		Name:  "database",
		Hint:  "the database does not answer, or 'chartgate migrate' was not run",
		Probe: func(ctx context.Context) error { return postgres.CheckSchema(ctx, pool) },
	}}
	if cache != nil {
		list = append(list, web.Check{
			Name:     "redis",
			Hint:     "redis does not answer; decisions read Postgres",
			Optional: true,
			Probe:    func(ctx context.Context) error { return cache.Ping(ctx).Err() },
		})
	}
	return list
}

// durableCheck holds while the database keeps what it commits.
func durableCheck(pool *pgxpool.Pool) web.Check {
	return web.Check{Name: "durable", Hint: "the database may lose what it has committed", Probe: func(ctx context.Context) error { return postgres.CheckDurable(ctx, pool) }}
}

// leaseCheck holds while memory may be used: the change feed is followed.
func leaseCheck(f *feed.Follower) web.Check {
	return web.Check{Name: "lease", Hint: "the change feed cannot be followed; facts come from Postgres", Probe: func(context.Context) error {
		if f.Live() != nil {
			return nil
		}
		age, why := f.Age()
		if why == "" {
			why = "no poll has succeeded lately"
		}
		return fmt.Errorf("the lease is %v old: %s", age, why)
	}}
}

// recordCheck holds while decisions can be put on record.
func recordCheck(s *record.Spool) web.Check {
	return web.Check{Name: "record", Hint: "decisions cannot be put on record, so none is answered", Probe: func(context.Context) error { return s.Check() }}
}
