package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"chartgate/internal/embedded"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// store is a fresh private Postgres, as durable as in production, with the
// schema in it. It is thrown away.
type store struct {
	folder string
	server *embedded.Postgres
	url    string
	pool   *pgxpool.Pool // as the owner
}

func openStore(ctx context.Context) (s *store, err error) {
	s = &store{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
			s = nil
		}
	}()
	if s.folder, err = os.MkdirTemp("", "chartbench-"); err != nil {
		return s, err
	}
	if err := os.Chmod(s.folder, 0o755); err != nil { // the server runs as another user than root
		return s, err
	}
	if s.server, err = embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(s.folder, "pg")}); err != nil {
		return s, err
	}
	conn, err := pgx.Connect(ctx, s.server.URL("postgres"))
	if err != nil {
		return s, err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE chartgate`)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return s, fmt.Errorf("make database: %w", err)
	}
	s.url = s.server.URL("chartgate")
	if _, err := postgres.Migrate(ctx, s.url); err != nil {
		return s, err
	}
	s.pool, err = postgres.Open(ctx, s.url, "", 4)
	return s, err
}

// openPractice is openStore with p in it.
func openPractice(ctx context.Context, p practice) (*store, error) {
	s, err := openStore(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.fill(ctx, p); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// fill imports p.
func (s *store) fill(ctx context.Context, p practice) error {
	fmt.Fprintf(os.Stderr, "loading %d clients, %d practitioners, %d grants\n", p.Clients, p.Practitioners, p.Grants)
	folder := filepath.Join(s.folder, "roster")
	if err := p.write(folder); err != nil {
		return err
	}
	_, err := p.load(ctx, s.pool, folder, nil)
	return errors.Join(err, os.RemoveAll(folder))
}

func (s *store) close() error {
	var err error
	if s.pool != nil {
		s.pool.Close()
	}
	if s.server != nil {
		err = s.server.Stop()
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}
