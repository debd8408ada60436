package release

import (
	"context"
	"fmt"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/jackc/pgx/v5"
)

// BlastSide is what decides before a change, or after it.
type BlastSide struct {
	Name     string // such as a policy's revision
	Policy   *compile.Policy
	Settings *authz.Settings // instead of each practice's own; nil: its own
}

// BlastOptions say what is looked at. The zero value is every practice and the
// actions that read a client's record.
type BlastOptions struct {
	Practices []string // nil: all
	Actions   []string // nil: OpeningActions, as far as both policies know them
	Pairs     int      // how many pairs each row names, 0 to MaxPairs
	Progress  func(practices int64)
}

// OpeningActions open a client's record: who gains one of them sees what he did
// not see.
var OpeningActions = []string{"client.list", "chart.open", "demographics.read", "diagnosis.read", "note.read", "document.read", "billing.read", "appointment.read"}

const (
	// MaxPairs is how many pairs one page holds.
	MaxPairs = 200
	// maxRows bounds a report; practicesAtOnce what is held of it.
	maxRows         = 100_000
	practicesAtOnce = 200
)

// BlastReport says whose access a change gives and takes, over the population
// of one snapshot. It is complete; it holds ids and no other data of a person.
type BlastReport struct {
	Before    string     `json:"before"`
	After     string     `json:"after"`
	At        time.Time  `json:"at"` // the database's clock in that snapshot
	Practices int64      `json:"practices"`
	Actions   []string   `json:"actions"`
	Gained    BlastTotal `json:"gained"`
	Lost      BlastTotal `json:"lost"`
	Rows      []BlastRow `json:"rows"`
	ByAction  []BlastSum `json:"by_action"`
}

// BlastRow is a change in one practice for one action.
type BlastRow struct {
	Practice string     `json:"practice"`
	Action   string     `json:"action"`
	Notes    []NoteCase `json:"notes,omitempty"` // of an action on notes: which; nothing for all of them
	Change   string     `json:"change"`          // "gained" or "lost"
	BlastCount
	First []Pair `json:"pairs"` // by member and client
}

// BlastCount counts pairs of a member and a client, and what is in them.
type BlastCount struct {
	Pairs   int64 `json:"pair_count"`
	Members int64 `json:"members"`
	Clients int64 `json:"clients"`
}

// BlastTotal adds up rows. Members and clients of different actions may be the
// same, so they are not added up.
type BlastTotal struct {
	Rows  int   `json:"rows"`
	Pairs int64 `json:"pair_count"`
}

// BlastSum adds up the rows of one action.
type BlastSum struct {
	Action    string `json:"action"`
	Change    string `json:"change"`
	Practices int    `json:"practices"`
	Pairs     int64  `json:"pair_count"`
}

// Pair is a member, by user id, and a client; "" where the action is on none.
type Pair struct {
	Member string `json:"member"`
	Client string `json:"client"`
}

// NoteCase is a kind of note, from the point of view of the member.
type NoteCase struct {
	Kind   string `json:"kind"`
	Own    bool   `json:"own"` // written by the member
	Signed bool   `json:"signed"`
}

// noteCases are all notes that a policy can tell apart for a member (DESIGN 11,
// resource types).
var noteCases = func() (all []NoteCase) {
	for _, kind := range []string{"progress", "treatment_plan", "assessment", "psychotherapy", "sud_counseling"} {
		for _, own := range []bool{false, true} {
			all = append(all, NoteCase{kind, own, false}, NoteCase{kind, own, true})
		}
	}
	return all
}()

// BlastRadius finds, over today's population, which members gain or lose which
// clients when after decides instead of before. tx must be REPEATABLE READ, so
// that all of it is one moment; its clock is read in it. Where something cannot
// be compared it is an error: a report that is not complete would say "nobody".
func BlastRadius(ctx context.Context, tx pgx.Tx, before, after BlastSide, o BlastOptions) (*BlastReport, error) {
	b := &blast{tx: tx, before: before, after: after, options: o, found: map[string][]found{},
		report: &BlastReport{Before: before.Name, After: after.Name, Rows: []BlastRow{}, ByAction: []BlastSum{}}}
	if err := b.begin(ctx); err != nil {
		return nil, fmt.Errorf("blast radius: %w", err)
	}
	last := ""
	for {
		practices, err := b.practices(ctx, last)
		if err != nil {
			return nil, fmt.Errorf("blast radius: %w", err)
		}
		for _, p := range practices {
			if err := b.practice(ctx, p); err != nil {
				return nil, fmt.Errorf("blast radius: practice %s: %w", p.id, err)
			}
			last = p.id
			b.report.Practices++
			if o.Progress != nil {
				o.Progress(b.report.Practices)
			}
		}
		if len(practices) < practicesAtOnce {
			break
		}
	}
	if want := len(o.Practices); want > 0 && b.report.Practices != int64(want) {
		return nil, &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found", Detail: "there is no such practice"}
	}
	b.sum()
	return b.report, nil
}

// Pages of pairs go on from here.
type PairQuery struct {
	Practice string
	Action   string
	Note     *NoteCase // of an action on notes
	Lost     bool      // the pairs that are lost; else those that are gained
	After    Pair      // the last of the page before
	Limit    int       // 1 to MaxPairs
}

// BlastPairs returns a page of the pairs of one row, by member and client. It
// is the last page if it holds fewer than Limit. Pages are of one moment where
// tx is.
func BlastPairs(ctx context.Context, tx pgx.Tx, before, after BlastSide, q PairQuery) ([]Pair, error) {
	if q.Limit < 1 || q.Limit > MaxPairs {
		return nil, &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: fmt.Sprintf("limit must be from 1 to %d", MaxPairs)}
	}
	b := &blast{tx: tx, before: before, after: after, options: BlastOptions{Practices: []string{q.Practice}, Actions: []string{q.Action}}, report: &BlastReport{}}
	pairs, err := func() ([]Pair, error) {
		if err := b.begin(ctx); err != nil {
			return nil, err
		}
		practices, err := b.practices(ctx, "")
		if err != nil {
			return nil, err
		}
		if len(practices) == 0 {
			return nil, &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found", Detail: "there is no such practice"}
		}
		kinds, err := b.kinds(ctx, practices[0].id)
		if err != nil {
			return nil, err
		}
		f, err := b.find(practices[0], q.Action, q.Note, kinds)
		if err != nil {
			return nil, err
		}
		if q.Lost {
			return b.page(ctx, f.lost, q.After, q.Limit)
		}
		return b.page(ctx, f.gained, q.After, q.Limit)
	}()
	if err != nil {
		return nil, fmt.Errorf("blast radius: %w", err)
	}
	return pairs, nil
}
