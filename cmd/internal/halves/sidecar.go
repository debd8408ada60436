package halves

import (
	"context"
	"fmt"
	"log/slog"

	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/sidecar"
	"chartgate/internal/web"
)

// Config is what both halves are built from.
type Config struct {
	DatabaseURL string
	RedisURL    string // "" where there is none: answers are right, and slower
	APIKey      string // the one static key, "" for none
	KeyScopes   []string
	Tokens      Tokens
	PublicURL   string      // what callers reach the sidecar by
	Engine      *pdp.Engine // the policy that both ask
	Log         *slog.Logger
}

// Sidecar builds the half that decides: it reads facts, appends decisions, and
// can do nothing else.
func Sidecar(ctx context.Context, c Config) (half *Half, err error) {
	half = &Half{Name: "sidecar"}
	defer func() {
		if err != nil {
			half.Close()
			half, err = nil, fmt.Errorf("sidecar: %w", err)
		}
	}()
	pool, err := half.openPool(ctx, c, postgres.RoleSidecar, connections)
	if err != nil {
		return half, err
	}
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return half, err
	}
	follow, err := half.openPool(ctx, c, postgres.RoleSidecar, followConnections)
	if err != nil {
		return half, err
	}
	deployment, err := feed.ReadDeployment(ctx, pool)
	if err != nil {
		return half, err
	}
	cache, err := half.openRedis(c)
	if err != nil {
		return half, err
	}
	source, err := facts.NewSource(pool, follow, deployment, facts.Options{Redis: cache})
	if err != nil {
		return half, err
	}
	half.services = append(half.services, source.Follower().Run)
	recorder, err := half.openRecorder(ctx, c, postgres.RoleSidecar)
	if err != nil {
		return half, err
	}
	callers, err := half.openCallers(c, pool)
	if err != nil {
		return half, err
	}

	server, err := sidecar.New(sidecar.Options{
		PDP:       pdp.New(c.Engine, source, recorder),
		Callers:   callers,
		Checks:    checks(pool, cache),
		Metrics:   web.NewMetrics(),
		Log:       c.Log,
		PublicURL: c.PublicURL,
	})
	if err != nil {
		return half, err
	}
	half.app, half.health = server.App, server.Health
	return half, nil
}
