package grants

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Given returns who gave the grant of user on client that begins at notBefore,
// and the reason that was given with it; both are empty where there is none.
// They are shown beside a decision and are never facts of one. It asks nobody:
// it is for callers who know already that they may manage the client's access.
func Given(ctx context.Context, tx pgx.Tx, practice, client, user string, notBefore time.Time) (by, reason string, err error) {
	err = tx.QueryRow(ctx, selectGiven, practice, client, user, notBefore).Scan(&by, &reason)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", "", fmt.Errorf("who gave a grant: %w", err)
	}
	return by, reason, nil
}
