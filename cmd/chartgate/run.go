package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/embedded"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/roster"
	"chartgate/internal/web"
	"chartgate/testdata/demo"
)

// runCommand runs everything in one process.
type runCommand struct {
	SidecarAddr string `env:"CHARTGATE_SIDECAR_ADDR" default:"127.0.0.1:8181" placeholder:"HOST:PORT" help:"Where the sidecar answers. Port 0 takes a free one. Default: ${default}."`
	ControlAddr string `env:"CHARTGATE_CONTROL_ADDR" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where control answers. Port 0 takes a free one. Default: ${default}."`
	StateDir    string `env:"CHARTGATE_STATE_DIR" default:"${state_dir}" placeholder:"FOLDER" help:"Where the private database and the key are kept. Default: ${default}."`
	NoDemo      bool   `env:"CHARTGATE_NO_DEMO" help:"Do not load the demo practice into an empty database."`
	PublicURL   string `env:"CHARTGATE_PUBLIC_URL" placeholder:"URL" help:"What callers reach the sidecar by. By default http:// and its address."`
	Bundle      string `env:"CHARTGATE_BUNDLE" placeholder:"PATH" help:"A policy of your own: a folder or a .tar.gz, unsigned."`
	Decision    string `env:"CHARTGATE_DECISION" default:"${decision}" placeholder:"PATH" help:"The rule of the policy that decides. Default: ${default}."`

	halves.Tokens
	halves.Spool
	halves.Limits
	halves.Notices
}

// faults lists all that is wrong with the flags and the environment.
func (c *runCommand) faults(secrets halves.Secrets) error {
	faults := append(append(secrets.Faults(), c.Tokens.Faults()...), c.Spool.Faults()...)
	faults = append(faults, c.Limits.Faults()...)
	faults = append(faults, c.Notices.Faults(secrets)...)
	faults = append(faults, halves.CheckAddr("--sidecar-addr", c.SidecarAddr), halves.CheckAddr("--control-addr", c.ControlAddr))
	if c.PublicURL != "" {
		faults = append(faults, halves.CheckPublicURL(c.PublicURL))
	}
	return errors.Join(faults...)
}

// Run starts the stores, both halves, and waits for a signal.
func (c *runCommand) Run(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	secrets := halves.ReadSecrets()
	if err := c.faults(secrets); err != nil {
		return err
	}
	engine, err := c.engine(ctx)
	if err != nil {
		return err
	}
	state, err := openState(c.StateDir)
	if err != nil {
		return err
	}
	defer log.Info("everything has stopped")
	defer state.close()
	sidecarListener, err := halves.Listen("--sidecar-addr", c.SidecarAddr)
	if err != nil {
		return err
	}
	defer sidecarListener.Close()
	controlListener, err := halves.Listen("--control-addr", c.ControlAddr)
	if err != nil {
		return err
	}
	defer controlListener.Close()

	stores, err := startStores(ctx, state, secrets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stores.stop()) }()
	hasDemo, err := c.prepare(ctx, stores.databaseURL)
	if err != nil {
		return err
	}
	keyFrom := "CHARTGATE_API_KEY"
	if secrets.APIKey == "" {
		if secrets.APIKey, err = state.apiKey(); err != nil {
			return err
		}
		keyFrom = "made for development, kept in " + state.path + "/api-key"
	}
	sidecarURL, controlURL := halves.BaseURL(sidecarListener.Addr()), halves.BaseURL(controlListener.Addr())
	config, err := c.config(secrets, state, stores)
	if err != nil {
		return err
	}
	config.Engine, config.Log, config.ControlURL, config.PublicURL = engine, log, controlURL, cmp.Or(c.PublicURL, sidecarURL)
	if config.Fixed {
		log.Info("the policy of --bundle decides: it follows no release that is activated")
	}
	sidecar, err := halves.Sidecar(ctx, config)
	if err != nil {
		return err
	}
	defer sidecar.Close()
	control, err := halves.Control(ctx, config)
	if err != nil {
		return err
	}
	defer control.Close()

	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return sidecar.Serve(ctx, sidecarListener) })
	running.Go(func() error { return control.Serve(ctx, controlListener) })
	running.Go(func() error { return stores.watch(ctx) })
	context.AfterFunc(ctx, func() { log.Info("stopping: calls under way may end") })
	announce(os.Stdout, announcement{
		sidecar: sidecarURL, control: controlURL,
		key: secrets.APIKey, keyFrom: keyFrom, stores: stores.describe(), policy: engine.Revision(), demo: hasDemo,
	})
	return running.Wait()
}

