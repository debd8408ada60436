package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// contest is how targets are driven beside each other.
type contest struct {
	Connections []int   `default:"8,32" help:"Connections, kept alive. Default: ${default}."`
	Rounds      int     `default:"7" help:"Rounds; the medians count. Default: ${default}."`
	Seconds     float64 `default:"2" help:"How long each server is driven in a round. Default: ${default}."`
	JSON        string  `name:"json" placeholder:"FILE" help:"Write the figures to this file as JSON."`
}

func (c contest) check() error {
	switch {
	case c.Rounds < 1:
		return errors.New("--rounds: want at least 1")
	case c.Seconds <= 0:
		return errors.New("--seconds: want more than 0")
	case len(c.Connections) == 0 || slices.Min(c.Connections) < 1:
		return errors.New("--connections: want numbers of at least 1")
	}
	return nil
}

// setupTime bounds everything but the driving.
const setupTime = 10 * time.Minute

// limit bounds the time of a scenario with so many targets.
func (c contest) limit(ctx context.Context, targets int) (context.Context, context.CancelFunc) {
	rounds := float64(c.Rounds+2) * float64(targets*len(c.Connections)) * (c.Seconds + 2) * 2
	return context.WithTimeout(ctx, setupTime+time.Duration(rounds*float64(time.Second)))
}

// run drives all targets with each number of connections.
func (c contest) run(ctx context.Context, list []*target) ([]result, error) {
	var all []result
	for _, connections := range c.Connections {
		results, err := c.compare(ctx, list, connections)
		if err != nil {
			return nil, err
		}
		all = append(all, results...)
	}
	return all, nil
}

// compare drives all targets in turn, after each was asked every question once,
// and returns the medians and how each stands to the one it is held against.
func (c contest) compare(ctx context.Context, list []*target, connections int) ([]result, error) {
	for _, t := range list {
		fmt.Fprintf(os.Stderr, "%d connections: warming up %s\n", connections, t.name)
		if _, err := driveSettled(ctx, t, connections, time.Second, !t.endless); err != nil {
			return nil, err
		}
	}
	results := make([]result, len(list))
	for i, t := range list {
		results[i] = result{Connections: connections, Target: t.name}
	}
	duration := time.Duration(c.Seconds * float64(time.Second))
	for round := range c.Rounds {
		for i := range list {
			j := (i + round) % len(list) // nobody is always first
			s, err := driveSettled(ctx, list[j], connections, duration, false)
			if err != nil {
				return nil, err
			}
			results[j].Rounds = append(results[j].Rounds, s)
		}
		fmt.Fprintf(os.Stderr, "%d connections: round %d of %d:", connections, round+1, c.Rounds)
		for i, t := range list {
			if against := t.against; against != i {
				fmt.Fprintf(os.Stderr, " %s %.2f of %s", t.name, results[i].Rounds[round].Throughput/results[against].Rounds[round].Throughput, list[against].name)
			}
		}
		fmt.Fprintln(os.Stderr)
	}
	for i, t := range list {
		results[i].Against = list[t.against].name
		results[i].sum(results[t.against].Rounds)
	}
	return results, nil
}

// finish prints a report, and writes it where it is wanted.
func (c contest) finish(r *report) error {
	r.print(os.Stdout)
	if c.JSON == "" {
		return nil
	}
	return r.write(c.JSON)
}

// newReport describes a run.
func (c contest) newReport(scenario string, p practice, setup map[string]any) *report {
	r := &report{Scenario: scenario, Machine: thisMachine(), Setup: map[string]any{
		"clients": p.Clients, "practitioners": p.Practitioners, "grants": p.Grants, "rounds": c.Rounds, "seconds": c.Seconds,
		"record": "written before the answer, synced every CHARTGATE_SPOOL_SYNC (100ms unless set)",
	}}
	for name, value := range setup {
		r.Setup[name] = value
	}
	return r
}
