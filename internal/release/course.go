package release

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// course is how the activation went, as change records tell it. It is never
// changed.
type course struct {
	activation feed.Activation // as it stands
	since      time.Time       // when that row was written
	turns      []turn          // in their order
	purged     []time.Time     // months of which nothing is left on record
}

// turn is one change of the activation.
type turn struct {
	at            time.Time
	verb          Verb
	before, after *turned // nil: there was nothing
}

// turned is what a change record says of a release.
type turned struct {
	Release  string `json:"release"`
	Content  string `json:"content"`
	Revision int64  `json:"revision"`
	Stage    string `json:"stage"`
	Share    int    `json:"share"`
}

func (t turned) release() feed.Release {
	return feed.Release{Name: t.Release, Content: t.Content, Revision: t.Revision}
}

// readCourse reads how the activation went, in one snapshot. What was read
// before is returned again while the activation is the same.
func (s *Service) readCourse(ctx context.Context) (*course, error) {
	c := &course{}
	err := postgres.InSnapshot(ctx, s.o.Pool, func(tx pgx.Tx) (err error) {
		if c.activation, err = feed.ReadActivation(ctx, tx); err != nil {
			return err
		}
		if last := s.course.Load(); last != nil && last.activation == c.activation {
			c = last
			return nil
		}
		return c.read(ctx, tx)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: how the activation went: %w", authz.ErrUnavailable, err)
	}
	s.course.Store(c)
	return c, nil
}

func (c *course) read(ctx context.Context, tx pgx.Tx) error {
	if c.activation.Serial > 0 {
		if err := tx.QueryRow(ctx, selectActivatedAt).Scan(&c.since); err != nil {
			return err
		}
	}
	rows, err := tx.Query(ctx, selectTurns)
	if err != nil {
		return err
	}
	c.turns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t turn, err error) {
		var action string
		var before, after []byte
		var id int64
		if err := row.Scan(&id, &t.at, &action, &before, &after); err != nil {
			return t, err
		}
		t.verb = Verb(action[len("policy."):])
		for _, side := range []struct {
			text []byte
			to   **turned
		}{{before, &t.before}, {after, &t.after}} {
			if side.text != nil {
				if err := json.Unmarshal(side.text, side.to); err != nil {
					return t, fmt.Errorf("change %d: %w", id, err)
				}
			}
		}
		return t, nil
	})
	if err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, selectPurgedMonths); err != nil {
		return err
	}
	c.purged, err = pgx.CollectRows(rows, pgx.RowTo[time.Time])
	return err
}

// at returns the activation as it stood at t; its serial is not known. Where t
// lies before the first activation it is the zero one, and first is the one that
// came then; zero where none came. Each state holds from the moment of its change
// up to but not including that of the next. An error says why the record does not
// tell.
func (c *course) at(t time.Time) (a feed.Activation, first turn, err error) {
	if c.activation.Serial == 0 {
		return a, first, nil
	}
	found, next := -1, -1 // the last activation up to t, and the one after it
	for i, turn := range c.turns {
		switch {
		case turn.verb != DoActivate || turn.after == nil:
		case !turn.at.After(t):
			found, next = i, -1
		case next < 0:
			next = i
		}
	}
	replaced, end := c.activation.Active, len(c.turns)
	if next >= 0 {
		if c.turns[next].before == nil && found < 0 {
			return a, c.turns[next], nil
		}
		if replaced, end = (feed.Release{}), next; c.turns[next].before != nil {
			replaced = c.turns[next].before.release()
		}
	}
	a.Active = replaced
	from, to := t, t
	switch {
	case found >= 0:
		a.Active, from = c.turns[found].after.release(), c.turns[found].at
	case next >= 0 && c.gap(time.Time{}, t):
		to = c.turns[next].at // what it replaced became active in a time that was purged
		for _, turn := range c.turns[:next] {
			if !turn.at.After(t) {
				from = turn.at
			}
		}
	case next < 0 && c.gap(time.Time{}, c.since):
		return c.purgedAt(t)
	default:
		return untold()
	}
	if a.Active != replaced { // each activation has a revision of its own, so one that is missing shows
		return untold()
	}
	if told := staged(&a, c.turns[found+1:end], t); c.gap(from, to) || !told && found < 0 {
		return c.purgedAt(t)
	}
	if next < 0 {
		now := feed.Activation{Serial: c.activation.Serial, Active: a.Active}
		if staged(&now, c.turns[found+1:], c.since.AddDate(1, 0, 0)); now != c.activation {
			return untold()
		}
	}
	return a, first, nil
}

// staged sets the candidate of a at t, and reports whether the turns since it was
// activated tell: those up to t do, and one after t that found no candidate.
func staged(a *feed.Activation, turns []turn, t time.Time) (told bool) {
	for _, turn := range turns {
		switch {
		case turn.at.After(t):
			return told || turn.verb == DoStage && turn.before == nil
		case turn.verb == DoWithdraw:
			a.Candidate, a.Stage, a.Share = feed.Release{}, "", 0
		case turn.verb == DoStage && turn.after != nil:
			a.Candidate, a.Stage, a.Share = turn.after.release(), turn.after.Stage, turn.after.Share
		}
		told = true
	}
	return told
}

// untold refuses: records are missing that no purge took.
func untold() (feed.Activation, turn, error) {
	return feed.Activation{}, turn{}, unknownThen("the activation was changed by something that left no change record")
}

// purgedAt answers where records of t were purged: what stands now has stood
// since its row was written.
func (c *course) purgedAt(t time.Time) (feed.Activation, turn, error) {
	if !t.Before(c.since) {
		return c.activation, turn{}, nil
	}
	return feed.Activation{}, turn{}, unknownThen("the change records of that time were purged")
}

// gap reports whether anything between two moments may have been purged.
func (c *course) gap(from, to time.Time) bool {
	return slices.ContainsFunc(c.purged, func(month time.Time) bool {
		return !month.After(to) && month.AddDate(0, 1, 0).After(from)
	})
}

// unknownThen refuses a moment of which it is not known what decided.
func unknownThen(why string) error {
	return &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide",
		Detail: "which policy decided at that moment cannot be known: " + why}
}
