package grants

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// hold says how firmly a call holds the rows it rests on.
type hold int

const (
	// reading holds them as they are: what is shown is of one moment.
	reading hold = iota
	// changingClient also keeps others from the client: its grants and its
	// assignment are changed by one at a time.
	changingClient
	// changingPractice keeps others from the whole practice: rules such as "one
	// administrator must stay" are about all members together.
	changingPractice
)

// client is a locked row of clients.
type client struct {
	id       string
	assigned string // "" when nobody is
	status   string
}

// lock takes the rows of c, always in the order practice → members, by user id
// → client, so that two calls can not wait for each other, and reads them. What
// does not exist is left out: the policy denies on it.
func lock(ctx context.Context, tx pgx.Tx, c call) (*act, error) {
	a := &act{tx: tx, actor: c.actor.ID, practice: c.practice, members: map[string]Member{}}
	practiceRow, clientRow := sharePractice, shareClient
	switch c.hold {
	case changingClient:
		clientRow = holdClient
	case changingPractice:
		practiceRow = holdPractice
	}
	err := a.lockPractice(ctx, practiceRow)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock practice: %w", err)
	}
	if err := a.lockMembers(ctx, append([]string{c.actor.ID}, c.members...)); err != nil {
		return nil, fmt.Errorf("lock members: %w", err)
	}
	if c.client != "" {
		if a.client, err = readClient(tx.QueryRow(ctx, clientRow, c.practice, c.client)); err != nil {
			return nil, fmt.Errorf("lock client: %w", err)
		}
	}
	// Not now(): that is when the transaction began, before it waited.
	if err := tx.QueryRow(ctx, selectClock).Scan(&a.now); err != nil {
		return nil, fmt.Errorf("read clock: %w", err)
	}
	a.now = a.now.UTC()
	return a, nil
}

func (a *act) lockPractice(ctx context.Context, statement string) error {
	var overrides []byte
	err := a.tx.QueryRow(ctx, statement, a.practice).Scan(&a.settings.Preset, &overrides)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(overrides, &a.settings.Overrides); err != nil {
		return fmt.Errorf("settings of practice %s: %w", a.practice, err)
	}
	a.settings.Effective, err = authz.NewSettings(a.settings.Preset, a.settings.Overrides)
	if err != nil {
		// What is stored is wrong, not what was sent: it must not look like a 400.
		return fmt.Errorf("settings of practice %s: %s", a.practice, err)
	}
	return nil
}

func (a *act) lockMembers(ctx context.Context, users []string) error {
	users = slices.Compact(slices.Sorted(slices.Values(users)))
	rows, err := a.tx.Query(ctx, shareMembers, a.practice, users)
	if err != nil {
		return err
	}
	members, err := pgx.CollectRows(rows, readMember)
	for _, m := range members {
		a.members[m.User] = m
	}
	return err
}

// readClient returns nil where there is no such client in the practice.
func readClient(row pgx.Row) (*client, error) {
	var (
		c        client
		assigned *string
	)
	err := row.Scan(&c.id, &assigned, &c.status)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if assigned != nil {
		c.assigned = *assigned
	}
	return &c, nil
}

func readMember(row pgx.CollectableRow) (Member, error) {
	var m Member
	err := row.Scan(&m.User, &m.membership, &m.Name, &m.Roles, &m.Status, &m.Owner, &m.FullClinicalAccess, &m.BillingEnabled)
	m.Roles = inOrder(m.Roles)
	return m, err
}

func readGrant(row pgx.CollectableRow) (Grant, error) {
	var g Grant
	err := row.Scan(&g.ID, &g.User, &g.Scope, &g.NotBefore, &g.ExpiresAt, &g.Reason, &g.GrantedBy, &g.GrantedAt)
	g.NotBefore, g.ExpiresAt, g.GrantedAt = inUTC(g.NotBefore), inUTC(g.ExpiresAt), inUTC(g.GrantedAt)
	return g, err
}

// inUTC cuts t to the microseconds that Postgres keeps, so that times compare
// as they are stored.
func inUTC(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
