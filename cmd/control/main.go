// Command control is where access is administered over HTTP: members, grants,
// settings, client profiles and the portal. It is the only writer of facts in
// Postgres (DATABASE_URL), takes the database role chartgate_control, and asks
// the same policy as the sidecars whether the actor may. It keeps the releases of
// that policy: until one is activated it is the one that is built in.
package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// config is all that can be set, beside DATABASE_URL, CHARTGATE_API_KEY and
// CHARTGATE_NOTICE_SECRET.
type config struct {
	Addr string `env:"CHARTGATE_CONTROL_ADDR" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where it answers. Port 0 takes a free one. Default: ${default}."`
	halves.Tokens
	halves.Notices
	halves.Signing
	Development bool `env:"CHARTGATE_DEVELOPMENT" help:"Take a database that may lose what it has committed (fsync = off): for development only."`
}

func (c config) faults(secrets halves.Secrets) error {
	faults := append(secrets.Faults(), c.Tokens.Faults()...)
	faults = append(append(faults, c.Notices.Faults(secrets)...), c.Signing.Faults()...)
	faults = append(faults, halves.CheckAddr("--addr", c.Addr), secrets.CheckDatabase())
	return errors.Join(faults...)
}

func main() {
	var c config
	kong.Parse(&c, kong.Name("control"), kong.Description("Administers access over HTTP. Settings in the environment only: DATABASE_URL, CHARTGATE_API_KEY, CHARTGATE_NOTICE_SECRET."))
	halves.Main("control", c.run)
}

func (c config) run(ctx context.Context, log *slog.Logger, secrets halves.Secrets) error {
	if err := c.faults(secrets); err != nil {
		return err
	}
	signer, err := c.Signer()
	if err != nil {
		return err
	}
	keys, err := c.Signing.Keys(signer)
	if err != nil {
		return err
	}
	engine, err := halves.BuiltIn(ctx, pdp.DecisionPath)
	if err != nil {
		return err
	}
	listener, err := halves.Listen("--addr", c.Addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	half, err := halves.Control(ctx, halves.Config{
		DatabaseURL: secrets.DatabaseURL,
		APIKey:      secrets.APIKey, KeyScopes: scopes(), Tokens: c.Tokens, Engine: engine, Log: log,
		Notices: c.Notices, NoticeSecret: secrets.NoticeSecret, Signer: signer, PolicyKeys: keys,
		Durable: !c.Development,
	})
	if err != nil {
		return err
	}
	defer half.Close()
	log.Info("control is ready", "address", listener.Addr().String(), "policy", engine.Revision())
	defer log.Info("control has stopped")
	return half.Serve(ctx, listener)
}

// scopes are those of CHARTGATE_API_KEY: all but what takes two people, since
// one key cannot be two (promise P7).
func scopes() []string {
	return slices.DeleteFunc(slices.Clone(web.Scopes), func(scope string) bool { return strings.HasPrefix(scope, "policy.") })
}
