package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// httpCommand compares warm decisions over HTTP with the floor: a bare Fiber
// handler that returns a constant of the same size.
type httpCommand struct {
	practice
	contest
	Questions int    `default:"10000" help:"Different questions that are asked. Default: ${default}."`
	Profile   string `placeholder:"FILE" help:"Keep the CPU profile of the sidecar in this file."`
	OPA       string `name:"opa" placeholder:"PROGRAM" help:"OPA's program, to be driven as well with the same policy and questions; 'build' builds the version that Chartgate embeds, from its own module."`
}

// Run starts the servers and drives them in turn.
func (c *httpCommand) Run(ctx context.Context) (err error) {
	if err := errors.Join(c.contest.check(), c.practice.check(), checkQuestions(c.Questions)); err != nil {
		return err
	}
	ctx, cancel := c.limit(ctx, 3)
	defer cancel()
	s, err := openPractice(ctx, c.practice)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var group processes
	defer func() { err = errors.Join(err, group.stop()) }()
	list, setup, err := c.start(ctx, s, &group)
	if err != nil {
		return err
	}
	report := c.newReport("http", c.practice, setup)
	if report.Results, err = c.run(ctx, list); err != nil {
		return err
	}
	if report.Open, err = openLoops(ctx, list, report.Results, c.Seconds*float64(c.Rounds)); err != nil {
		return err
	}
	if report.Apart, err = costApart(ctx, list[1], c.Connections[len(c.Connections)-1], profileTime(c.Seconds*float64(c.Rounds))); err != nil {
		return err
	}
	if c.Profile != "" {
		text, err := os.ReadFile(report.Apart.Profile)
		if err := errors.Join(err, os.WriteFile(c.Profile, text, 0o644)); err != nil {
			return err
		}
	}
	return c.finish(report)
}

// profileTime is how long the sidecar is profiled: 1 to 10 seconds.
func profileTime(seconds float64) time.Duration {
	return time.Duration(min(10, max(1, seconds)) * float64(time.Second))
}

func checkQuestions(n int) error {
	if n < 1 {
		return errors.New("--questions: want at least 1")
	}
	return nil
}

// start starts the servers; the first target is the floor, the second the
// sidecar.
func (c *httpCommand) start(ctx context.Context, s *store, group *processes) ([]*target, map[string]any, error) {
	setup := map[string]any{"questions": c.Questions}
	questions := c.questions(c.Questions)
	sidecar, key, err := group.startCompiled(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	asked := sidecarTarget("sidecar", sidecar, key, questions)
	asked.profiles = s.folder
	asked.cpu = append(asked.cpu, cost{name: "postgres", pid: s.server.Pid(), family: true})
	floor, err := group.startFloor(ctx, asked)
	if err != nil {
		return nil, nil, err
	}
	list := []*target{floor, asked}
	if c.OPA == "" {
		return list, setup, nil
	}
	program := c.OPA
	if program == "build" {
		if program, err = buildOPA(ctx, s.folder); err != nil {
			return nil, nil, err
		}
	}
	setup["opa"] = opaVersion(ctx, program)
	opa, err := startOPA(ctx, program, s.folder)
	if err != nil {
		return nil, nil, err
	}
	group.add(opa)
	t, err := opaTarget(ctx, opa, s, questions)
	if err != nil {
		return nil, nil, err
	}
	return append(list, t), setup, nil
}

// sidecarTarget asks the sidecar by AuthZEN.
func sidecarTarget(name string, p *process, key string, questions []question) *target {
	bodies, wants := make([][]byte, len(questions)), make([][2][]byte, len(questions))
	for i, q := range questions {
		bodies[i] = fmt.Appendf(nil, `{"subject":{"type":"user","id":%q},"action":{"name":"chart.open"},"resource":{"type":"client","id":%q}}`, q.user, q.client)
		wants[i] = [2][]byte{fmt.Appendf(nil, `"decision":%t`, q.allow), fmt.Appendf(nil, `"code":%q`, q.code)}
	}
	return &target{name: name, address: p.address, path: "/access/v1/evaluation", bodies: bodies,
		header: map[string]string{"Authorization": "Bearer " + key},
		cpu:    []cost{{name: "server", pid: p.pid}},
		settle: settled(p.address, key),
		check: func(i int, answer []byte) error {
			if !bytes.Contains(answer, wants[i][0]) || !bytes.Contains(answer, wants[i][1]) {
				return fmt.Errorf("wrong answer for %+v: %s", questions[i], answer)
			}
			return nil
		}}
}

// answer asks the first question and returns the answer.
func (t *target) answer(ctx context.Context) ([]byte, error) {
	var answer []byte
	once := *t
	once.check = func(i int, body []byte) error {
		answer = bytes.Clone(body)
		return t.check(i, body)
	}
	_, err := once.ask(ctx, pace{connections: 1})
	return answer, err
}
