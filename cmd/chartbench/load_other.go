//go:build !linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
)

// ask asks t's questions as p says, and returns how long each answer took.
func (t *target) ask(ctx context.Context, p pace) ([]time.Duration, error) {
	latencies := make([][]time.Duration, p.connections)
	group, ctx := errgroup.WithContext(ctx)
	for c := range p.connections {
		group.Go(func() error {
			var err error
			latencies[c], err = t.askOn(ctx, p, c)
			return err
		})
	}
	err := group.Wait()
	return slices.Concat(latencies...), err
}

// askOn asks over the connection of that number.
func (t *target) askOn(ctx context.Context, p pace, number int) ([]time.Duration, error) {
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
	for question := p.first(number, len(t.bodies)); ; question = (question + 1) % len(t.bodies) {
		request.SetBodyRaw(t.bodies[question])
		due := p.due(number, len(latencies))
		time.Sleep(time.Until(due))
		if err := client.Do(request, response); err != nil {
			return nil, err
		}
		now := time.Now()
		latencies = append(latencies, now.Sub(due))
		if response.StatusCode() != fasthttp.StatusOK {
			return nil, fmt.Errorf("answered %d: %s", response.StatusCode(), response.Body())
		}
		if err := t.check(question, response.Body()); err != nil {
			return nil, err
		}
		if p.over(now, len(latencies)) {
			return latencies, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}
