package record

import (
	"context"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Direct records straight into Postgres, a transaction for each call: for
// control, whose decisions are few and have no spool. The ledger chains them.
type Direct struct{ pool *pgxpool.Pool }

// NewDirect returns a Direct that writes through pool.
func NewDirect(pool *pgxpool.Pool) *Direct { return &Direct{pool: pool} }

// Record makes verdicts durable, all or none. An error matches
// authz.ErrUnavailable, and their answers must not leave.
func (d *Direct) Record(ctx context.Context, verdicts ...authz.Verdict) error {
	err := postgres.InTx(ctx, d.pool, func(tx pgx.Tx) error {
		for _, v := range verdicts {
			if err := AppendDecision(ctx, tx, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	return nil
}
