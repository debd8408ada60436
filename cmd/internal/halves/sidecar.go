package halves

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/search"
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

	// Of control: how clients are told, and the secret of that.
	Notices      Notices
	NoticeSecret string

	// Of the sidecar: where decisions wait for Postgres, in a folder that no
	// other process uses, and how much of them the loss of the host may cost.
	SpoolDir  string
	SpoolSync time.Duration

	Limits Limits // of what the sidecar decides at the same time

	// MemoryBytes bounds the facts that the sidecar remembers; 0 means
	// facts.DefaultMemory.
	MemoryBytes uint64
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
	source, err := facts.NewSource(pool, follow, deployment, facts.Options{Redis: cache, MaxBytes: c.MemoryBytes})
	if err != nil {
		return half, err
	}
	half.services = append(half.services, source.Follower().Run)
	recorder, err := half.openSpool(ctx, c, postgres.RoleSidecar)
	if err != nil {
		return half, err
	}
	callers, err := half.openCallers(c, pool)
	if err != nil {
		return half, err
	}

	half.compilePolicy(c)
	metrics := web.NewMetrics()
	registerSidecar(metrics.Registry, source, recorder)
	registerEngine(metrics.Registry, c.Engine)
	decider := pdp.New(c.Engine, source, recorder)
	registerProgram(metrics.Registry, decider)

	server, err := sidecar.New(sidecar.Options{
		PDP:       decider,
		Search:    &search.Service{Pool: pool, Deployment: deployment, Engine: decider.Engine, Facts: source, Recorder: recorder},
		Callers:   callers,
		Checks:    append(checks(pool, cache), leaseCheck(source.Follower()), recordCheck(recorder)),
		Metrics:   metrics,
		Log:       c.Log,
		PublicURL: c.PublicURL,
		Limits:    c.Limits.of(),
	})
	if err != nil {
		return half, err
	}
	half.app, half.health = server.App, server.Health
	return half, nil
}

// compilePolicy has the half's policy compiled while OPA decides already, and
// its decisions looked at.
func (h *Half) compilePolicy(c Config) {
	if c.Engine.OwnPolicy() {
		return
	}
	shadow := pdp.NewShadow(checkedShare)
	c.Engine.Watch(shadow)
	h.services = append(h.services, shadow.Run, func(ctx context.Context) error { return certify(ctx, c) })
}

// checkedShare: one of so many decisions of the compiled policy is evaluated
// again by OPA, in the background.
const checkedShare = 1000

// certify compiles the policy while OPA decides already. A policy that cannot
// be certified stays with OPA, which is right and slower.
func certify(ctx context.Context, c Config) error {
	report, err := c.Engine.Certify(ctx)
	debug.FreeOSMemory() // a certificate takes several times what is kept of it
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.Log.Error("the compiled policy is not used, OPA decides", "error", err)
	default:
		c.Log.Info("the compiled policy decides", "policy", c.Engine.Revision(), "certified", report.String())
	}
	return nil
}
