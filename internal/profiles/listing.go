package profiles

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

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

// scan is how many clients are looked at together.
const scan = 500

// Clients returns a page of the clients that the actor may list, by id, and the
// cursor of the next page, "" at the end (promise P4). An error is no list.
func (s *Service) Clients(ctx context.Context, actor authz.Subject, practice, cursor string, limit int) ([]Client, string, error) {
	after, err := s.readCursor(cursor, "clients", practice, actor.ID)
	if err != nil {
		return nil, "", err
	}
	var (
		shown []Client
		next  string
	)
	err = s.inPractice(ctx, actor, practice, func(a *act) error {
		ids, err := a.listed(ctx, after, limit+1)
		if err != nil {
			return err
		}
		shown, next = make([]Client, 0, len(ids)), ""
		if len(ids) > limit {
			ids = ids[:limit]
			next = s.cursor(ids[limit-1], "clients", practice, actor.ID)
		}
		if err := a.readClients(ctx, ids); err != nil {
			return fmt.Errorf("list clients: %w", err)
		}
		for _, id := range ids {
			may, err := a.may(ctx, authz.ActionClientList, id)
			if err != nil {
				return err
			}
			if !may || a.clients[id] == nil { // it was changed since it was picked
				continue
			}
			c, err := a.view(ctx, id)
			if err != nil {
				return err
			}
			shown = append(shown, c)
		}
		return nil
	})
	return shown, next, err
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

// listed picks up to limit clients after an id that the actor may list.
func (a *act) listed(ctx context.Context, after string, limit int) ([]string, error) {
	var ids []string
	for {
		candidates, err := a.candidates(ctx, after)
		if err != nil {
			return nil, fmt.Errorf("list clients: %w", err)
		}
		for _, c := range candidates {
			r := authz.Request{Subject: a.actor, Action: authz.ActionClientList, Resource: onClient(a.practice, c.Client.ID)}
			d, err := a.policy.Evaluate(ctx, r, c)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
			}
			if !d.Allow {
				continue
			}
			if ids = append(ids, c.Client.ID); len(ids) == limit {
				return ids, nil
			}
		}
		if len(candidates) < scan {
			return ids, nil
		}
		after = candidates[len(candidates)-1].Client.ID
	}
}

// candidates are the facts of the next clients after an id, for the actor.
func (a *act) candidates(ctx context.Context, after string) ([]authz.Facts, error) {
	rows, err := a.tx.Query(ctx, selectCandidates, a.practice, after, a.actor.ID, scan)
	if err != nil {
		return nil, err
	}
	m := a.people[a.actor.ID].Member
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (authz.Facts, error) {
		c := authz.Client{Practice: a.practice}
		f := authz.Facts{Practice: a.practice, Client: &c, Member: &m, Settings: a.defaults}
		var (
			scope      *string
			start, end *time.Time
		)
		err := row.Scan(&c.ID, &c.Assigned, &c.Status, &scope, &start, &end, &f.Now)
		if scope != nil {
			f.Grant = &authz.Grant{Scope: *scope, NotBefore: start.UTC(), ExpiresAt: end.UTC()}
		}
		return f, err
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
