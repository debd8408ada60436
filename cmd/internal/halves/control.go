package halves

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/bundles"
	"chartgate/internal/control"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/profiles"
	"chartgate/internal/record"
	"chartgate/internal/release"
	"chartgate/internal/search"
	"chartgate/internal/web"
	"chartgate/policies"
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
	probes := checks(pool, nil)
	switch err := postgres.CheckDurable(ctx, pool); {
	case c.Durable && err != nil:
		return half, err
	case c.Durable:
		probes = append(probes, durableCheck(pool)) // it can be set while the server runs
	case err != nil:
		c.Log.Warn("not for production", "why", err)
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
	settle := func(ctx context.Context) error { return feed.AwaitTaken(ctx, feed.BootTime) }
	releases, decides, err := openReleases(ctx, c, pool, deployment, settle)
	if err != nil {
		return half, err
	}
	metrics := web.NewMetrics()
	registerEngine(metrics.Registry, c.Engine)
	half.services = append(half.services,
		releases.Run,
		profiles.NewDelivery(pool, courier, c.Log).Run,
		func(ctx context.Context) error { return feed.Prune(ctx, pool) },
		func(ctx context.Context) error { return record.RunKeeper(ctx, pool, c.Log) })

	server, err := control.New(control.Options{
		Pool:       pool,
		Deployment: deployment,
		Policies:   decides,
		PolicyAt: func(ctx context.Context, practice string, at time.Time) (search.Policy, error) {
			engine, err := releases.PolicyAt(ctx, practice, at)
			if err != nil {
				return nil, err
			}
			return engine, nil
		},
		Releases: releases,
		Recorder: record.NewDirect(recordPool),
		Callers:  callers,
		Settle:   settle,
		Checks:   probes,
		Metrics:  metrics,
		Log:      c.Log,

		SingleSigner: c.SingleSigner,
	})
	if err != nil {
		return half, err
	}
	half.app, half.front, half.health = server.App, patient, server.Health
	return half, nil
}

// openReleases opens the life cycle of the policy, makes the shipped policy its
// first release where there is none, and says which policy decides about
// control's own changes: the release that is active, or the engine of c where
// that is another policy than the shipped one.
func openReleases(ctx context.Context, c Config, pool *pgxpool.Pool, deployment *feed.Deployment, settle func(context.Context) error) (*release.Service, control.Policies, error) {
	source, err := release.ReadSourceFolder(policies.Files)
	if err != nil {
		return nil, nil, err
	}
	shipped := release.Shipped{Bundle: bundles.Default, Source: source}
	follows := !c.Fixed && !c.Engine.OwnPolicy() && c.Engine.Revision() == builtInRevision()
	var fixed *pdp.Engine
	if follows {
		shipped.Engine = c.Engine
	} else {
		fixed = c.Engine
	}
	releases, err := release.NewService(ctx, release.Options{Pool: pool, Deployment: deployment.ID.String(), Signer: c.Signer, Keys: c.PolicyKeys,
		Shipped: shipped, Fixed: fixed, Steps: release.Gates, Settle: settle, Certify: c.certify, Log: c.Log})
	if err != nil {
		return nil, nil, err
	}
	if err := releases.Begin(ctx); err != nil {
		return nil, nil, err
	}
	switch {
	case !follows:
		c.Log.Warn("control decides by a policy that was given at its start, and follows no activation", "policy", c.Engine.Revision())
		return releases, func(context.Context, control.Querier, bool) (control.Policy, error) { return c.Engine, nil }, nil
	case c.Signer == nil:
		c.Log.Info("there is no key to sign releases with (--policy-signing-key): drafts can be made, nothing can be approved")
	}
	return releases, func(ctx context.Context, q control.Querier, hold bool) (control.Policy, error) {
		return releases.Engines().In(ctx, q, hold)
	}, nil
}
