// Command chartbench measures Chartgate, and others beside it, on this machine.
//
// Each scenario compares things in one run, in turn, and reports their ratio:
// absolute figures depend on the machine and on what else it does. It is no
// test: nothing fails for being slow, only for being wrong.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands are the scenarios, and the servers that they start as processes of
// their own.
type commands struct {
	HTTP      httpCommand      `cmd:"" name:"http" help:"Warm decisions over HTTP: the sidecar beside a bare Fiber handler, and OPA's server with --opa."`
	Cold      coldCommand      `cmd:"" help:"Decisions on facts that are not in memory, beside a handler that only reads the same from Redis or Postgres."`
	Batch     batchCommand     `cmd:"" help:"Decisions in one request: the CPU of each beyond the first."`
	Flat      flatCommand      `cmd:"" help:"Warm decisions with few and many clients, with one practice and many."`
	Start     startCommand     `cmd:"" help:"From start to ready, and memory, with a large practice in the database."`
	Sustained sustainedCommand `cmd:"" help:"The rate that can be kept up with a flat spool."`
	Engine    engineCommand    `cmd:"" help:"The policy itself: OPA's evaluator, partial evaluation, the program; and lists beside SQL written by hand."`
	Import    importCommand    `cmd:"" help:"Import a large practice, twice."`

	ServeFloor    floorServer    `cmd:"" hidden:""`
	ServeRedis    redisReader    `cmd:"" hidden:""`
	ServePostgres postgresReader `cmd:"" hidden:""`
	ServeSidecar  sidecarServer  `cmd:"" hidden:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	var chosen commands
	command := kong.Parse(&chosen,
		kong.Name("chartbench"),
		kong.Description("Measures Chartgate on this machine."),
		kong.UsageOnError(),
		kong.Vars{"spool_dir": ""},
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "chartbench:", err)
		os.Exit(1)
	}
}
