package release

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Gate is one step that looks at a draft. Every one of Gates must pass before a
// draft can be approved.
type Gate struct {
	Name  string
	For   State // Verified: it judges the draft alone; Reviewed: it compares it with the active release
	About string
	Run   func(ctx context.Context, e Examination) (Found, error)
}

// Examination is what a step looks at.
type Examination struct {
	Folder   fs.FS         // the source
	Bundle   *pdp.Bundle   // built of it
	Engine   *pdp.Engine   // of Bundle
	Active   *pdp.Bundle   // what it is compared with
	Deciding *pdp.Engine   // of Active
	Pool     *pgxpool.Pool // in the role of control
	By       string        // who looks
	Draft    string        // its id
	From, To time.Time     // the period, for a step that looks back
	Progress func(done, total int64)
}

// Found is what a step found; an error instead means that it could not look.
type Found struct {
	Outcome Outcome
	Summary string // one sentence
	Detail  any    // of the step's own kind, as JSON
}

// passedIf is the outcome of a step that either passes or refuses.
func passedIf(ok bool) Outcome {
	if ok {
		return Passed
	}
	return Refused
}

// stepCheck looks at what cannot even be built.
const stepCheck = "check"

// stepDiff says which decisions are expected to come out otherwise.
const stepDiff = "diff"

// Gates are the steps of every draft, in the order in which they are
// best run.
var Gates = []Gate{
	{Name: stepCheck, For: StateVerified, About: "form, types, lint, cases, tests, and what must never happen, proved", Run: runCheck},
	{Name: "administrators", For: StateVerified, About: "administrators can still manage access under every setting", Run: runKeepers},
	{Name: stepDiff, For: StateReviewed, About: "every situation in which it answers otherwise than the active release", Run: runDiff},
	{Name: "replay", For: StateReviewed, About: "recorded decisions that would have come out otherwise", Run: runReplay},
	{Name: "blast-radius", For: StateReviewed, About: "who gains and loses whom, today", Run: runBlast},
}

func runCheck(ctx context.Context, e Examination) (Found, error) {
	var steps int64
	report, err := Check(ctx, e.Folder, func(_ string, took time.Duration) {
		if took > 0 {
			steps++
			e.Progress(steps, 0)
		}
	})
	if err != nil {
		return Found{}, err
	}
	found := Found{Outcome: passedIf(report.OK), Summary: fmt.Sprintf("%d steps, nothing found", len(report.Steps)), Detail: report}
	if !report.OK {
		found.Summary = fmt.Sprintf("%d findings", report.Count())
		if all := report.Findings(); len(all) > 0 {
			found.Summary += ", the first: " + all[0].String()
		}
	}
	return found, nil
}

func runDiff(ctx context.Context, e Examination) (Found, error) {
	d, err := Diff(ctx, e.Active, e.Bundle)
	if err != nil {
		return Found{}, err
	}
	found := Found{Outcome: Passed, Detail: d}
	switch {
	case len(d.Undecided) > 0:
		found.Outcome, found.Summary = Undecided, d.Undecided[0].String()
	case d.Equal:
		found.Summary = "proved equal: no situation changes"
	default:
		found.Summary = fmt.Sprintf("%d changes of access, %d of wording, %d texts", len(d.Access), len(d.Wording), len(d.Texts))
	}
	return found, nil
}

const (
	replayDays = 28        // that a replay looks back, unless it is told a period
	maxReplay  = 1_000_000 // decisions, the newest
)

func runReplay(ctx context.Context, e Examination) (Found, error) {
	if err := certified(ctx, e.Engine); err != nil {
		return Found{}, err
	}
	q := record.Query{From: e.From, To: e.To}
	if q.From.IsZero() {
		q.From = time.Now().UTC().AddDate(0, 0, -replayDays)
	}
	stream, err := record.OpenStream(ctx, e.Pool, record.Read{Actor: e.By, Reason: "draft " + e.Draft}, q, maxReplay)
	if err != nil {
		return Found{}, err
	}
	defer stream.Close()
	r, err := Replay(ctx, stream, e.Engine, ReplayOptions{Progress: e.Progress})
	if err != nil {
		return Found{}, err
	}
	return Found{Outcome: Passed, Detail: r, Summary: fmt.Sprintf("%d decisions replayed: %d gained, %d lost, %d for another reason, %d unchanged; %d cannot be replayed",
		r.Replayed, r.Gained.Decisions, r.Lost.Decisions, r.Reason.Decisions, r.Unchanged, r.Read-r.Replayed)}, nil
}

func runBlast(ctx context.Context, e Examination) (found Found, err error) {
	sides := [2]BlastSide{}
	for i, engine := range []*pdp.Engine{e.Deciding, e.Engine} {
		if err := certified(ctx, engine); err != nil {
			return found, err
		}
		sides[i].Name = engine.Revision()
		if sides[i].Policy, err = engine.Lists(); err != nil {
			return found, err
		}
	}
	options := BlastOptions{Pairs: 20, Progress: func(practices int64) { e.Progress(practices, 0) }}
	err = pgx.BeginTxFunc(ctx, e.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		r, err := BlastRadius(ctx, tx, sides[0], sides[1], options)
		if err == nil {
			found = Found{Outcome: Passed, Detail: r, Summary: fmt.Sprintf("%d pairs of a member and a client gained, %d lost, in %d practices", r.Gained.Pairs, r.Lost.Pairs, r.Practices)}
		}
		return err
	})
	return found, err
}

// certified lets a program decide, once. What cannot be compiled stays with OPA,
// which is right and slower; a step that needs the program says so.
func certified(ctx context.Context, engine *pdp.Engine) error {
	if _, err := engine.Lists(); err == nil {
		return nil
	}
	_, _ = engine.Certify(ctx)
	return ctx.Err()
}

// expects reports whether the difference that the step diff kept holds a change
// of this kind.
func expects(detail []byte, action, from, to string) bool {
	var d Difference
	if err := json.Unmarshal(detail, &d); err != nil {
		return false
	}
	if from == authz.CodeUnknownAction && slices.Contains(d.OnlyTo, action) || to == authz.CodeUnknownAction && slices.Contains(d.OnlyFrom, action) {
		return true
	}
	return slices.ContainsFunc(slices.Concat(d.Access, d.Wording), func(s Sentence) bool {
		return slices.Contains(s.Actions, action) && s.Before == from && s.After == to
	})
}
