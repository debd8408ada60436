package profiles

import (
	"context"
	"encoding/base64"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// DefaultPage and MaxPage are how many entries a page has, unless said
// otherwise, and at most (DESIGN 11).
const (
	DefaultPage = 50
	MaxPage     = 200
)

// Lister says on which clients of a practice somebody may do something: up to
// limit of them after an id, by id, and whether there are more. It puts what it
// said on record. An error is no list.
type Lister interface {
	Listed(ctx context.Context, tx pgx.Tx, actor authz.Subject, practice, action, after string, limit int) (ids []string, more bool, err error)
}

// Clients returns a page of the clients that the actor may list, by id, and the
// cursor of the next page, "" at the end (promise P4). All of it is of one
// snapshot; an error is no list.
func (s *Service) Clients(ctx context.Context, actor authz.Subject, practice, cursor string, limit int) ([]Client, string, error) {
	after, err := s.readCursor(cursor, "clients", practice, actor.ID)
	if err != nil {
		return nil, "", err
	}
	var (
		shown []Client
		next  string
	)
	err = postgres.InSnapshot(ctx, s.pool, func(tx pgx.Tx) error {
		a := &act{Service: s, call: call{actor: actor, practice: practice}, tx: tx, clients: map[string]*client{}}
		if err := a.active(ctx); err != nil {
			return err
		}
		ids, more, err := s.lister.Listed(ctx, tx, actor, practice, authz.ActionClientList, after, limit)
		if err != nil {
			return err
		}
		if more {
			next = s.cursor(ids[len(ids)-1], "clients", practice, actor.ID)
		}
		shown, err = a.shown(ctx, ids, after)
		return err
	})
	return shown, next, err
}

// active returns an error unless the actor is an active member of the practice.
func (a *act) active(ctx context.Context) error {
	if a.actor.Type != authz.SubjectUser {
		return notFound()
	}
	var active bool
	if err := a.tx.QueryRow(ctx, selectActive, a.practice, a.actor.ID).Scan(&active); err != nil {
		return fmt.Errorf("read member: %w", err)
	}
	if !active {
		return notFound()
	}
	return nil
}

// shown reads the clients of a page, which are those after an id: with their
// details where the actor may read them.
func (a *act) shown(ctx context.Context, ids []string, after string) ([]Client, error) {
	if err := a.readClients(ctx, ids); err != nil {
		return nil, fmt.Errorf("list clients: %w", err)
	}
	detailed := map[string]bool{}
	for more := len(ids) > 0; more && after < ids[len(ids)-1]; {
		var page []string
		var err error
		if page, more, err = a.lister.Listed(ctx, a.tx, a.actor, a.practice, actionDemographics, after, len(ids)); err != nil {
			return nil, err
		}
		for _, id := range page {
			detailed[id], after = true, id
		}
	}
	shown := make([]Client, len(ids))
	for i, id := range ids {
		shown[i] = a.clients[id].shown(detailed[id])
	}
	return shown, nil
}

// inPractice runs work for an active member of the practice, whatever he may
// do: work asks.
func (s *Service) inPractice(ctx context.Context, actor authz.Subject, practice string, work func(a *act) error) error {
	return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		a := &act{Service: s, call: call{actor: actor, practice: practice}, tx: tx}
		if err := a.lock(ctx); err != nil {
			return err
		}
		if m, ok := a.people[actor.ID]; !ok || m.Status != authz.MemberActive || actor.Type != authz.SubjectUser {
			return notFound()
		}
		return work(a)
	})
}

// cursorPurpose keeps cursors apart from everything else that is sealed.
const cursorPurpose = "profiles cursor"

// cursor names the place after last in a list; of is whose list it is.
func (s *Service) cursor(last string, of ...string) string {
	return base64.RawURLEncoding.EncodeToString(append(s.deployment.Seal(cursorPurpose, parts(last, of)...), last...))
}

func parts(last string, of []string) [][]byte {
	all := [][]byte{[]byte(last)}
	for _, part := range of {
		all = append(all, []byte(part))
	}
	return all
}

// readCursor returns the place that a cursor names, "" for the beginning.
func (s *Service) readCursor(cursor string, of ...string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) < feed.SealSize || !s.deployment.Sealed(raw[:feed.SealSize], cursorPurpose, parts(string(raw[feed.SealSize:]), of)...) {
		return "", &authz.Problem{Kind: authz.ErrMalformed, Type: "bad-cursor", Detail: "this cursor is of another list"}
	}
	return string(raw[feed.SealSize:]), nil
}
