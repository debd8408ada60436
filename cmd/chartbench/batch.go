package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
)

// batchCommand measures what a decision in a batch costs beyond the first.
type batchCommand struct {
	practice
	contest
	Questions int `default:"10000" help:"Different questions that are asked. Default: ${default}."`
	Items     int `default:"1000" help:"Decisions in one request. Default: ${default}."`
}

// Run drives the sidecar with single questions and with batches in turn.
func (c *batchCommand) Run(ctx context.Context) (err error) {
	if err := errors.Join(c.contest.check(), c.practice.check(), checkQuestions(c.Questions)); err != nil {
		return err
	}
	if c.Items < 2 || c.Items > c.Questions {
		return fmt.Errorf("--items: want 2 to %d, the number of questions", c.Questions)
	}
	// A sidecar sheds batches beyond 2,000 decisions a processor at once: it is
	// driven with as many as it lets in.
	for i := range c.Connections {
		c.Connections[i] = max(1, min(c.Connections[i], 2000*runtime.NumCPU()/c.Items))
	}
	c.Connections = slices.Compact(c.Connections)
	ctx, cancel := c.limit(ctx, 2)
	defer cancel()
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
	questions := c.questions(c.Questions)
	single := sidecarTarget("single", p, key, questions)
	batch := c.batchTarget(p, key, questions)
	report := c.newReport("batch", c.practice, map[string]any{"questions": c.Questions, "items": c.Items})
	if report.Results, err = c.run(ctx, []*target{single, batch}); err != nil {
		return err
	}
	if err := c.finish(report); err != nil {
		return err
	}
	for i := 0; i < len(report.Results); i += 2 {
		one, many := report.Results[i], report.Results[i+1]
		each := (many.Median.CPU["server"] - one.Median.CPU["server"]) / float64(c.Items-1)
		fmt.Fprintf(os.Stdout, "%d connections: %.2f µs CPU of the sidecar for each decision beyond the first, its record and shipping included; %.0f decisions/s\n",
			one.Connections, each, many.Median.Throughput*float64(c.Items))
	}
	return nil
}

// batchTarget asks the same questions by AuthZEN's batch. All the subject is in
// common is the type: every item is a question of its own.
func (c *batchCommand) batchTarget(p *process, key string, questions []question) *target {
	var bodies [][]byte
	var allowed []int
	for first := 0; first+c.Items <= len(questions); first += c.Items {
		body := bytes.NewBufferString(`{"action":{"name":"chart.open"},"evaluations":[`)
		allow := 0
		for i, q := range questions[first : first+c.Items] {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(body, `{"subject":{"type":"user","id":%q},"resource":{"type":"client","id":%q}}`, q.user, q.client)
			if q.allow {
				allow++
			}
		}
		body.WriteString(`]}`)
		bodies, allowed = append(bodies, body.Bytes()), append(allowed, allow)
	}
	return &target{name: fmt.Sprintf("batch of %d", c.Items), address: p.address, path: "/access/v1/evaluations", bodies: bodies,
		header: map[string]string{"Authorization": "Bearer " + key},
		cpu:    []cost{{name: "server", pid: p.pid}},
		check: func(i int, answer []byte) error {
			if got := bytes.Count(answer, []byte(`"decision":true`)); got != allowed[i] {
				return fmt.Errorf("batch %d: %d allowed, want %d: %.300s", i, got, allowed[i], answer)
			}
			return nil
		}}
}
