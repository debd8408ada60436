package profiles

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// actionAccept stands on record only: the code is what allows it.
const actionAccept = "portal.accept"

// Entry is one profile that a portal login may enter.
type Entry struct {
	Client string
	Label  string
	Self   bool // it is the person's own profile, by whichever of the two ways
}

// Accept makes login the portal login of the contact that was invited with
// code. Every code that does not hold looks the same: unknown, used, void,
// ended, of a practice that the caller is not bound to, or of an archived
// client. A person has one login in a practice: one who has another already is
// told to use that. Doing it again with the same login changes nothing.
func (s *Service) Accept(ctx context.Context, login authz.Subject, code string, practices func(string) bool) (string, error) {
	hash := codeHash(strings.TrimSpace(code))
	var accepted string
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		a := &act{Service: s, call: call{actor: login, action: actionAccept, changing: true}, tx: tx}
		err := tx.QueryRow(ctx, findInvitation, hash).Scan(&a.practice, &a.client)
		if errors.Is(err, pgx.ErrNoRows) {
			return notFound()
		}
		if err != nil {
			return fmt.Errorf("accept invitation: %w", err)
		}
		if !practices(a.practice) {
			return notFound()
		}
		if err := a.lock(ctx); err != nil {
			return err
		}
		if c := a.clients[a.client]; c == nil || c.status != authz.ClientActive {
			return notFound()
		}
		accepted = a.client
		return a.accept(ctx, hash)
	})
	if broken(err) == constraintLogin {
		return "", linkRefused("", "this login has access to this profile already, as another contact")
	}
	return accepted, err
}

// accept uses up a code of the locked client.
func (a *act) accept(ctx context.Context, hash []byte) error {
	var (
		contact    string
		mine, open bool
	)
	err := a.tx.QueryRow(ctx, holdInvitation, hash, a.actor.ID).Scan(&contact, &mine, &open)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && !mine && !open:
		return notFound()
	case err != nil:
		return fmt.Errorf("accept invitation: %w", err)
	case mine:
		return nil
	}
	rows, err := a.tx.Query(ctx, selectLoginsOf, a.practice, a.client, contact)
	if err != nil {
		return fmt.Errorf("accept invitation: %w", err)
	}
	logins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("accept invitation: %w", err)
	}
	for _, other := range logins {
		if other != a.actor.ID {
			return linkRefused("", "this person has a portal login already: accept the invitation with that one")
		}
	}
	if _, err := a.tx.Exec(ctx, useInvitation, hash, a.actor.ID); err != nil {
		return fmt.Errorf("accept invitation: %w", err)
	}
	if _, err := a.tx.Exec(ctx, acceptAccess, a.practice, a.client, contact, a.actor.ID); err != nil {
		return fmt.Errorf("accept invitation: %w", err)
	}
	return a.record(ctx, change{client: a.client, target: a.actor.ID, after: map[string]any{"contact": contact, "accepted": true}})
}

// Profiles returns what a portal login may enter now: its own profile first,
// then the others by client. The policy says which; a link, an invitation or a
// relationship alone makes no entry (DOMAIN rule 138).
func (s *Service) Profiles(ctx context.Context, login authz.Subject, practices func(string) bool) ([]Entry, error) {
	var entries []Entry
	err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		var err error
		entries, err = s.entries(ctx, tx, login, "", practices)
		return err
	})
	return entries, err
}

// entries asks the policy for each profile that login has accepted, or for the
// one of client.
func (s *Service) entries(ctx context.Context, tx pgx.Tx, login authz.Subject, client string, practices func(string) bool) ([]Entry, error) {
	rows, err := tx.Query(ctx, selectEntries, login.ID, client)
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	type candidate struct {
		practice string
		Entry
	}
	candidates, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (candidate, error) {
		var c candidate
		err := row.Scan(&c.practice, &c.Client, &c.Self, &c.Label)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	entries := []Entry{}
	for _, c := range candidates {
		if !practices(c.practice) {
			continue
		}
		v, err := s.authority.May(ctx, tx, authz.Request{Subject: login, Action: authz.ActionPortalEnter, Resource: onClient(c.practice, c.Client)})
		if err != nil {
			return nil, err
		}
		if v.Exact.Allow {
			entries = append(entries, c.Entry)
		}
	}
	return entries, nil
}

// Session is that a login has entered one profile. Its token says so to the
// services behind the portal; whatever is then asked names the profile in the
// context of the request.
type Session struct {
	Token     string
	Client    string
	ExpiresAt time.Time
}

// sessionLife is how long a profile stays entered. Access that was taken away
// meanwhile is not given by a session: each request is decided by itself.
const sessionLife = 12 * time.Hour

const sessionPurpose = "portal session"

// Enter enters a profile. One that the login may not enter is not found.
func (s *Service) Enter(ctx context.Context, login authz.Subject, client string, practices func(string) bool) (Session, error) {
	if !authz.ValidID(client) {
		return Session{}, notFound()
	}
	if err := s.mayEnter(ctx, login, client, practices); err != nil {
		return Session{}, err
	}
	session := Session{Client: client, ExpiresAt: time.Now().Add(sessionLife).UTC().Truncate(time.Second)}
	end := strconv.FormatInt(session.ExpiresAt.Unix(), 10)
	seal := s.deployment.Seal(sessionPurpose, []byte(login.ID), []byte(client), []byte(end))
	session.Token = base64.RawURLEncoding.EncodeToString(append(seal, end+" "+client...))
	return session, nil
}

// Entered returns the session of a token that was given to login and has not
// ended, if the profile may still be entered.
func (s *Service) Entered(ctx context.Context, login authz.Subject, token string, practices func(string) bool) (Session, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < feed.SealSize {
		return Session{}, notFound()
	}
	end, client, _ := strings.Cut(string(raw[feed.SealSize:]), " ")
	if !s.deployment.Sealed(raw[:feed.SealSize], sessionPurpose, []byte(login.ID), []byte(client), []byte(end)) {
		return Session{}, notFound()
	}
	seconds, err := strconv.ParseInt(end, 10, 64)
	session := Session{Token: token, Client: client, ExpiresAt: time.Unix(seconds, 0).UTC()}
	if err != nil || !time.Now().Before(session.ExpiresAt) {
		return Session{}, notFound()
	}
	return session, s.mayEnter(ctx, login, client, practices)
}

func (s *Service) mayEnter(ctx context.Context, login authz.Subject, client string, practices func(string) bool) error {
	return postgres.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		entries, err := s.entries(ctx, tx, login, client, practices)
		if err == nil && len(entries) == 0 {
			return notFound()
		}
		return err
	})
}
