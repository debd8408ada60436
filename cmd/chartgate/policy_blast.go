package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/internal/authz"
	"chartgate/internal/release"
)

// policyBlast says whose access a policy gives and takes, over today's population.
type policyBlast struct {
	Candidate string   `arg:"" help:"A folder of policies, or a bundle."`
	Against   string   `placeholder:"POLICY" help:"What decides before: a folder or a bundle. Default: the bundle in this program."`
	Practice  []string `placeholder:"PRACTICE" help:"Only these practices."`
	Action    []string `placeholder:"ACTION" help:"Only these actions. Default: those that open a client's record; 'all' for every one that members are asked about."`
	Pairs     int      `default:"10" placeholder:"N" help:"How many members and clients are named for each change."`
	JSON      bool     `name:"json" help:"Write the report as JSON."`
	storeFlags
}

// Run compares and prints.
func (c *policyBlast) Run(ctx context.Context) error {
	if c.Pairs < 0 || c.Pairs > release.MaxPairs {
		return fmt.Errorf("--pairs goes from 0 to %d", release.MaxPairs)
	}
	before, err := sideOf(ctx, c.Against)
	if err != nil {
		return fmt.Errorf("--against: %w", err)
	}
	after, err := sideOf(ctx, c.Candidate)
	if err != nil {
		return err
	}
	options := release.BlastOptions{Practices: c.Practice, Actions: c.Action, Pairs: c.Pairs}
	if slices.Equal(c.Action, []string{"all"}) {
		options.Actions = nil
		for name := range after.Policy.Actions {
			if !strings.HasPrefix(name, "portal.") {
				options.Actions = append(options.Actions, name)
			}
		}
		slices.Sort(options.Actions)
	}
	bar := newProgressBar(os.Stderr, "practices")
	options.Progress = func(n int64) { bar.tell(n, int64(len(c.Practice))) }
	return c.withPool(ctx, func(pool *pgxpool.Pool) error {
		return snapshot(ctx, pool, func(tx pgx.Tx) error {
			report, err := release.BlastRadius(ctx, tx, before, after, options)
			bar.clear()
			if err != nil {
				return err
			}
			if c.JSON {
				return writeJSON(os.Stdout, report)
			}
			printBlast(os.Stdout, report)
			return nil
		})
	})
}

// snapshot runs work on one moment of the database.
func snapshot(ctx context.Context, pool *pgxpool.Pool, work func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, work)
}

// sideOf loads a policy for comparing populations, for which it must be
// compiled; "" is the bundle in this program.
func sideOf(ctx context.Context, name string) (release.BlastSide, error) {
	engine, err := policyNamed(ctx, name)
	if err != nil {
		return release.BlastSide{}, err
	}
	policy, err := engine.Lists()
	return release.BlastSide{Name: engine.Revision(), Policy: policy}, err
}

func printBlast(out io.Writer, r *release.BlastReport) {
	fmt.Fprintf(out, "policy %s after %s, %d practices as of %s, actions %s\n", r.After, r.Before, r.Practices, authz.FormatTime(r.At), strings.Join(r.Actions, ", "))
	fmt.Fprintf(out, "gained %d pairs of a member and a client, lost %d\n", r.Gained.Pairs, r.Lost.Pairs)
	for _, s := range r.ByAction {
		fmt.Fprintf(out, "%-7s %-28s %10d pairs in %d practices\n", s.Change, s.Action, s.Pairs, s.Practices)
	}
	for _, row := range r.Rows {
		fmt.Fprintf(out, "\n%s: %s in %s%s: %d pairs, %d members, %d clients\n", row.Change, row.Action, row.Practice, notes(row.Notes), row.Pairs, row.Members, row.Clients)
		for _, p := range row.First {
			fmt.Fprintf(out, "  %s %s\n", p.Member, p.Client)
		}
		if more := row.Pairs - int64(len(row.First)); more > 0 {
			fmt.Fprintf(out, "  and %d more\n", more)
		}
	}
}

// notes says which notes a row is about.
func notes(all []release.NoteCase) string {
	var said []string
	for _, n := range all {
		what := n.Kind
		if n.Own {
			what += " of one's own"
		}
		if n.Signed {
			what += ", signed"
		}
		said = append(said, what)
	}
	if said == nil {
		return ""
	}
	return " (" + strings.Join(said, "; ") + ")"
}

// policySettings shows what other settings would change in a practice.
type policySettings struct {
	Practice string   `required:"" placeholder:"PRACTICE" help:"Whose settings."`
	Preset   string   `placeholder:"PRESET" help:"The preset that it would have. Default: the one it has."`
	Set      []string `placeholder:"NAME=VALUE" sep:"none" help:"A setting that it would have, over what it has; the value is JSON, or a word."`
	Unset    []string `placeholder:"NAME" help:"A setting that would be the preset's again."`
	Policy   string   `placeholder:"POLICY" help:"What decides: a folder or a bundle. Default: the bundle in this program."`
	JSON     bool     `name:"json" help:"Write the report as JSON."`
	storeFlags
}

// Run prints the difference. It changes nothing.
func (c *policySettings) Run(ctx context.Context) error {
	var preset string
	var overrides map[string]any
	return c.withPool(ctx, func(pool *pgxpool.Pool) error {
		if err := snapshot(ctx, pool, func(tx pgx.Tx) (err error) {
			preset, overrides, err = release.PracticeSettings(ctx, tx, c.Practice)
			return err
		}); err != nil {
			return err
		}
		if c.Preset != "" {
			preset = c.Preset
		}
		if err := c.lay(overrides); err != nil {
			return err
		}
		if _, err := authz.NewSettings(preset, overrides); err != nil {
			return err
		}
		engine, err := policyNamed(ctx, c.Policy)
		if err != nil {
			return err
		}
		return snapshot(ctx, pool, func(tx pgx.Tx) error {
			report, err := release.SettingsDifference(ctx, tx, engine, c.Practice, preset, overrides)
			if err != nil {
				return err
			}
			if c.JSON {
				return writeJSON(os.Stdout, report)
			}
			printSettings(os.Stdout, report)
			return nil
		})
	})
}

// lay lays what was said over what the practice has.
func (c *policySettings) lay(overrides map[string]any) error {
	for _, name := range c.Unset {
		delete(overrides, name)
	}
	for _, said := range c.Set {
		name, text, ok := strings.Cut(said, "=")
		if !ok {
			return errors.New("--set " + said + ": want NAME=VALUE")
		}
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			v = text // a word
		}
		overrides[name] = v
	}
	return nil
}

func printSettings(out io.Writer, r *release.SettingsReport) {
	if len(r.Settings) == 0 {
		fmt.Fprintln(out, "no setting changes")
		return
	}
	for _, s := range r.Settings {
		fmt.Fprintf(out, "%s: %v -> %v\n", s.Name, s.Before, s.After)
	}
	if len(r.Actions) == 0 {
		fmt.Fprintln(out, "no decision changes: proved for all situations")
		return
	}
	fmt.Fprintf(out, "decisions may change for %s, and for no other action\n\n", strings.Join(r.Actions, ", "))
	for _, cell := range r.Cells {
		client := ""
		if cell.Client != "" {
			client = ", " + cell.Client + " client"
		}
		fmt.Fprintf(out, "%s%s: %s%s: %s -> %s\n", cell.Action, notes(cell.Notes), cell.Who, client, answer(cell.Before), answer(cell.After))
	}
	fmt.Fprintln(out)
	printBlast(out, r.Blast)
}
