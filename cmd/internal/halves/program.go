package halves

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Main is the life of a program that has one half: run works until a signal ends
// ctx, and its error is told and ends the process with status 1. The log is JSON
// on standard error, and everybody's.
func Main(name string, run func(ctx context.Context, log *slog.Logger, secrets Secrets) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	slog.SetDefault(log)
	if err := run(ctx, log, ReadSecrets()); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// CheckDatabase returns what is wrong where a program has no database of its own.
func (s Secrets) CheckDatabase() error {
	if s.DatabaseURL == "" {
		return errors.New("DATABASE_URL is not set: postgres://user:password@host/database")
	}
	return nil
}
