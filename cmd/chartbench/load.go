package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// target is a server that is asked, and what is expected of it.
type target struct {
	name     string
	address  string
	path     string
	header   map[string]string
	bodies   [][]byte // one for each question
	check    func(question int, answer []byte) error
	cpu      []cost // whose CPU its answers cost
	against  int    // the target of the list that it is compared with
	endless  bool   // there are so many questions that they need not all be asked first
	profiles string // the folder in which the server writes its profiles
	// settle waits until the server has nothing left to do for what it answered.
	// It gives way to its callers while they ask, so that others must not be
	// measured before it is through. nil: nothing is left over.
	settle func(context.Context) error
}

// cost is a process, or a family of them, that works for a target.
type cost struct {
	name   string
	pid    int
	family bool
}

// sample is what was measured in one round on one target.
type sample struct {
	Throughput float64            `json:"requests_per_second"`
	P50        float64            `json:"p50_us"`
	P99        float64            `json:"p99_us"`
	CPU        map[string]float64 `json:"cpu_us_per_request"`      // by process
	Owed       float64            `json:"owed_cpu_us_per_request"` // what was left to do afterwards, of all processes
	requests   int
}

const requestTimeout = 10 * time.Second

// pace is how a target is asked.
type pace struct {
	connections     int // each of which asks one question at a time
	start, deadline time.Time
	least           int     // questions on each connection, even after the deadline
	rate            float64 // questions a second on all connections; 0: each as soon as the last one is answered
}

// first returns the question with which a connection begins.
func (p pace) first(connection, questions int) int {
	return connection * questions / p.connections % questions
}

// due returns when a connection asks after so many questions; at a rate, they
// take turns.
func (p pace) due(connection, asked int) time.Time {
	if p.rate == 0 {
		return time.Now()
	}
	return p.start.Add(time.Duration(float64(asked*p.connections+connection) / p.rate * float64(time.Second)))
}

// over reports whether a connection that has asked so many asks no more.
func (p pace) over(now time.Time, asked int) bool { return now.After(p.deadline) && asked >= p.least }

// drive asks t's questions over a number of connections, each of which asks the
// next one when the last is answered, for so long, and at least each question
// once if all is set. Every answer is checked; a wrong one ends it.
func drive(ctx context.Context, t *target, connections int, duration time.Duration, all bool) (sample, error) {
	before, err := t.spent()
	if err != nil {
		return sample{}, err
	}
	p := pace{connections: connections, start: time.Now()}
	p.deadline = p.start.Add(duration)
	if all {
		p.least = len(t.bodies)/connections + 1
	}
	every, err := t.ask(ctx, p)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.name, err)
	}
	elapsed := time.Since(p.start)
	after, err := t.spent()
	if err != nil {
		return sample{}, err
	}
	slices.Sort(every)
	s := sample{
		Throughput: float64(len(every)) / elapsed.Seconds(),
		P50:        microseconds(every[len(every)/2]),
		P99:        microseconds(every[len(every)*99/100]),
		CPU:        map[string]float64{},
		requests:   len(every),
	}
	for name := range after {
		s.CPU[name] = microseconds(after[name]-before[name]) / float64(len(every))
	}
	return s, nil
}

// driveSettled is drive, and then waits until t is through with it.
func driveSettled(ctx context.Context, t *target, connections int, duration time.Duration, all bool) (sample, error) {
	s, err := drive(ctx, t, connections, duration, all)
	if err != nil || t.settle == nil {
		return s, err
	}
	before, err := t.spent()
	if err != nil {
		return s, err
	}
	if err := t.settle(ctx); err != nil {
		return s, err
	}
	after, err := t.spent()
	delete(after, load)
	for name := range after {
		s.Owed += microseconds(after[name]-before[name]) / float64(s.requests)
	}
	return s, err
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// load is the name of this process among those whose CPU is measured.
const load = "load"

// spent returns the CPU time that t's processes have used so far, and the load.
func (t *target) spent() (map[string]time.Duration, error) {
	spent := map[string]time.Duration{}
	for _, c := range append(slices.Clone(t.cpu), cost{name: load, pid: os.Getpid()}) {
		used, err := cpuTime(c.pid, c.family)
		if err != nil {
			return nil, fmt.Errorf("CPU of %s: %w", c.name, err)
		}
		spent[c.name] = used
	}
	return spent, nil
}
