package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// sustainedCommand drives a sidecar for long and watches its spool: a rate is
// kept up if the decisions that wait for Postgres do not become more.
type sustainedCommand struct {
	practice
	Questions   int     `default:"10000" help:"Different questions that are asked. Default: ${default}."`
	Connections int     `default:"32" help:"Connections, kept alive. Default: ${default}."`
	Minutes     float64 `default:"10" help:"How long a rate must be kept up. Default: ${default}."`
}

// step is how often the spool is looked at.
const step = 5 * time.Second

// Run drives the sidecar as fast as it goes; where its spool grows, it does so
// again at the rate that was shipped, until one rate is kept up.
func (c *sustainedCommand) Run(ctx context.Context) (err error) {
	if err := errors.Join(c.practice.check(), checkQuestions(c.Questions)); err != nil {
		return err
	}
	if c.Connections < 1 || c.Minutes <= 0 {
		return errors.New("--connections, --minutes: want more than 0")
	}
	s, err := openPractice(ctx, c.practice)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var group processes
	defer func() { err = errors.Join(err, group.stop()) }()
	p, key, err := group.startCompiled(ctx, s)
	if err != nil {
		return err
	}
	t := sidecarTarget("sidecar", p, key, c.questions(c.Questions))
	if _, err := drive(ctx, t, c.Connections, time.Second, true); err != nil {
		return err
	}
	rate := 0.0 // as fast as it goes
	for range 5 {
		run, err := c.keep(ctx, t, key, rate)
		if err != nil {
			return err
		}
		fmt.Println(run)
		if run.flat() {
			return nil
		}
		rate = 0.9 * run.shipped
		if err := c.drain(ctx, t, key); err != nil {
			return err
		}
	}
	return errors.New("no rate was found at which the spool stays flat")
}

// kept is how one rate went.
type kept struct {
	asked   float64 // requests a second
	shipped float64 // decisions that came to Postgres, a second
	half    float64 // the most that waited in the first half of the time
	most    float64 // and in the second
	minutes float64
}

// flat reports whether no more waited in the second half than in the first, up
// to what two seconds bring.
func (k kept) flat() bool { return k.most <= k.half+2*k.asked }

// String says it in a line.
func (k kept) String() string {
	word := "NOT flat"
	if k.flat() {
		word = "flat"
	}
	return fmt.Sprintf("%.1f minutes at %.0f decisions/s, %.0f/s shipped: at most %.0f waited in the first half, %.0f in the second: %s",
		k.minutes, k.asked, k.shipped, k.half, k.most, word)
}

// keep drives t at rate, 0 for as fast as it goes.
func (c *sustainedCommand) keep(ctx context.Context, t *target, key string, rate float64) (kept, error) {
	k := kept{minutes: c.Minutes}
	steps := max(2, int(c.Minutes*float64(time.Minute)/float64(step)))
	began, asked := time.Now(), 0.0
	waitingBefore := 0.0
	for i := range steps {
		if rate == 0 {
			sample, err := drive(ctx, t, c.Connections, step, false)
			if err != nil {
				return k, err
			}
			asked += sample.Throughput * step.Seconds()
		} else {
			latencies, err := driveOpen(ctx, t, c.Connections, rate, step)
			if err != nil {
				return k, err
			}
			asked += float64(len(latencies))
		}
		waiting, err := metric(ctx, t.address, key, "chartgate_spool_records")
		if err != nil {
			return k, err
		}
		if i < steps/2 {
			k.half = max(k.half, waiting)
		} else {
			k.most = max(k.most, waiting)
		}
		waitingBefore = waiting
		fmt.Fprintf(os.Stderr, "%3.0f s: %.0f decisions so far, %.0f wait for Postgres\n", time.Since(began).Seconds(), asked, waiting)
	}
	elapsed := time.Since(began).Seconds()
	k.asked, k.shipped = asked/elapsed, (asked-waitingBefore)/elapsed
	return k, nil
}

// drain waits until nothing waits for Postgres.
func (c *sustainedCommand) drain(ctx context.Context, t *target, key string) error {
	for {
		waiting, err := metric(ctx, t.address, key, "chartgate_spool_records")
		if err != nil || waiting == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(step):
			fmt.Fprintf(os.Stderr, "%.0f wait for Postgres\n", waiting)
		}
	}
}

// settled waits until all decisions of a sidecar are in Postgres.
func settled(address, key string) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			waiting, err := metric(ctx, address, key, "chartgate_spool_records")
			if err != nil || waiting == 0 {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// metric reads one number of a server's /metrics.
func metric(ctx context.Context, address, key, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, fmt.Errorf("/metrics (%s) has no %s", response.Status, name)
}
