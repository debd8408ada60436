package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"chartgate/internal/record"
	"chartgate/internal/release"

	"github.com/jackc/pgx/v5/pgxpool"
)

// policyReplay decides what is on record again.
type policyReplay struct {
	Candidate string    `arg:"" help:"A folder of policies, or a bundle."`
	Against   string    `placeholder:"POLICY" help:"Compare with what this folder or bundle decides, and not with what is on record."`
	File      string    `placeholder:"FILE" help:"A file of 'record export decisions --binary', or a segment of a spool, in the place of the database."`
	Actor     string    `placeholder:"USER" help:"The user id of who replays: reading the record is on record. Needed unless --file is given."`
	Reason    string    `help:"Why, as the record will say."`
	Practice  string    `placeholder:"PRACTICE" help:"Only of this practice."`
	Action    string    `placeholder:"ACTION" help:"Only of this action."`
	From      time.Time `format:"2006-01-02" placeholder:"DAY" help:"Not before this day (UTC)."`
	To        time.Time `format:"2006-01-02" placeholder:"DAY" help:"Before this day (UTC)."`
	Limit     int       `placeholder:"N" help:"At most so many decisions: the newest of the database, the first of a file."`
	Examples  int       `default:"5" placeholder:"N" help:"How many ids of decisions are named for each change."`
	JSON      bool      `name:"json" help:"Write the report as JSON."`
	storeFlags
}

// Run prints the report on standard output, and progress on standard error.
func (c *policyReplay) Run(ctx context.Context) error {
	if c.File == "" && c.Actor == "" {
		return errors.New("--actor is missing: reading the record is on record, with who read it")
	}
	if c.Limit < 0 || c.Examples < 1 || c.Examples > release.MaxExamples {
		return fmt.Errorf("--limit cannot be negative, and --examples goes from 1 to %d", release.MaxExamples)
	}
	q := record.Query{Practice: c.Practice, Action: c.Action, From: c.From, To: c.To}
	if c.File != "" {
		file, err := record.OpenFile(c.File, q, c.Limit)
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		defer file.Close()
		return c.replay(ctx, func() (release.Recorded, error) { return file, nil })
	}
	return c.withPool(ctx, func(pool *pgxpool.Pool) error {
		var stream *record.Stream
		defer func() {
			if stream != nil {
				stream.Close()
			}
		}()
		return c.replay(ctx, func() (_ release.Recorded, err error) {
			stream, err = record.OpenStream(ctx, pool, record.Read{Actor: c.Actor, Reason: c.Reason}, q, c.Limit)
			return stream, err
		})
	})
}

// replay opens the record once the policies are ready to decide.
func (c *policyReplay) replay(ctx context.Context, open func() (release.Recorded, error)) error {
	candidate, err := certified(ctx, c.Candidate)
	if err != nil {
		return err
	}
	options := release.ReplayOptions{Examples: c.Examples}
	if c.Against != "" {
		if options.Against, err = certified(ctx, c.Against); err != nil {
			return fmt.Errorf("--against: %w", err)
		}
	}
	source, err := open()
	if err != nil {
		return err
	}
	progress := newProgressBar(os.Stderr, "replay")
	options.Progress = progress.tell
	report, err := release.Replay(ctx, source, candidate, options)
	progress.clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d decisions in %v, %.0f a second\n", report.Read, progress.elapsed().Round(time.Millisecond),
		float64(report.Read)/progress.elapsed().Seconds())
	if c.JSON {
		return writeJSON(os.Stdout, report)
	}
	printReplay(os.Stdout, report)
	return nil
}

func printReplay(out io.Writer, r *release.ReplayReport) {
	before := "what is on record"
	if r.Against != "" {
		before = "policy " + r.Against
	}
	fmt.Fprintf(out, "policy %s compared with %s: of %d decisions %d were replayed\n", r.Candidate, before, r.Read, r.Replayed)
	for _, row := range []struct {
		name string
		t    release.Tally
	}{{"gained", r.Gained}, {"lost", r.Lost}, {"another reason", r.Reason}} {
		fmt.Fprintf(out, "%-15s %s\n", row.name, counted(row.t))
	}
	fmt.Fprintf(out, "%-15s %d decisions\n", "unchanged", r.Unchanged)
	for _, g := range r.Groups {
		ids := make([]string, len(g.Examples))
		for i, id := range g.Examples {
			ids[i] = id.String()
		}
		fmt.Fprintf(out, "\n%s: %s, %s -> %s\n  %s\n  such as %s\n", g.Change, g.Action, answer(g.Before), answer(g.After), counted(g.Tally), strings.Join(ids, ", "))
	}
	for _, s := range r.NotReplayed {
		fmt.Fprintf(out, "\nnot replayed: %d decisions: %s\n", s.Decisions, s.Why)
	}
	for _, s := range r.Slow {
		action := s.Action
		if action == "" {
			action = "of actions that the policy does not know"
		}
		fmt.Fprintf(out, "\nby OPA's evaluator, which is slower: %d decisions, %s\n", s.Decisions, action)
	}
}

func counted(t release.Tally) string {
	more := ""
	if t.AtLeast {
		more = ", or more"
	}
	return fmt.Sprintf("%d decisions, %d members, %d clients%s", t.Decisions, t.Members, t.Clients, more)
}

func answer(a release.Answer) string {
	if !a.Allow {
		return "denied " + a.Code
	}
	return "allowed " + strings.Join(a.Bases, "+")
}
