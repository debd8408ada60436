package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// startCommand measures how long a sidecar takes from its start to its first
// answer, and how much memory it has, with a large practice in the database.
type startCommand struct {
	Clients       int `default:"1000000" help:"Clients of the practice. Default: ${default}."`
	Practitioners int `default:"200" help:"Practitioners of the practice. Default: ${default}."`
	Grants        int `default:"20000" help:"Grants on its clients. Default: ${default}."`
	Questions     int `default:"200000" help:"Different questions that are asked after the start. Default: ${default}."`
	Starts        int `default:"5" help:"Starts; the median counts. Default: ${default}."`
}

// Run starts sidecars one after the other, and asks the last.
func (c *startCommand) Run(ctx context.Context) (err error) {
	p := practice{Clients: c.Clients, Practitioners: c.Practitioners, Grants: c.Grants, Practices: 1}
	if err := errors.Join(p.check(), checkQuestions(c.Questions)); err != nil {
		return err
	}
	if c.Starts < 1 {
		return errors.New("--starts: want at least 1")
	}
	ctx, cancel := context.WithTimeout(ctx, importTime)
	defer cancel()
	s, err := openPractice(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	questions := p.questions(c.Questions)
	var times, cpu []float64
	for i := range c.Starts {
		var group processes
		began := time.Now()
		process, key, err := group.startSidecar(ctx, s)
		if err != nil {
			return errors.Join(err, group.stop())
		}
		t := sidecarTarget("sidecar", process, key, questions)
		if _, err := t.answer(ctx); err != nil {
			return errors.Join(err, group.stop())
		}
		times = append(times, time.Since(began).Seconds())
		spent, err := cpuTime(process.pid, false)
		if err != nil {
			return errors.Join(err, group.stop())
		}
		cpu = append(cpu, spent.Seconds())
		if i == c.Starts-1 {
			err = c.memory(ctx, t)
		}
		if err = errors.Join(err, group.stop()); err != nil {
			return err
		}
	}
	fmt.Printf("start to the first answer, %d clients: %.2f s (%.2f s CPU), median of %d\n", c.Clients, median(times), median(cpu), c.Starts)
	return nil
}

// memory prints what t's process has resident: when it is ready, when the
// policy is certified, and after all questions.
func (c *startCommand) memory(ctx context.Context, t *target) error {
	say := func(when string) error {
		now, most, err := residentMemory(t.cpu[0].pid)
		if err != nil {
			return err
		}
		fmt.Printf("memory %s: %.0f MiB resident, at most %.0f MiB so far\n", when, float64(now)/(1<<20), float64(most)/(1<<20))
		return nil
	}
	if err := say("at the first answer"); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "waiting until the policy is certified")
	if err := idle(ctx, t.cpu[0].pid); err != nil {
		return err
	}
	if err := say("with the policy certified"); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "asking %d different questions\n", c.Questions)
	if _, err := drive(ctx, t, 8, time.Second, true); err != nil {
		return err
	}
	return say(fmt.Sprintf("after %d different questions", c.Questions))
}

// idle waits until a process uses next to no CPU.
func idle(ctx context.Context, pid int) error {
	last := time.Duration(-1)
	for {
		used, err := cpuTime(pid, false)
		if err != nil {
			return err
		}
		if last >= 0 && used-last < 100*time.Millisecond {
			return nil
		}
		last = used
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}
