package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/record"
)

// recordCommand is what can be done with the permanent record.
type recordCommand struct {
	Verify recordVerify `cmd:"" help:"Follow every chain of the record: finds what was altered, removed, reordered or cut off."`
	Export recordExport `cmd:"" help:"Write decisions or changes as lines of JSON, or decisions as replay reads them. The export is on record itself."`
	Hold   recordHold   `cmd:"" help:"Legal holds: entries that must not be purged."`
	Purge  recordPurge  `cmd:"" help:"Remove the entries of a month that need not be kept any longer."`
}

// recordVerify exits with status 1 if the record is not whole.
type recordVerify struct {
	Spools  []string `name:"spool-dir" placeholder:"FOLDER" help:"Folders of spools on this host. Default: the one of the state folder, if it is there."`
	Anchors string   `placeholder:"FILE" help:"Heads that an earlier --write-anchors kept outside of the database."`
	Write   string   `name:"write-anchors" placeholder:"FILE" help:"Where to keep the heads of now."`
	storeFlags
}

// errNotWhole: the record was tampered with, or damaged.
var errNotWhole = errors.New("the record is not whole")

// Run verifies, and says every finding.
func (c *recordVerify) Run(ctx context.Context) error {
	options := record.VerifyOptions{Spools: c.Spools}
	if own := filepath.Join(c.StateDir, "spool"); len(c.Spools) == 0 && halves.ReadSecrets().DatabaseURL == "" {
		if _, err := os.Stat(own); err == nil {
			options.Spools = []string{own}
		}
	}
	if c.Anchors != "" {
		raw, err := os.ReadFile(c.Anchors)
		if err != nil {
			return fmt.Errorf("--anchors: %w", err)
		}
		if err := json.Unmarshal(raw, &options.Anchors); err != nil {
			return fmt.Errorf("--anchors %s: %w", c.Anchors, err)
		}
	}
	return c.withPool(ctx, func(pool *pgxpool.Pool) error {
		report, err := record.Verify(ctx, pool, options)
		if err != nil {
			return err
		}
		for _, finding := range report.Findings {
			fmt.Println(finding)
		}
		for _, gap := range report.Gaps {
			fmt.Printf("gap: chain %s, entries %d to %d, purged in time: %v\n", gap.Chain, gap.First, gap.Last, gap.Purged)
		}
		fmt.Printf("%d decisions and %d changes in %d chains, %d findings\n", report.Decisions, report.Changes, report.Chains, len(report.Findings))
		if len(report.Findings) > 0 {
			return errNotWhole
		}
		return c.keepAnchors(report.Anchors)
	})
}

// keepAnchors writes the heads of a record that was found whole.
func (c *recordVerify) keepAnchors(anchors []record.Anchor) error {
	if c.Write == "" {
		return nil
	}
	raw, err := json.MarshalIndent(anchors, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.Write, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("--write-anchors: %w", err)
	}
	return nil
}

// recordExport writes what fits, oldest first.
type recordExport struct {
	What     string    `arg:"" enum:"decisions,changes" help:"decisions or changes."`
	Actor    string    `required:"" placeholder:"USER" help:"The user id of who takes the export."`
	Practice string    `placeholder:"PRACTICE" help:"Only of this practice."`
	Client   string    `placeholder:"CLIENT" help:"Only of this client."`
	User     string    `placeholder:"USER" help:"Only of this user."`
	From     time.Time `format:"2006-01-02" placeholder:"DAY" help:"Not before this day (UTC)."`
	To       time.Time `format:"2006-01-02" placeholder:"DAY" help:"Before this day (UTC)."`
	Reason   string    `help:"Why, as the record will say."`
	Binary   bool      `help:"Write decisions in the record's own form, which 'policy replay --file' reads."`
	storeFlags
}

// Run writes to standard output, and says on standard error how many.
func (c *recordExport) Run(ctx context.Context) error {
	return c.withPool(ctx, func(pool *pgxpool.Pool) error {
		export := record.ExportDecisions
		switch {
		case c.What == "changes" && c.Binary:
			return errors.New("--binary is for decisions: changes are written as JSON")
		case c.What == "changes":
			export = record.ExportChanges
		case c.Binary:
			export = record.ExportBinary
		}
		by := record.Read{Actor: c.Actor, Reason: c.Reason}
		q := record.Query{Practice: c.Practice, Client: c.Client, User: c.User, From: c.From, To: c.To}
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { // not begun again: what was written is out
			n, err := export(ctx, tx, by, q, os.Stdout)
			if err == nil {
				fmt.Fprintf(os.Stderr, "%d %s\n", n, c.What)
			}
			return err
		})
	})
}
