package release

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// maxDrafts bounds the drafts that are kept.
const maxDrafts = 200

// Create makes a draft. Its source is what is given, else that of the release
// base, else that of the active one.
func (s *Service) Create(ctx context.Context, by Person, title, base string, source Source) (*Release, error) {
	if err := checkTitle(title); err != nil {
		return nil, err
	}
	made, err := next(StateAbsent, DoCreate)
	if err != nil {
		return nil, err
	}
	var r *Release
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		r = &Release{ID: "r-" + strings.ToLower(rand.Text()[:16]), State: made.To, Title: title, Author: by.ID, Evidence: Evidence{SingleSigner: by.Single}}
		if err := by.may(made, r); err != nil {
			return err
		}
		if err := exec(ctx, tx, "make draft", lockDrafts); err != nil {
			return err
		}
		var drafts int
		if err := tx.QueryRow(ctx, countDrafts).Scan(&drafts); err != nil {
			return fmt.Errorf("make draft: %w", err)
		}
		if drafts >= maxDrafts {
			return &authz.Problem{Kind: authz.ErrConflict, Type: "too-many-drafts", Detail: fmt.Sprintf("there are %d drafts: delete one that is not needed", drafts)}
		}
		source := source
		if source == nil {
			if source, err = s.sourceOf(ctx, tx, base); err != nil {
				return err
			}
		}
		archive, err := source.Archive()
		if err != nil {
			return err
		}
		if _, content, err := source.build(); err == nil { // else the step check says why
			r.Content = content
		}
		evidence, err := json.Marshal(r.Evidence)
		if err != nil {
			return fmt.Errorf("make draft: %w", err)
		}
		if err := exec(ctx, tx, "make draft", insertRelease, r.ID, r.State, title, by.ID, "", archive, r.Content, evidence); err != nil {
			return err
		}
		if r, err = read(ctx, tx, selectRelease, r.ID); err != nil {
			return err
		}
		return note(ctx, tx, by.ID, DoCreate, nil, r.standing())
	})
	return r, err
}

// sourceOf is the source of a release, of the active one if none is named, of
// the shipped one if none is active.
func (s *Service) sourceOf(ctx context.Context, tx pgx.Tx, id string) (Source, error) {
	if id == "" {
		a, err := feed.ReadActivation(ctx, tx)
		if err != nil {
			return nil, err
		}
		if a.Serial == 0 {
			return s.o.Shipped.Source, nil
		}
		id = a.Active.Name
	}
	return readSource(ctx, tx, id)
}

func checkTitle(title string) error {
	if n := utf8.RuneCountInString(title); strings.TrimSpace(title) == "" || n > 200 || !utf8.ValidString(title) || strings.ContainsFunc(title, unicode.IsControl) {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "the title must be 1 to 200 characters, none of them a control character",
			Fields: []authz.Field{{Pointer: "/title", Detail: "must be 1 to 200 characters"}}}
	}
	return nil
}

// Edit replaces title and source of a draft, if current accepts the version
// that stands. What was found about the source before is void.
func (s *Service) Edit(ctx context.Context, by Person, id, title string, source Source, current func(version int64) bool) (*Release, error) {
	if err := checkTitle(title); err != nil {
		return nil, err
	}
	archive, err := source.Archive()
	if err != nil {
		return nil, err
	}
	content := ""
	if _, built, err := source.build(); err == nil {
		content = built
	}
	var r *Release
	err = s.change(ctx, by, id, DoEdit, current, func(tx pgx.Tx, was *Release, t Transition) error {
		evidence, err := json.Marshal(Evidence{SingleSigner: was.Evidence.SingleSigner})
		if err != nil {
			return fmt.Errorf("edit draft: %w", err)
		}
		if err := exec(ctx, tx, "edit draft", updateDraft, id, title, archive, content, evidence, t.To); err != nil {
			return err
		}
		if r, err = read(ctx, tx, selectRelease, id); err != nil {
			return err
		}
		return note(ctx, tx, by.ID, DoEdit, was.standing(), r.standing())
	})
	return r, err
}

// Delete takes a draft away, if current accepts the version that stands.
func (s *Service) Delete(ctx context.Context, by Person, id string, current func(version int64) bool) error {
	return s.change(ctx, by, id, DoDelete, current, func(tx pgx.Tx, was *Release, _ Transition) error {
		if err := exec(ctx, tx, "delete draft", deleteRelease, id); err != nil {
			return err
		}
		return note(ctx, tx, by.ID, DoDelete, was.standing(), nil)
	})
}

// change runs work on a locked release, once the table and the person's part in
// it allow the verb.
func (s *Service) change(ctx context.Context, by Person, id string, verb Verb, current func(version int64) bool,
	work func(tx pgx.Tx, was *Release, t Transition) error) error {
	return postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		was, err := read(ctx, tx, lockRelease, id)
		if err != nil {
			return err
		}
		t, err := next(was.State, verb)
		if err != nil {
			return err
		}
		if err := by.may(t, was); err != nil {
			return err
		}
		if current != nil && !current(was.Version) {
			return changedMeanwhile("the draft has another version now")
		}
		return work(tx, was, t)
	})
}

func changedMeanwhile(detail string) error {
	return &authz.Problem{Kind: authz.ErrConflict, Type: "changed-meanwhile", Status: 412, Detail: detail + ": nothing was changed"}
}

// Get returns a release in any state.
func (s *Service) Get(ctx context.Context, id string) (r *Release, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		r, err = read(ctx, tx, selectRelease, id)
		return err
	})
	return r, err
}

// Source returns the source of a release.
func (s *Service) Source(ctx context.Context, id string) (source Source, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		source, err = readSource(ctx, tx, id)
		return err
	})
	return source, err
}

// List returns up to limit releases in these states, the newest first, after
// the release of that id; evidence is left out. More says that there are others.
func (s *Service) List(ctx context.Context, states []State, after string, limit int) (list []Release, more bool, err error) {
	if len(states) == 0 {
		states = States
	}
	rows, err := s.o.Pool.Query(ctx, selectReleases, states, after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("list releases: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Release, error) {
		var r Release
		return r, row.Scan(r.parts()...)
	})
	if err != nil {
		return nil, false, fmt.Errorf("list releases: %w", err)
	}
	if more = len(list) > limit; more {
		list = slices.Clip(list[:limit])
	}
	return list, more, nil
}
