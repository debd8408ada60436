package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// httpCommand compares warm decisions over HTTP with the floor: a bare Fiber
// handler that returns a constant of the same size.
type httpCommand struct {
	practice
	Questions   int     `default:"10000" help:"Different questions that are asked. Default: ${default}."`
	Connections []int   `default:"8,32" help:"Connections, kept alive. Default: ${default}."`
	Rounds      int     `default:"7" help:"Rounds; the medians count. Default: ${default}."`
	Seconds     float64 `default:"2" help:"How long each server is driven in a round. Default: ${default}."`
	OPA         string  `name:"opa" placeholder:"PROGRAM" help:"OPA's program, to be driven as well with the same policy and questions."`
	JSON        string  `name:"json" placeholder:"FILE" help:"Write the figures to this file as JSON."`
}

// setupTime bounds everything but the driving.
const setupTime = 5 * time.Minute

// Run starts the servers and drives them in turn.
func (c *httpCommand) Run(ctx context.Context) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	targets := 3 * len(c.Connections)
	limit := setupTime + time.Duration(float64(c.Rounds*targets)*(c.Seconds+1)*2*float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	s, err := openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	fmt.Fprintf(os.Stderr, "loading %d clients, %d practitioners, %d grants\n", c.Clients, c.Practitioners, c.Grants)
	folder := filepath.Join(s.folder, "roster")
	if err := c.write(folder); err != nil {
		return err
	}
	if _, err := c.load(ctx, s.pool, folder, nil); err != nil {
		return err
	}
	list, stop, err := c.start(ctx, s)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	report := c.newReport(ctx)
	for _, connections := range c.Connections {
		results, err := c.compare(ctx, list, connections)
		if err != nil {
			return err
		}
		report.Results = append(report.Results, results...)
	}
	report.print(os.Stdout)
	if c.JSON == "" {
		return nil
	}
	return report.write(c.JSON)
}

func (c *httpCommand) check() error {
	switch {
	case c.Questions < 1:
		return errors.New("--questions: want at least 1")
	case c.Rounds < 1:
		return errors.New("--rounds: want at least 1")
	case c.Seconds <= 0:
		return errors.New("--seconds: want more than 0")
	case len(c.Connections) == 0 || slices.Min(c.Connections) < 1:
		return errors.New("--connections: want numbers of at least 1")
	}
	return c.practice.check()
}

// start starts the servers; the first target is the floor. Stop ends those that
// were started, also after an error.
func (c *httpCommand) start(ctx context.Context, s *store) (list []*target, stop func() error, err error) {
	var started []*process
	stop = func() error {
		var err error
		for _, p := range started {
			err = errors.Join(err, p.stop())
		}
		return err
	}
	questions := c.questions(c.Questions)
	sidecar, key, err := startSidecar(ctx, s)
	if sidecar != nil {
		started = append(started, sidecar)
	}
	if err != nil {
		return nil, stop, err
	}
	asked := sidecarTarget(sidecar, key, questions)
	asked.cpu = append(asked.cpu, cost{name: "postgres", pid: s.server.Pid(), family: true})

	constant, err := asked.answer(ctx)
	if err != nil {
		return nil, stop, err
	}
	floor, err := startSelf(ctx, "serve-floor", floorAnswer+"="+string(constant))
	if err != nil {
		return nil, stop, err
	}
	started = append(started, floor)
	list = []*target{{name: "floor", address: floor.address, path: "/", header: asked.header, bodies: asked.bodies,
		cpu: []cost{{name: "server", pid: floor.pid}},
		check: func(_ int, answer []byte) error {
			if !bytes.Equal(answer, constant) {
				return fmt.Errorf("wrong answer: %s", answer)
			}
			return nil
		}}, asked}

	if c.OPA != "" {
		opa, err := startOPA(ctx, c.OPA, s.folder)
		if err != nil {
			return nil, stop, err
		}
		started = append(started, opa)
		t, err := opaTarget(ctx, opa, s, questions)
		if err != nil {
			return nil, stop, err
		}
		list = append(list, t)
	}
	return list, stop, nil
}

// sidecarTarget asks the sidecar by AuthZEN.
func sidecarTarget(p *process, key string, questions []question) *target {
	bodies, wants := make([][]byte, len(questions)), make([][2][]byte, len(questions))
	for i, q := range questions {
		bodies[i] = fmt.Appendf(nil, `{"subject":{"type":"user","id":%q},"action":{"name":"chart.open"},"resource":{"type":"client","id":%q}}`, q.user, q.client)
		wants[i] = [2][]byte{fmt.Appendf(nil, `"decision":%t`, q.allow), fmt.Appendf(nil, `"code":%q`, q.code)}
	}
	return &target{name: "sidecar", address: p.address, path: "/access/v1/evaluation", bodies: bodies,
		header: map[string]string{"Authorization": "Bearer " + key},
		cpu:    []cost{{name: "server", pid: p.pid}},
		check: func(i int, answer []byte) error {
			if !bytes.Contains(answer, wants[i][0]) || !bytes.Contains(answer, wants[i][1]) {
				return fmt.Errorf("wrong answer for %+v: %s", questions[i], answer)
			}
			return nil
		}}
}

// compare drives all targets in turn, after each was asked every question once,
// and returns the medians and how they stand to the floor's.
func (c *httpCommand) compare(ctx context.Context, list []*target, connections int) ([]result, error) {
	for _, t := range list {
		fmt.Fprintf(os.Stderr, "%d connections: warming up %s\n", connections, t.name)
		if _, err := drive(ctx, t, connections, time.Second, true); err != nil {
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
			s, err := drive(ctx, list[j], connections, duration, false)
			if err != nil {
				return nil, err
			}
			results[j].Rounds = append(results[j].Rounds, s)
		}
		fmt.Fprintf(os.Stderr, "%d connections: round %d of %d, sidecar %.2f of the floor\n", connections, round+1, c.Rounds,
			results[1].Rounds[round].Throughput/results[0].Rounds[round].Throughput)
	}
	for i := range results {
		results[i].sum(results[0].Rounds)
	}
	return results, nil
}

// answer asks the first question and returns the answer.
func (t *target) answer(ctx context.Context) ([]byte, error) {
	var answer []byte
	once := *t
	once.check = func(i int, body []byte) error {
		answer = bytes.Clone(body)
		return t.check(i, body)
	}
	_, err := once.ask(ctx, 0, time.Now(), 1)
	return answer, err
}

// newReport describes the run.
func (c *httpCommand) newReport(ctx context.Context) *report {
	r := &report{Scenario: "http", Machine: thisMachine(), Setup: map[string]any{
		"clients": c.Clients, "practitioners": c.Practitioners, "grants": c.Grants, "questions": c.Questions,
		"rounds": c.Rounds, "seconds": c.Seconds, "record": "written before the answer, synced every CHARTGATE_SPOOL_SYNC (100ms unless set)",
	}}
	if c.OPA != "" {
		r.Setup["opa"] = opaVersion(ctx, c.OPA)
	}
	return r
}

// write writes the figures as JSON.
func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
