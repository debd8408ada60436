package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// openLoop is how long a target's answers took while questions came at a fixed
// rate, whether or not those before were answered.
type openLoop struct {
	Target string  `json:"target"`
	Rate   float64 `json:"requests_per_second"`
	P50    float64 `json:"p50_us"`
	P99    float64 `json:"p99_us"`
}

// openShare is at how much of its most a target is driven.
const openShare = 0.7

// openLoops drives each target at a share of what it did with the most
// connections, for so many seconds.
func openLoops(ctx context.Context, list []*target, results []result, seconds float64) ([]openLoop, error) {
	var all []openLoop
	last := results[len(results)-len(list):]
	for i, t := range list {
		rate := openShare * last[i].Median.Throughput
		fmt.Fprintf(os.Stderr, "open loop: %s at %.0f requests/s\n", t.name, rate)
		latencies, err := driveOpen(ctx, t, 2*last[i].Connections, rate, time.Duration(seconds*float64(time.Second)))
		if err != nil {
			return nil, err
		}
		all = append(all, openLoop{Target: t.name, Rate: rate,
			P50: microseconds(latencies[len(latencies)/2]), P99: microseconds(latencies[len(latencies)*99/100])})
	}
	return all, nil
}

// driveOpen asks at a fixed rate, over connections that take turns, and returns
// the sorted times from when each question was due to its answer: one that
// waits behind a slow answer counts from when it should have been sent.
func driveOpen(ctx context.Context, t *target, connections int, rate float64, duration time.Duration) ([]time.Duration, error) {
	start := time.Now()
	latencies, err := t.ask(ctx, pace{connections: connections, start: start, deadline: start.Add(duration), least: 1, rate: rate})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	slices.Sort(latencies)
	return latencies, nil
}
