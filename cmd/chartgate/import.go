package main

import (
	"context"
	"fmt"
	"os"

	"chartgate/internal/postgres"
	"chartgate/internal/roster"
)

// importCommand loads rosters.
type importCommand struct {
	Paths []string `arg:"" name:"path" help:"Files, or folders of files, named practices, members, clients or grants, .csv or .ndjson."`
	Actor string   `default:"operator" placeholder:"USER" help:"The user id that the change record names, and that grants name which say nobody."`
	storeFlags
}

// Run loads the files: all of them, or nothing.
func (c *importCommand) Run(ctx context.Context) error {
	files, err := roster.Paths(c.Paths...)
	if err != nil {
		return err
	}
	return c.with(ctx, func(url string) error {
		if _, err := postgres.Migrate(ctx, url); err != nil {
			return err
		}
		pool, err := postgres.Open(ctx, url, "", 2)
		if err != nil {
			return err
		}
		defer pool.Close()
		report, err := roster.Load(ctx, pool, files, roster.Options{Actor: c.Actor, Progress: roster.PrintProgress(os.Stderr)})
		if err != nil {
			return err
		}
		for _, row := range []struct {
			kind   string
			counts roster.Counts
		}{{"practices", report.Practices}, {"members", report.Members}, {"clients", report.Clients}, {"grants", report.Grants}} {
			fmt.Printf("%-10s %9d new %9d changed %9d unchanged\n", row.kind, row.counts.Inserted, row.counts.Changed, row.counts.Unchanged)
		}
		return nil
	})
}
