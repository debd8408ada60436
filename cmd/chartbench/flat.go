package main

import (
	"context"
	"errors"
	"fmt"
)

// flatCommand compares warm decisions over the same number of questions in
// databases of different sizes.
type flatCommand struct {
	contest
	Few       int `default:"10000" help:"Clients of the other databases. Default: ${default}."`
	Many      int `default:"1000000" help:"Clients of the large database. Default: ${default}."`
	Practices int `default:"200" help:"Practices of the database with many. Default: ${default}."`
	Questions int `default:"10000" help:"Different questions that are asked. Default: ${default}."`
}

// Run fills three databases and drives their sidecars in turn.
func (c *flatCommand) Run(ctx context.Context) (err error) {
	if err := errors.Join(c.contest.check(), checkQuestions(c.Questions)); err != nil {
		return err
	}
	ctx, cancel := c.limit(ctx, 4)
	defer cancel()
	var stores []*store
	defer func() {
		for _, s := range stores {
			err = errors.Join(err, s.close())
		}
	}()
	var group processes // which end before their stores
	defer func() { err = errors.Join(err, group.stop()) }()
	small := practice{Clients: c.Few, Practitioners: 200, Grants: 2 * c.Few, Practices: 1}
	large, many := small, small
	large.Clients = c.Many
	many.Practices, many.Practitioners = c.Practices, max(many.Practitioners, 5*c.Practices)
	var list []*target
	for _, size := range []struct {
		name string
		practice
	}{
		{fmt.Sprintf("%d clients", small.Clients), small},
		{fmt.Sprintf("%d clients", large.Clients), large},
		{fmt.Sprintf("%d practices", many.Practices), many},
	} {
		if err := size.check(); err != nil {
			return err
		}
		s, err := openPractice(ctx, size.practice)
		if err != nil {
			return err
		}
		stores = append(stores, s)
		p, key, err := group.startCompiled(ctx, s)
		if err != nil {
			return err
		}
		asked := sidecarTarget(size.name, p, key, size.questions(c.Questions))
		if len(list) == 0 {
			floor, err := group.startFloor(ctx, asked)
			if err != nil {
				return err
			}
			list = append(list, floor)
			asked.against = 0
		} else {
			asked.against = 1
		}
		list = append(list, asked)
	}
	report := c.newReport("flat", small, map[string]any{"questions": c.Questions, "many_clients": c.Many, "many_practices": c.Practices})
	if report.Results, err = c.run(ctx, list); err != nil {
		return err
	}
	return c.finish(report)
}
