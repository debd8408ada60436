package halves

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/release"
	"chartgate/internal/search"
	"chartgate/internal/sidecar"
	"chartgate/internal/web"
	"chartgate/internal/wire"
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

	// Also of control: what it signs releases with, nil for nothing, and whether
	// the static key may be author and approver both (only `chartgate run`).
	Signer       *release.Signer
	SingleSigner bool

	// Durable makes control refuse a database that may lose what it committed.
	Durable bool

	// Of the sidecar: where decisions wait for Postgres, in a folder that no
	// other process uses, and how much of them the loss of the host may cost.
	SpoolDir  string
	SpoolSync time.Duration

	Limits Limits // of what the sidecar decides at the same time

	// MemoryBytes bounds the facts that the sidecar remembers; 0 means
	// facts.DefaultMemory.
	MemoryBytes uint64

	// Of both: what releases of the policy are signed with, or were.
	PolicyKeys *pdp.Keys

	// Of the sidecar: where releases of the policy come from. Fixed keeps Engine
	// whatever is activated.
	Fixed      bool
	ControlURL string // "" where there is none to fetch from
	ControlKey string
	PolicyDir  string // where the last known good is kept; "" for nowhere
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
	deployment, err := feed.ReadDeployment(ctx, pool)
	if err != nil {
		return half, err
	}
	cache, err := half.openRedis(c)
	if err != nil {
		return half, err
	}
	recorder, err := half.openSpool(ctx, c, postgres.RoleSidecar)
	if err != nil {
		return half, err
	}
	metrics := web.NewMetrics()
	source, releases, err := half.openFacts(ctx, c, pool, deployment, recorder.ID(),
		facts.Options{Redis: cache, MaxBytes: c.MemoryBytes, Took: factTimes(metrics.Registry)})
	if err != nil {
		return half, err
	}
	callers, err := half.openCallers(c, pool)
	if err != nil {
		return half, err
	}
	all := append(checks(pool, cache), leaseCheck(source.Follower()), recordCheck(recorder))
	var decides *pdp.PDP
	if releases == nil {
		decides = pdp.New(c.Engine, source, recorder)
	} else {
		decides = pdp.Follow(releases, source, recorder)
		all = append(all, releaseCheck(releases))
		registerReleases(metrics.Registry, releases)
	}
	registerSidecar(metrics.Registry, source, recorder)
	registerEngine(metrics.Registry, c.Engine)
	registerProgram(metrics.Registry, decides)

	server, err := sidecar.New(sidecar.Options{
		PDP:       decides,
		Search:    &search.Service{Pool: pool, Deployment: deployment, PDP: decides, Facts: source, Recorder: recorder},
		Callers:   callers,
		Checks:    all,
		Metrics:   metrics,
		Log:       c.Log,
		PublicURL: c.PublicURL,
		Limits:    c.Limits.of(),
		Line:      lines(source),
	})
	if err != nil {
		return half, err
	}
	half.app, half.front, half.health = server.App, server.Listen, server.Health
	return half, nil
}

// lines gives each loop of the sidecar a line to Redis, where there can be one.
func lines(source *facts.Source) func(wire.Attend) sidecar.Line {
	return func(attend wire.Attend) sidecar.Line {
		if l := source.Line(attend); l != nil {
			return l
		}
		return nil
	}
}

// openFacts makes what knows the facts and follows their changes, and what
// follows the releases of the policy, unless that is fixed: then it is nil.
func (h *Half) openFacts(ctx context.Context, c Config, pool *pgxpool.Pool, d *feed.Deployment, sidecar string, o facts.Options) (*facts.Source, *pdp.Releases, error) {
	follow, err := h.openPool(ctx, c, postgres.RoleSidecar, followConnections)
	if err != nil {
		return nil, nil, err
	}
	var source *facts.Source
	lease := func() time.Duration {
		age, _ := source.Follower().Age()
		if age < 0 {
			return -time.Millisecond
		}
		return age
	}
	releases, err := h.followReleases(c, follow, d, pdp.ReleaseOptions{Sidecar: sidecar, Lease: lease})
	if err != nil {
		return nil, nil, err
	}
	if releases != nil {
		o.Listeners = append(o.Listeners, releases.Hear)
	}
	source, err = facts.NewSource(pool, follow, d, o)
	if err != nil {
		return nil, nil, err
	}
	h.services = append(h.services, source.Follower().Run)
	h.closers = append(h.closers, source.Wait)
	return source, releases, nil
}
