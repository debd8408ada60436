package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/jackc/pgx/v5"

	"chartgate/internal/embedded"
	"chartgate/internal/postgres"
)

// cluster is where the databases of this test binary are made.
type cluster struct {
	url      string // of a database that exists, as a role that may create others
	template string // a migrated database that nobody connects to
	private  bool   // ours alone: nothing on it needs to survive
}

// theCluster is made by the first test that asks, and ends with the process.
var theCluster = sync.OnceValues(func() (*cluster, error) {
	ctx := context.Background()
	if url := os.Getenv("DATABASE_URL"); url != "" {
		c := &cluster{url: url}
		return c, c.makeTemplate(ctx)
	}
	folder, err := os.MkdirTemp("", "chartgate-test-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(folder, 0o755); err != nil { // the server runs as another user than root
		return nil, err
	}
	server, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: filepath.Join(folder, "pg"), Volatile: true})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if _, err := sweepAtExit(server.Pid(), folder, filepath.Join(folder, "pg", "postmaster.pid")); err != nil {
		return nil, errors.Join(err, server.Stop(), os.RemoveAll(folder))
	}
	c := &cluster{url: server.URL("postgres"), private: true}
	return c, c.makeTemplate(ctx)
})

// makeTemplate migrates one database that all others are copied from. On a
// shared server its name says which schema it has: it is made once, under
// another name so that nobody copies a half, and serves later runs as well.
func (c *cluster) makeTemplate(ctx context.Context) error {
	c.template = "test_template_" + postgres.SchemaDigest()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer conn.Close(ctx)
	// Test binaries run side by side; this lock goes with the connection.
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtext('chartgate test template'))`); err != nil {
		return err
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, c.template).Scan(&exists); err != nil || exists {
		return err
	}
	making := pgx.Identifier{c.template + "_new"}.Sanitize()
	if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+making); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+making+` TEMPLATE template0`); err != nil {
		return fmt.Errorf("tests make databases of their own, so DATABASE_URL needs a login with CREATEDB: %w", err)
	}
	url, err := onDatabase(c.url, c.template+"_new")
	if err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, url); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `ALTER DATABASE `+making+` RENAME TO `+pgx.Identifier{c.template}.Sanitize())
	return err
}
