package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/embedded"
	"chartgate/internal/postgres"
)

// storeFlags say which database a command works on.
type storeFlags struct {
	StateDir string `env:"CHARTGATE_STATE_DIR" default:"${state_dir}" placeholder:"FOLDER" help:"The private database to work on, unless DATABASE_URL is set."`
}

// with opens the database, runs work on its address and closes it again.
func (f storeFlags) with(ctx context.Context, work func(url string) error) (err error) {
	secrets := halves.ReadSecrets()
	if err := errors.Join(secrets.Faults()...); err != nil {
		return err
	}
	url, end, err := openStore(ctx, secrets.DatabaseURL, f.StateDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	return work(url)
}

// withPool is with, and connects. What only reads works on the schema of an
// earlier version too, such as that of a backup.
func (f storeFlags) withPool(ctx context.Context, work func(*pgxpool.Pool) error) error {
	return f.with(ctx, func(url string) error {
		pool, err := postgres.Open(ctx, url, "", 2)
		if err != nil {
			return err
		}
		defer pool.Close()
		return work(pool)
	})
}

// withSchema is withPool where the schema is up to date.
func (f storeFlags) withSchema(ctx context.Context, work func(*pgxpool.Pool) error) error {
	return f.withPool(ctx, func(pool *pgxpool.Pool) error {
		if err := postgres.CheckSchema(ctx, pool); err != nil {
			return err
		}
		return work(pool)
	})
}

// openStore returns the address of the database that a command works on:
// DATABASE_URL, else the private one of the state folder, which is started
// unless a `chartgate run` has it running. Call end when done.
func openStore(ctx context.Context, databaseURL, stateDir string) (url string, end func() error, err error) {
	if databaseURL != "" {
		return databaseURL, func() error { return nil }, nil
	}
	state, err := openState(stateDir)
	if errors.Is(err, errAlreadyRunning) {
		path, err := filepath.Abs(stateDir)
		return embedded.URL(postgresDir(path), database), func() error { return nil }, err
	}
	if err != nil {
		return "", nil, err
	}
	server, url, err := state.startPostgres(ctx)
	if err != nil {
		state.close()
		return "", nil, err
	}
	return url, func() error { defer state.close(); return server.Stop() }, nil
}
