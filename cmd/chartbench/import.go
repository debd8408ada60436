package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"chartgate/internal/roster"
)

// importCommand measures an import into an empty database, and of the same
// files again.
type importCommand struct {
	Clients       int `default:"1000000" help:"Clients of the practice. Default: ${default}."`
	Practitioners int `default:"200" help:"Practitioners of the practice. Default: ${default}."`
	Grants        int `default:"20000" help:"Grants on its clients. Default: ${default}."`
}

// importTime bounds the scenario.
const importTime = 30 * time.Minute

// Run imports the practice twice.
func (c *importCommand) Run(ctx context.Context) (err error) {
	p := practice{Clients: c.Clients, Practitioners: c.Practitioners, Grants: c.Grants, Practices: 1}
	if err := p.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, importTime)
	defer cancel()
	s, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	folder := filepath.Join(s.folder, "roster")
	if err := p.write(folder); err != nil {
		return err
	}
	for _, what := range []string{"into an empty database", "again"} {
		postgres, err := cpuTime(s.server.Pid(), true)
		if err != nil {
			return err
		}
		own, err := cpuTime(os.Getpid(), false)
		if err != nil {
			return err
		}
		start := time.Now()
		report, err := p.load(ctx, s.pool, folder, roster.PrintProgress(os.Stderr))
		if err != nil {
			return err
		}
		took := time.Since(start)
		postgresNow, err := cpuTime(s.server.Pid(), true)
		if err != nil {
			return err
		}
		ownNow, err := cpuTime(os.Getpid(), false)
		if err != nil {
			return err
		}
		fmt.Printf("%-22s  %6.1f s, CPU of Postgres %.1f s, own %.1f s: clients %+v, grants %+v\n", what, took.Seconds(),
			(postgresNow - postgres).Seconds(), (ownNow - own).Seconds(), report.Clients, report.Grants)
	}
	return nil
}
