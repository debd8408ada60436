package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/postgres"
	"chartgate/internal/record"
)

// recordCommand is what can be done with the permanent record.
type recordCommand struct {
	Verify recordVerify `cmd:"" help:"Follow every chain of the record: finds what was altered, removed, reordered or cut off."`
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
	return c.with(ctx, func(url string) error {
		pool, err := postgres.Open(ctx, url, "", 2)
		if err != nil {
			return err
		}
		defer pool.Close()
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
