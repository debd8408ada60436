package feed

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	keepChanges = 10 * time.Minute // how far back a sidecar that starts can judge entries in Redis
	pruneEvery  = time.Minute
)

// Prune forgets changes that are older than ten minutes, once a minute, until
// ctx ends. It goes by transactions that had ended, never by the time of a row,
// and a follower that has not seen what was pruned drops all it remembers.
// Control runs it; two that run at once do no harm.
func Prune(ctx context.Context, pool *pgxpool.Pool) error {
	for ticker := time.NewTicker(pruneEvery); ; {
		var n int64
		err := pool.QueryRow(ctx, `SELECT feed_prune($1)`, keepChanges).Scan(&n)
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "the change feed could not be pruned", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			ticker.Stop()
			return nil
		}
	}
}
