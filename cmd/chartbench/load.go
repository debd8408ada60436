package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
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

// drive asks t's questions over a number of connections, each of which asks the
// next one when the last is answered, for so long, and at least each question
// once if all is set. Every answer is checked; a wrong one ends it.
func drive(ctx context.Context, t *target, connections int, duration time.Duration, all bool) (sample, error) {
	before, err := t.spent()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	deadline := start.Add(duration)
	least := 0
	if all {
		least = len(t.bodies)/connections + 1
	}
	latencies := make([][]time.Duration, connections)
	group, ctx := errgroup.WithContext(ctx)
	for c := range connections {
		group.Go(func() error {
			var err error
			latencies[c], err = t.ask(ctx, c*len(t.bodies)/connections, deadline, least, nil)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return sample{}, fmt.Errorf("%s: %w", t.name, err)
	}
	elapsed := time.Since(start)
	after, err := t.spent()
	if err != nil {
		return sample{}, err
	}
	every := slices.Concat(latencies...)
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

// ask is one connection: it asks from question first on until the deadline, and
// at least so many. It returns how long each answer took: from when it was due,
// where due says so, else from when it was sent.
func (t *target) ask(ctx context.Context, first int, deadline time.Time, least int, due func(n int) time.Time) ([]time.Duration, error) {
	client := &fasthttp.HostClient{Addr: t.address, MaxConns: 1, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		MaxIdemponentCallAttempts: 1}
	defer client.CloseIdleConnections()
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI("http://" + t.address + t.path)
	request.Header.SetContentType("application/json")
	for name, value := range t.header {
		request.Header.Set(name, value)
	}
	latencies := make([]time.Duration, 0, 1<<14)
	for i := first; ; i++ {
		question := i % len(t.bodies)
		request.SetBodyRaw(t.bodies[question])
		start := time.Now()
		if due != nil {
			start = due(len(latencies))
			time.Sleep(time.Until(start))
		}
		if err := client.Do(request, response); err != nil {
			return nil, err
		}
		end := time.Now()
		latencies = append(latencies, end.Sub(start))
		if response.StatusCode() != fasthttp.StatusOK {
			return nil, fmt.Errorf("answered %d: %s", response.StatusCode(), response.Body())
		}
		if err := t.check(question, response.Body()); err != nil {
			return nil, err
		}
		if end.After(deadline) && len(latencies) >= least {
			return latencies, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

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
