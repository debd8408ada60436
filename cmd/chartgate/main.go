// Command chartgate is the operator's tool: it runs everything in one process,
// migrates the database, imports rosters, makes keys and tests policies.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// commands are what chartgate can be told to do.
type commands struct {
	Run     runCommand     `cmd:"" help:"Run everything in one process: a private Postgres, a Redis in this process, the sidecar and control, with a demo practice."`
	Migrate migrateCommand `cmd:"" help:"Bring the schema of the database up to date."`
	Import  importCommand  `cmd:"" help:"Load practices, members, clients, grants, contacts and portal access from CSV or NDJSON: all or nothing."`
	Key     keyCommand     `cmd:"" help:"Make, list and revoke the keys of services."`
	Policy  policyCommand  `cmd:"" help:"Check, test and edit policies, and build a bundle from them."`
	Record  recordCommand  `cmd:"" help:"Verify the permanent record."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	var chosen commands
	command := kong.Parse(&chosen,
		kong.Name("chartgate"),
		kong.Description("May this person do this to this client's record?"),
		kong.UsageOnError(),
		kong.Vars{"state_dir": halves.DefaultStateDir(), "spool_dir": "spool in the state folder", "decision": pdp.DecisionPath, "scopes": strings.Join(web.Scopes, ", ")},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Exit(func(code int) {
			if code != 0 {
				code = couldNotLook // of what was written on the command line
			}
			os.Exit(code)
		}),
	)
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "chartgate:", err)
		code := 1
		var e exitError
		if errors.As(err, &e) {
			code = e.code
		}
		os.Exit(code)
	}
}
