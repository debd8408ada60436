// Command sidecar is the decision point beside a service: it answers over HTTP
// whether a person may do something, from facts in Postgres (DATABASE_URL) that
// Redis (REDIS_URL) keeps at hand. It takes the database role
// chartgate_sidecar, which can read facts and append decisions, and nothing else.
//
// Its policy is the release that is active, signed and fetched from control, and
// until the first one the policy that is built in. It takes no unsigned bundle.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/alecthomas/kong"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// config is all that can be set, beside DATABASE_URL, REDIS_URL,
// CHARTGATE_API_KEY and CHARTGATE_CONTROL_KEY.
type config struct {
	Addr      string `env:"CHARTGATE_SIDECAR_ADDR" default:"127.0.0.1:8181" placeholder:"HOST:PORT" help:"Where it answers. Port 0 takes a free one. Default: ${default}."`
	PublicURL string `env:"CHARTGATE_PUBLIC_URL" placeholder:"URL" help:"What callers reach it by. By default http:// and its address."`
	halves.Tokens
	halves.Spool
	halves.Limits
	halves.Policy
}

func (c config) faults(secrets halves.Secrets) error {
	faults := append(append(secrets.Faults(), c.Tokens.Faults()...), c.Spool.Faults()...)
	faults = append(faults, c.Limits.Faults()...)
	faults = append(faults, c.Policy.Faults(secrets)...)
	faults = append(faults, halves.CheckAddr("--addr", c.Addr), secrets.CheckDatabase())
	if c.PublicURL != "" {
		faults = append(faults, halves.CheckPublicURL(c.PublicURL))
	}
	return errors.Join(faults...)
}

func main() {
	var c config
	spoolDir := halves.DefaultStateDir() + "/spool"
	kong.Parse(&c, kong.Name("sidecar"), kong.Vars{"spool_dir": spoolDir, "policy_dir": "the name of the spool's folder with -policy behind it"}, kong.Description("Answers whether a person may do something. Settings in the environment only: DATABASE_URL, REDIS_URL, CHARTGATE_API_KEY, CHARTGATE_CONTROL_KEY."))
	if c.SpoolDir == "" {
		c.SpoolDir = spoolDir
	}
	if c.PolicyDir == "" {
		c.PolicyDir = filepath.Clean(c.SpoolDir) + "-policy"
	}
	halves.Main("sidecar", c.run)
}

func (c config) run(ctx context.Context, log *slog.Logger, secrets halves.Secrets) error {
	halves.BoundMemory()
	if err := c.faults(secrets); err != nil {
		return err
	}
	engine, err := halves.BuiltIn(ctx, pdp.DecisionPath)
	if err != nil {
		return err
	}
	keys, err := c.Policy.Keys()
	if err != nil {
		return fmt.Errorf("--policy-key: %w", err)
	}
	listener, err := halves.Listen("--addr", c.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.PublicURL == "" {
		c.PublicURL = halves.BaseURL(listener.Addr())
	}
	if secrets.RedisURL == "" {
		log.Warn("REDIS_URL is not set: what memory does not hold is read from Postgres")
	}
	half, err := halves.Sidecar(ctx, halves.Config{
		DatabaseURL: secrets.DatabaseURL, RedisURL: secrets.RedisURL,
		APIKey: secrets.APIKey, KeyScopes: []string{web.ScopeAsk, web.ScopeOperate}, Tokens: c.Tokens,
		PublicURL: c.PublicURL, Engine: engine, Log: log, SpoolDir: c.SpoolDir, SpoolSync: c.SpoolSync, Limits: c.Limits,
		ControlURL: c.ControlURL, ControlKey: secrets.ControlKey, PolicyKeys: keys, PolicyDir: c.PolicyDir,
	})
	if err != nil {
		return err
	}
	defer half.Close()
	log.Info("sidecar is ready", "address", listener.Addr().String(), "public_url", c.PublicURL, "policy", engine.Revision())
	defer log.Info("sidecar has stopped")
	return half.Serve(ctx, listener)
}
