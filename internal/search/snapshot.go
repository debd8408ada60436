package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// snapshot is one moment of the primary database.
type snapshot struct {
	tx         pgx.Tx
	deployment *feed.Deployment
	now        time.Time
	at         feed.Snapshot
	activation int64 // serial of the policy's activation
}

// inSnapshot runs work on one moment of the primary.
func inSnapshot(ctx context.Context, pool *pgxpool.Pool, d *feed.Deployment, work func(*snapshot) error) error {
	return postgres.InSnapshot(ctx, pool, func(tx pgx.Tx) error {
		s := &snapshot{tx: tx, deployment: d}
		var text string
		var replica bool
		if err := tx.QueryRow(ctx, selectMoment).Scan(&s.now, &text, &replica, &s.activation, nil); err != nil {
			return unavailable("read the clock", err)
		}
		if replica {
			return unavailable("list", errors.New("the database is a replica; lists are read from the primary only"))
		}
		var err error
		if s.at, err = feed.ParseSnapshot(text); err != nil {
			return unavailable("read the snapshot", err)
		}
		s.now = s.now.UTC()
		return work(s)
	})
}

// atLeast refuses a snapshot that is older than the caller demands.
func (s *snapshot) atLeast(token string) error {
	if token == "" {
		return nil
	}
	wanted, err := s.deployment.ParseToken(token)
	if err == nil && !s.at.AtLeast(wanted) {
		err = errors.New("lies in the future")
	}
	if err != nil {
		return malformed("/context/min_revision", "min_revision: "+err.Error())
	}
	return nil
}

// common reads what all rows of a list have in common: of r its subject, where
// that is one person, and its resource, where that is one thing.
func (s *snapshot) common(ctx context.Context, r authz.Request) (authz.Facts, error) {
	f, err := facts.Load(ctx, s.tx, s.deployment, r)
	f.Grant, f.Portal = nil, nil
	return f, err
}

// then is common for a past moment. Where there was no such practice, Settings
// are nil.
func (s *snapshot) then(ctx context.Context, t time.Time, practice, user, client string) (authz.Facts, error) {
	f := authz.Facts{Now: t, Latest: t, Revision: s.deployment.Token(s.at), Practice: practice}
	if t.After(s.now) {
		return f, malformed("/as_of", "as_of must be a moment of the past")
	}
	var (
		preset                     string
		overrides                  []byte
		member, status             *string
		roles                      []string
		owner, full, billing       *bool
		id, assigned, clientStatus *string
	)
	err := s.tx.QueryRow(ctx, selectThen, t, practice, user, client).Scan(&preset, &overrides, &member, &roles, &status, &owner, &full, &billing,
		&id, &assigned, &clientStatus)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, nil
	}
	if err != nil {
		return f, unavailable("read the facts of then", err)
	}
	var values map[string]any
	if err := json.Unmarshal(overrides, &values); err != nil {
		return f, unavailable("settings of then", err)
	}
	if f.Settings, err = authz.NewSettings(preset, values); err != nil {
		// What is stored is wrong, not what was sent: it must not look like a 400.
		return f, fmt.Errorf("%w: settings of practice %s as of then: %s", authz.ErrUnavailable, practice, err)
	}
	if member != nil {
		f.Member = &authz.Member{ID: *member, User: user, Practice: practice, Roles: roles, Status: *status, Owner: *owner,
			FullClinicalAccess: *full, BillingEnabled: *billing}
	}
	if id != nil {
		f.Client = &authz.Client{ID: *id, Practice: practice, Status: *clientStatus}
		if assigned != nil {
			f.Client.Assigned = *assigned
		}
	}
	return f, nil
}

func unavailable(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", authz.ErrUnavailable, what, err)
}

func malformed(pointer, detail string) *authz.Problem {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: detail, Fields: []authz.Field{{Pointer: pointer, Detail: detail}}}
}

func notFound() error { return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"} }

func notAllowed(detail string) error {
	return &authz.Problem{Kind: authz.ErrNotAllowed, Type: "not-allowed", Detail: detail}
}
