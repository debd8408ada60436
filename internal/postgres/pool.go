// Package postgres opens the database, runs transactions and migrates the
// schema. What the tables mean is said where they are used: facts, feed,
// record, grants.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Database roles (migration 4). Each half of the service takes its own.
const (
	RoleSidecar = "chartgate_sidecar" // reads facts, appends decisions, nothing else
	RoleControl = "chartgate_control" // the only writer
)

// Open connects to url. With a role, every connection takes it, so that even
// an over-privileged login is held to what that role may do; a login that may
// not take it is an error that says what to grant. maxConns of 0 leaves the
// size to the url or the driver.
func Open(ctx context.Context, url, role string, maxConns int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	if maxConns > 0 {
		config.MaxConns = maxConns
	}
	durable(config.ConnConfig)
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["application_name"] = "chartgate"
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "30s"
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	if role != "" {
		config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET ROLE "+pgx.Identifier{role}.Sanitize())
			return err
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		var refused *pgconn.PgError
		if errors.As(err, &refused) && role != "" && (refused.Code == "42501" || refused.Code == "22023" || refused.Code == "42704") {
			return nil, fmt.Errorf("the login of DATABASE_URL cannot take the role %s: run 'chartgate migrate', then 'GRANT %s TO <login>': %w", role, role, err)
		}
		return nil, fmt.Errorf("reach database: %w", err)
	}
	return pool, nil
}

// attempts is how often InTx begins again after a deadlock or a serialization
// failure, which say nothing about the work itself.
const attempts = 5

// InTx runs work in one READ COMMITTED transaction and commits it. It begins
// again when Postgres chose this transaction as a deadlock's victim, so work
// must keep its effects inside tx. Work's own error rolls back and is returned
// as it is. ErrMayBeLost says that it committed, and that a failover could
// still lose it.
func InTx(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	for i := 1; ; i++ {
		err := commitOnce(ctx, pool, work)
		var failed *pgconn.PgError
		if i < attempts && errors.As(err, &failed) && (failed.Code == "40001" || failed.Code == "40P01") {
			continue
		}
		return err
	}
}

// InSnapshot runs work in one read-only REPEATABLE READ transaction: all that it
// reads is of one moment. Nothing waits for it, and it waits for nobody.
func InSnapshot(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, work)
}
