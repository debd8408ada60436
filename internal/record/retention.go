package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"chartgate/internal/authz"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	partitionsAhead = 3 // months
	keepEvery       = 6 * time.Hour
)

// Keep makes the monthly partitions of the months to come. It may run in any
// number of processes; until it has run, rows go to the default partition.
func Keep(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, `SELECT record_partitions($1)`, partitionsAhead); err != nil {
		return fmt.Errorf("make partitions of the record: %w", err)
	}
	return nil
}

// RunKeeper keeps until ctx ends, and returns nil. A fault is logged, and tried
// again: the record goes on without it.
func RunKeeper(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger) error {
	for ctx.Err() == nil {
		if err := Keep(ctx, pool); err != nil && ctx.Err() == nil {
			log.ErrorContext(ctx, "the record's partitions", "error", err)
		}
		pause(ctx, keepEvery, nil)
	}
	return nil
}

// Purge removes the decisions and changes of the month (UTC) that day lies in,
// and returns how many. Entries younger than six years are refused, and so is a
// month with entries under legal hold (DOMAIN rule 125): authz.ErrConflict. The
// database itself refuses, so that no other program can do more. The links
// stay: verify follows the chains past what was purged.
func Purge(ctx context.Context, pool *pgxpool.Pool, day time.Time) (decisions, changes int64, err error) {
	err = pool.QueryRow(ctx, `SELECT decisions, changes FROM record_purge($1)`, day).Scan(&decisions, &changes)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == "CG002" || refused.Code == "CG003") {
		return 0, 0, &authz.Problem{Kind: authz.ErrConflict, Type: "not-purged", Detail: refused.Message}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("purge the record of %s: %w", day.UTC().Format("2006-01"), err)
	}
	return decisions, changes, nil
}

// Hold keeps the entries of a client, or of a whole practice, from being purged.
type Hold struct {
	ID       uuid.UUID  `json:"id"`
	Practice string     `json:"practice"`
	Client   string     `json:"client,omitempty"` // "" for every entry of the practice
	Reason   string     `json:"reason"`
	PlacedBy string     `json:"placed_by"`
	PlacedAt time.Time  `json:"placed_at"`
	Released *time.Time `json:"released_at,omitempty"`
}

// PlaceHold puts a legal hold in place, and on record.
func PlaceHold(ctx context.Context, tx pgx.Tx, by Read, practice, client string) (uuid.UUID, error) {
	if practice == "" || by.Reason == "" {
		return uuid.UUID{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "reason-missing", Status: 422, Detail: "a legal hold needs a practice and a reason"}
	}
	var id uuid.UUID
	if err := tx.QueryRow(ctx, insertHold, practice, client, by.Reason, by.Actor).Scan(&id); err != nil {
		return id, fmt.Errorf("place a legal hold: %w", err)
	}
	return id, AppendChange(ctx, tx, Change{Practice: practice, Client: client, Actor: by.Actor, Action: "record.hold", Reason: by.Reason,
		After: map[string]any{"hold": id}, Decision: by.Decision})
}

// ReleaseHold ends a legal hold, and puts that on record.
func ReleaseHold(ctx context.Context, tx pgx.Tx, by Read, id uuid.UUID) error {
	var practice, client string
	err := tx.QueryRow(ctx, releaseHold, id, by.Actor).Scan(&practice, &client)
	if errors.Is(err, pgx.ErrNoRows) {
		return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	if err != nil {
		return fmt.Errorf("release a legal hold: %w", err)
	}
	return AppendChange(ctx, tx, Change{Practice: practice, Client: client, Actor: by.Actor, Action: "record.release", Reason: by.Reason,
		Before: map[string]any{"hold": id}, Decision: by.Decision})
}

// Holds lists the legal holds, newest first, those that ended as well.
func Holds(ctx context.Context, tx pgx.Tx) ([]Hold, error) {
	rows, err := tx.Query(ctx, selectHolds)
	if err != nil {
		return nil, fmt.Errorf("read legal holds: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Hold, error) {
		var h Hold
		err := row.Scan(&h.ID, &h.Practice, &h.Client, &h.Reason, &h.PlacedBy, &h.PlacedAt, &h.Released)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("read legal holds: %w", err)
	}
	return list, nil
}
