package halves

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"chartgate/internal/facts"
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
	recordConnections = 2 // as many as write at once
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

// openRecorder makes decisions durable, as long as the half serves.
func (h *Half) openRecorder(ctx context.Context, c Config, role string) (*record.Recorder, error) {
	pool, err := h.openPool(ctx, c, role, recordConnections)
	if err != nil {
		return nil, err
	}
	recorder := record.NewRecorder(pool)
	h.services = append(h.services, recorder.Run)
	return recorder, nil
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
	callers := &web.Authenticator{Keys: web.NewKeyStore(pool)}
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
