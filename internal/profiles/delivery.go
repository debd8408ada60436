package profiles

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Courier takes a notice to whoever tells the person. An error means that it is
// not known to have arrived: it is tried again.
type Courier interface {
	Deliver(ctx context.Context, n Notice) error
}

// Log is the Courier where none is configured: it writes notices to the log.
type Log struct{ Log *slog.Logger }

// Deliver writes n to the log.
func (l Log) Deliver(ctx context.Context, n Notice) error {
	l.Log.InfoContext(ctx, "notice", "id", n.ID, "kind", n.Kind, "practice", n.Practice, "client", n.Client, "contact", n.Contact, "member", n.Member)
	return nil
}

// How notices are delivered. A notice that fails is tried again after 5 s, 10 s,
// 20 s and so on, up to an hour, and given up after maxAttempts: 20 of them
// take about half a day.
const (
	pollEvery      = time.Second
	claimedFor     = time.Minute // longer than one delivery takes
	claimedAtATime = 10
	deliverLimit   = 5 * time.Second
	firstPause     = 5 * time.Second
	longestPause   = time.Hour
	maxAttempts    = 20
)

// Delivery takes notices from the table to a Courier, each at least once: one
// that was sent, and not marked because the process died, is sent again.
// Several may run at once.
type Delivery struct {
	pool    *pgxpool.Pool
	courier Courier
	log     *slog.Logger
	claim   time.Duration
	every   time.Duration
}

// NewDelivery returns a Delivery of the notices in pool. Run must be running.
func NewDelivery(pool *pgxpool.Pool, courier Courier, log *slog.Logger) *Delivery {
	return &Delivery{pool: pool, courier: courier, log: log, claim: claimedFor, every: pollEvery}
}

// Run delivers what is due until ctx ends.
func (d *Delivery) Run(ctx context.Context) error {
	for ticker := time.NewTicker(d.every); ; {
		n, err := d.once(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "notices could not be delivered", "error", err)
		}
		if n > 0 && err == nil && ctx.Err() == nil {
			continue // there may be more
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			ticker.Stop()
			return nil
		}
	}
}

// once delivers what is due now, up to a few, and returns how many it tried.
func (d *Delivery) once(ctx context.Context) (int, error) {
	rows, err := d.pool.Query(ctx, claimNotices, claimedAtATime, d.claim)
	if err != nil {
		return 0, fmt.Errorf("claim notices: %w", err)
	}
	claimed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Notice, error) {
		var n Notice
		err := row.Scan(&n.ID, &n.At, &n.Kind, &n.Practice, &n.Client, &n.Contact, &n.Member, &n.Details, &n.Correlation, &n.Attempt)
		n.At = n.At.UTC()
		return n, err
	})
	if err != nil {
		return 0, fmt.Errorf("claim notices: %w", err)
	}
	for _, n := range claimed {
		if err := d.deliver(ctx, n); err != nil {
			return len(claimed), err
		}
	}
	return len(claimed), nil
}

// deliver sends one notice and marks what became of it. Only a failure to mark
// is an error.
func (d *Delivery) deliver(ctx context.Context, n Notice) error {
	sending, cancel := context.WithTimeout(ctx, deliverLimit)
	failure := d.courier.Deliver(sending, n)
	cancel()
	if failure == nil {
		if _, err := d.pool.Exec(ctx, markDelivered, n.ID); err != nil {
			return fmt.Errorf("mark notice %d: %w", n.ID, err)
		}
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // we are stopping: it is not the notice's fault
	}
	dead := n.Attempt >= maxAttempts
	if _, err := d.pool.Exec(ctx, markFailed, n.ID, pause(n.Attempt), failure.Error(), dead); err != nil {
		return fmt.Errorf("mark notice %d: %w", n.ID, err)
	}
	if dead {
		d.log.ErrorContext(ctx, "a notice is given up; its row in notices has dead_at", "id", n.ID, "attempts", n.Attempt, "error", failure)
	}
	return nil
}

// pause is how long to wait after the given number of attempts.
func pause(attempts int) time.Duration {
	p := firstPause
	for i := 1; i < attempts && p < longestPause; i++ {
		p *= 2
	}
	return min(p, longestPause)
}
