package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"chartgate/internal/release"

	"golang.org/x/term"
)

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

// couldNotLook is the exit code where a command could not do what it is for,
// and so says nothing about what it looked at.
const couldNotLook = 2

// Unwrap returns what went wrong.
func (e exitError) Unwrap() error { return e.error }

// folder opens a folder of policies.
func folder(name string) (fs.FS, error) {
	info, err := os.Stat(name)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", name)
	}
	if err != nil {
		return nil, exitError{fmt.Errorf("policies: %w", err), couldNotLook}
	}
	return os.DirFS(name), nil
}

type policyCheck struct {
	Folder  string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
	JSON    bool   `help:"Print the report as JSON."`
	Verbose bool   `short:"v" help:"Say how long each step took."`
}

// Run prints the report. It exits with 0 where nothing is wrong, 1 where
// something was found, and 2 where it could not look.
func (c *policyCheck) Run(ctx context.Context) error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	report, err := release.Check(ctx, policies, progress(os.Stderr, c.Verbose))
	if err != nil {
		return exitError{err, couldNotLook}
	}
	if c.JSON {
		if err := writeJSON(os.Stdout, report); err != nil {
			return exitError{fmt.Errorf("--json: %w", err), couldNotLook}
		}
	} else {
		for _, s := range report.Steps {
			s.Write(os.Stdout)
		}
	}
	if report.OK {
		return nil
	}
	return errors.New(summary(report))
}

// summary says in one line what a check found.
func summary(report *release.Report) string {
	if report.OK {
		return "nothing is wrong"
	}
	var names []string
	for _, s := range report.Steps {
		if len(s.Findings) > 0 {
			names = append(names, s.Name)
		}
	}
	n := report.Count()
	plural := "s"
	if n == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d finding%s: %s", n, plural, strings.Join(names, ", "))
}

// progress names the step that is being done, on a terminal, and how long each
// took where that is asked for.
func progress(out *os.File, verbose bool) release.Watcher {
	terminal := term.IsTerminal(int(out.Fd()))
	return func(step string, took time.Duration) {
		switch {
		case verbose && took > 0:
			fmt.Fprintf(out, "%-13s %v\n", step, took.Round(time.Millisecond))
		case terminal && took == 0:
			fmt.Fprintf(out, "\r\x1b[K%s …", step)
		case terminal:
			fmt.Fprint(out, "\r\x1b[K")
		}
	}
}

type policyWatch struct {
	Folder string        `arg:"" optional:"" default:"policies" help:"A folder of policies."`
	Every  time.Duration `default:"300ms" help:"How often to look."`
}

// Run checks until it is stopped. A change is looked at once no more follow.
func (c *policyWatch) Run(ctx context.Context) error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	if c.Every <= 0 {
		return exitError{errors.New("--every: want more than nothing"), couldNotLook}
	}
	var last *release.Report
	checked, seen := "", stamp(policies)
	for tick := time.NewTicker(c.Every); ; {
		if now := stamp(policies); now != seen {
			seen = now // it may not be over: look once more
		} else if now != checked {
			checked = now
			report, err := release.Check(ctx, policies, progress(os.Stderr, false))
			seen = stamp(policies)
			switch {
			case ctx.Err() != nil:
				return nil
			case seen != now: // some of it may have been half written
			case err != nil:
				fmt.Println(err)
			default:
				tell(last, report)
				last = report
			}
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-tick.C:
		}
	}
}

// tell prints what a check found that the one before did not, and what is gone.
func tell(before, after *release.Report) {
	added, gone := release.Changes(before, after)
	for _, f := range gone {
		fmt.Printf("- %s: %s\n", f.File, f.Text)
	}
	for _, f := range added {
		fmt.Print("+ ")
		f.Write(os.Stdout, "")
	}
	fmt.Printf("%s  %s\n", time.Now().Format(time.TimeOnly), summary(after))
}

// stamp changes whenever a file of the policies does.
func stamp(policies fs.FS) string {
	var all strings.Builder
	err := fs.WalkDir(policies, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(filepath.Base(name), ".") {
			return nil // a file that went away while it is looked at shows by that
		}
		if info, err := entry.Info(); err == nil {
			fmt.Fprintln(&all, name, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return fmt.Sprint(all.String(), err)
}