// config is what both halves share, but for the policy and the addresses.
func (c *runCommand) config(secrets halves.Secrets, state *stateFolder, stores *stores) (halves.Config, error) {
	signer, policyKeys, err := state.signer()
	return halves.Config{
		DatabaseURL: stores.databaseURL, RedisURL: stores.redisURL,
		APIKey: secrets.APIKey, KeyScopes: web.Scopes, Tokens: c.Tokens,
		Notices: c.Notices, NoticeSecret: secrets.NoticeSecret,
		SpoolDir: cmp.Or(c.SpoolDir, filepath.Join(state.path, "spool")), SpoolSync: c.SpoolSync, Limits: c.Limits,
		Signer: signer, SingleSigner: true, PolicyKeys: policyKeys, PolicyDir: filepath.Join(state.path, "policy"),
		Fixed: c.Bundle != "", ControlKey: secrets.APIKey,
	}, err
}

// engine is the policy of --bundle, else the one that is built in.
func (c *runCommand) engine(ctx context.Context) (*pdp.Engine, error) {
	if c.Bundle == "" {
		engine, err := halves.BuiltIn(ctx, c.Decision)
		if err != nil {
			return nil, fmt.Errorf("--decision: %w", err)
		}
		return engine, nil
	}
	policy, err := pdp.LoadBundle(c.Bundle)
	if err != nil {
		return nil, fmt.Errorf("--bundle: %w", err)
	}
	engine, err := pdp.NewEngine(ctx, policy, c.Decision)
	if err != nil {
		return nil, fmt.Errorf("--bundle, --decision: %w", err)
	}
	return engine, nil
}

// prepare migrates the database, and loads the demo practices into one that
// has no practice at all: what was changed since is never put back. It reports
// whether the demo practices are there.
func (c *runCommand) prepare(ctx context.Context, databaseURL string) (hasDemo bool, err error) {
	if _, err := postgres.Migrate(ctx, databaseURL); err != nil {
		return false, err
	}
	pool, err := postgres.Open(ctx, databaseURL, "", 2)
	if err != nil {
		return false, err
	}
	defer pool.Close()
	var empty bool
	err = pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM practices),
		EXISTS (SELECT FROM clients WHERE id = 'client-1' AND practice = 'practice-1')`).Scan(&empty, &hasDemo)
	if err != nil || c.NoDemo || !empty {
		return hasDemo, err
	}
	files, err := roster.Folder(demo.Files)
	if err != nil {
		return false, fmt.Errorf("demo: %w", err)
	}
	atOnce := func(context.Context) error { return nil } // nobody had anything in an empty database that could be taken
	if _, err := roster.Load(ctx, pool, files, roster.Options{Actor: "demo", Settle: atOnce}); err != nil {
		return false, fmt.Errorf("demo: %w", err)
	}
	return true, nil
}

// stores are the database and the cache, ours or the operator's.
type stores struct {
	databaseURL, redisURL string

	postgres *embedded.Postgres // nil where DATABASE_URL is set
	redis    *embedded.Redis    // nil where REDIS_URL is set
}

func startStores(ctx context.Context, state *stateFolder, secrets halves.Secrets) (*stores, error) {
	s := &stores{databaseURL: secrets.DatabaseURL, redisURL: secrets.RedisURL}
	var err error
	if s.redisURL == "" {
		if s.redis, err = embedded.StartRedis(); err != nil {
			return nil, err
		}
		s.redisURL = s.redis.URL()
	}
	if s.databaseURL == "" {
		if s.postgres, s.databaseURL, err = state.startPostgres(ctx); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

// watch returns an error when the private Postgres ends by itself.
func (s *stores) watch(ctx context.Context) error {
	if s.postgres == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.postgres.Exited():
		return errors.New("the private Postgres has ended; its log says why")
	}
}

func (s *stores) stop() error {
	if s.redis != nil {
		s.redis.Stop()
	}
	if s.postgres != nil {
		return s.postgres.Stop()
	}
	return nil
}

func (s *stores) describe() string {
	where := map[bool]string{true: "private Postgres", false: "Postgres of DATABASE_URL"}[s.postgres != nil]
	return where + ", " + map[bool]string{true: "Redis in this process", false: "Redis of REDIS_URL"}[s.redis != nil]
}
