// Package pgtest gives tests real stores: a database of their own with the
// schema in it, and a Redis server of their own.
//
// Each test binary starts a throw-away Postgres when its first test asks, or
// takes DATABASE_URL, where it makes databases named test_… and drops them.
// Whatever it starts ends with the test binary, also when that is killed; no
// TestMain is needed. Tests may run in parallel.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/postgres"
)

// Pool returns connections to a fresh migrated database, as its owner. It is
// closed, and the database dropped, when the test ends.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return PoolAs(t, URL(t), "")
}

// PoolAs returns connections to the database at url that have taken role; ""
// is the owner.
func PoolAs(t testing.TB, url, role string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), url, role, 8)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL returns the address of a fresh migrated database. It is dropped when the
// test ends, with whatever is still connected to it.
func URL(t testing.TB) string {
	t.Helper()
	c, err := theCluster()
	if err != nil {
		t.Fatalf("a Postgres for the tests: %v", err)
	}
	return c.database(t, c.template)
}

// EmptyURL returns the address of a fresh database without any schema.
func EmptyURL(t testing.TB) string {
	t.Helper()
	c, err := theCluster()
	if err != nil {
		t.Fatalf("a Postgres for the tests: %v", err)
	}
	return c.database(t, "template0")
}

// database copies template into a new database for t.
func (c *cluster) database(t testing.TB, template string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	create := fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, pgx.Identifier{name}.Sanitize(), pgx.Identifier{template}.Sanitize())
	if c.private {
		create += ` STRATEGY file_copy` // faster, where checkpoints cost nothing
	}
	if err := c.exec(t.Context(), create); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		// t.Context ends before cleanups run.
		if err := c.exec(context.Background(), `DROP DATABASE `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
			t.Errorf("drop the database of the test: %v", err)
		}
	})
	address, err := onDatabase(c.url, name)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func (c *cluster) exec(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// onDatabase is the address of another database on the same server.
func onDatabase(address, database string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("DATABASE_URL must be of the form postgres://user@host/database for tests")
	}
	u.Path = "/" + database
	return u.String(), nil
}
