// Command chartgate is the operator's tool: it runs everything in one process,
// migrates the database, imports rosters, makes keys and tests policies.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// commands are what chartgate can be told to do.
type commands struct {
	Run     runCommand     `cmd:"" help:"Run everything in one process: a private Postgres, a Redis in this process, the sidecar and control, with a demo practice."`
	Migrate migrateCommand `cmd:"" help:"Bring the schema of the database up to date."`
	Import  importCommand  `cmd:"" help:"Load practices, members, clients and grants from CSV or NDJSON: all or nothing."`
	Key     keyCommand     `cmd:"" help:"Make, list and revoke the keys of services."`
	Policy  policyCommand  `cmd:"" help:"Test policies, and build a bundle from them."`
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
		kong.Vars{"state_dir": defaultStateDir(), "decision": pdp.DecisionPath, "scopes": strings.Join(web.Scopes, ", ")},
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "chartgate:", err)
		os.Exit(1)
	}
}
