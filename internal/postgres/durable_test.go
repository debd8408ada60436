package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chartgate/internal/embedded"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5"
)

// A commit returns once it is on disk, whatever address, database or role say
// (freshness, schedule 8).
func TestCommitsAreSynchronous(t *testing.T) {
	url := pgtest.URL(t)
	owner := pgtest.PoolAs(t, url, "")
	if _, err := owner.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	for parameter, want := range map[string]string{"": "on", "off": "on", "local": "on", "remote_apply": "remote_apply"} {
		address := url
		if parameter != "" {
			address += map[bool]string{true: "&", false: "?"}[strings.Contains(url, "?")] + "synchronous_commit=" + parameter
		}
		pool := pgtest.PoolAs(t, address, postgres.RoleControl)
		var got string
		if err := pool.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&got); err != nil || got != want {
			t.Errorf("asked for %q: synchronous_commit is %q, %v, want %q", parameter, got, err, want)
		}
	}
}

// Whoever cancels the wait for a synchronous standby makes Postgres report
// success with a warning: that is no success (freshness, schedule 8).
func TestACancelledWaitForTheStandbyIsNoSuccess(t *testing.T) {
	folder := t.TempDir()
	for dir := folder; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // the server runs as another user than root
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	server, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(folder, "pg"), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	pool := pgtest.PoolAs(t, server.URL("postgres"), "")
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE things (id int)`)
	insert := func(id int) error {
		return postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO things VALUES ($1)`, id)
			return err
		})
	}
	if err := insert(1); err != nil {
		t.Fatal(err)
	}
	exec(`ALTER SYSTEM SET synchronous_standby_names = 'there_is_none'`)
	exec(`SELECT pg_reload_conf()`)

	before := 1 // that did not wait: the server takes its settings over when it comes to it
	ended := make(chan error, 1)
	go func() {
		err := insert(2)
		for ; err == nil && t.Context().Err() == nil; err = insert(2) {
			before++
		}
		ended <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for waiting := 0; waiting == 0; time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("the commit did not wait for the standby: %v", err)
		default:
		}
		if err := pool.QueryRow(ctx, `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; !errors.Is(err, postgres.ErrMayBeLost) {
		t.Errorf("a cancelled wait: %v, want %v", err, postgres.ErrMayBeLost)
	}
	var n int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM things`).Scan(&n); err != nil || n != before+1 {
		t.Errorf("%d rows, want %d, %v: the commit stands all the same", n, before+1, err)
	}
	exec(`ALTER SYSTEM RESET synchronous_standby_names`)
	exec(`SELECT pg_reload_conf()`)
	if err := insert(3); err != nil {
		t.Errorf("a commit that has nobody to wait for: %v", err)
	}
}

func TestADatabaseThatForgetsIsRefused(t *testing.T) {
	pool := pgtest.Pool(t)
	var fsync string
	if err := pool.QueryRow(t.Context(), `SHOW fsync`).Scan(&fsync); err != nil {
		t.Fatal(err)
	}
	if err := postgres.CheckDurable(t.Context(), pool); (err == nil) != (fsync == "on") {
		t.Errorf("fsync is %s: %v", fsync, err)
	}
}
