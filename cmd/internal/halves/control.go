package halves

import (
	"context"
	"fmt"

	"chartgate/internal/control"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/web"
)

// Control builds the half that administers: the only writer of facts. It asks
// the policy that the sidecars ask.
func Control(ctx context.Context, c Config) (half *Half, err error) {
	half = &Half{Name: "control"}
	defer func() {
		if err != nil {
			half.Close()
			half, err = nil, fmt.Errorf("control: %w", err)
		}
	}()
	pool, err := half.openPool(ctx, c, postgres.RoleControl, connections)
	if err != nil {
		return half, err
	}
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return half, err
	}
	deployment, err := feed.ReadDeployment(ctx, pool)
	if err != nil {
		return half, err
	}
	recorder, err := half.openRecorder(ctx, c, postgres.RoleControl)
	if err != nil {
		return half, err
	}
	callers, err := half.openCallers(c, pool)
	if err != nil {
		return half, err
	}
	half.services = append(half.services, func(ctx context.Context) error { return feed.Prune(ctx, pool) })

	server, err := control.New(control.Options{
		Pool:       pool,
		Deployment: deployment,
		Policy:     func() control.Policy { return c.Engine },
		Recorder:   recorder,
		Callers:    callers,
		Settle:     func(ctx context.Context) error { return feed.AwaitTaken(ctx, feed.BootTime) },
		Checks:     checks(pool, nil),
		Metrics:    web.NewMetrics(),
		Log:        c.Log,
	})
	if err != nil {
		return half, err
	}
	half.app, half.health = server.App, server.Health
	return half, nil
}
