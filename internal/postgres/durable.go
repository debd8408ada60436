package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrMayBeLost is a commit that stands on the primary while nobody knows
// whether the synchronous standby has it: whoever cancels that wait makes
// Postgres report success with no more than a warning (freshness, schedule 8).
// It must not be reported as done.
var ErrMayBeLost = errors.New("the change is committed, but its wait for the synchronous standby was cancelled: a failover could lose it; look whether it stands, and repeat it")

// waitCancelled is the routine of Postgres that warns of it. The text of the
// warning is translated, this is not.
const waitCancelled = "SyncRepWaitForLSN"

// durable lets a commit return only once it is on disk, and on the standby
// where there is a synchronous one, whatever the server, the database or the
// role say. It also notes on a connection when that wait was cancelled.
func durable(config *pgx.ConnConfig) {
	if config.RuntimeParams["synchronous_commit"] != "remote_apply" { // which waits for more
		config.RuntimeParams["synchronous_commit"] = "on"
	}
	config.OnNotice = func(conn *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Routine == waitCancelled {
			conn.CustomData()[waitCancelled] = true
		}
	}
}

// commitOnce runs work in one transaction.
func commitOnce(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	heard := conn.Conn().PgConn().CustomData() // this connection is ours until it is released
	delete(heard, waitCancelled)
	if err := pgx.BeginFunc(ctx, conn, work); err != nil {
		return err
	}
	if heard[waitCancelled] != nil {
		return ErrMayBeLost
	}
	return nil
}

// CheckDurable returns an error where the server may lose what it has
// committed (fsync = off): there, no revoke and no record would be for good.
func CheckDurable(ctx context.Context, pool *pgxpool.Pool) error {
	var fsync string
	if err := pool.QueryRow(ctx, `SELECT current_setting('fsync')`).Scan(&fsync); err != nil {
		return fmt.Errorf("ask the database whether it keeps what it commits: %w", err)
	}
	if fsync != "on" {
		return errors.New("the database runs with fsync = off and may lose what it has committed, revokes and records among it: set fsync = on (for development only, --development takes it as it is)")
	}
	return nil
}
