package halves

import (
	"context"
	"fmt"

	"chartgate/internal/control"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/profiles"
	"chartgate/internal/record"
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
	recordPool, err := half.openPool(ctx, c, postgres.RoleControl, recordConnections)
	if err != nil {
		return half, err
	}
	callers, err := half.openCallers(c, pool)
	if err != nil {
		return half, err
	}
	courier, err := c.Notices.courier(c.NoticeSecret, c.Log)
	if err != nil {
		return half, err
	}
	half.compilePolicy(c) // lists are made of it
	half.services = append(half.services,
		profiles.NewDelivery(pool, courier, c.Log).Run,
		func(ctx context.Context) error { return feed.Prune(ctx, pool) },
		func(ctx context.Context) error { return record.RunKeeper(ctx, pool, c.Log) })

	server, err := control.New(control.Options{
		Pool:       pool,
		Deployment: deployment,
		Policy:     func() control.Policy { return c.Engine },
		Recorder:   record.NewDirect(recordPool),
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
