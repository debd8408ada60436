package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/redis/go-redis/v9"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
)

// coldCommand compares decisions on facts that memory does not hold with
// handlers that only do the same read, from Redis and from Postgres.
type coldCommand struct {
	practice
	contest
	Questions int `default:"10000" help:"Different questions that are asked. Default: ${default}."`
}

// noMemory is a memory for facts that holds nothing.
const noMemory = "CHARTBENCH_MEMORY=1"

// Run drives the four in turn.
func (c *coldCommand) Run(ctx context.Context) (err error) {
	if err := errors.Join(c.contest.check(), c.practice.check(), checkQuestions(c.Questions)); err != nil {
		return err
	}
	ctx, cancel := c.limit(ctx, 4)
	defer cancel()
	s, err := openPractice(ctx, c.practice)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var group processes
	defer func() { err = errors.Join(err, group.stop()) }()
	shared, err := group.startRedis(ctx, s)
	if err != nil {
		return err
	}
	group.redis = shared
	list, err := c.start(ctx, s, &group, shared)
	if err != nil {
		return err
	}
	report := c.newReport("cold", c.practice, map[string]any{"questions": c.Questions})
	if report.Results, err = c.run(ctx, list); err != nil {
		return err
	}
	return c.finish(report)
}

func (c *coldCommand) start(ctx context.Context, s *store, group *processes, shared string) ([]*target, error) {
	questions := c.questions(c.Questions)
	var list []*target
	for _, from := range []struct {
		name, reader string
		environment  []string
	}{
		{"redis", "serve-redis", []string{"REDIS_URL=" + shared}},
		{"postgres", "serve-postgres", []string{"CHARTBENCH_NO_REDIS=true", "DATABASE_URL=" + s.url}},
	} {
		p, key, err := group.startCompiled(ctx, s, append(from.environment, noMemory)...)
		if err != nil {
			return nil, err
		}
		asked := sidecarTarget("facts from "+from.name, p, key, questions)
		reader, err := group.startConstant(ctx, "only "+from.name, from.reader, asked, from.environment...)
		if err != nil {
			return nil, err
		}
		reader.against, asked.against = len(list), len(list)
		list = append(list, reader, asked)
	}
	return list, nil
}

// startRedis starts a Redis server on a unix socket of its own and returns its
// address. Its process is one of the group's.
func (g *processes) startRedis(ctx context.Context, s *store) (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		program, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		socket := filepath.Join(s.folder, "redis-"+rand.Text()+".sock")
		p, err := start("redis", exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--loglevel", "warning"))
		if err != nil {
			return "", err
		}
		g.add(p)
		url := "unix://" + socket
		client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
		defer client.Close()
		for deadline := time.Now().Add(startWait); ; time.Sleep(20 * time.Millisecond) {
			if client.Ping(ctx).Err() == nil {
				return url, nil
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				return "", errors.New("redis-server is not ready")
			}
		}
	}
	return "", errors.New("no redis-server is installed: 'apt-get install -y redis-server'")
}

// readQuestion is what the readers take from a question.
type readQuestion struct {
	Subject  struct{ ID string }
	Resource struct{ ID string }
}

// redisReader answers a constant after it has read one entry from Redis, of the
// size of a sidecar's.
type redisReader struct{}

// entrySize is how many bytes a sidecar's entry in Redis has, about.
const entrySize = 700

// Run serves until the parent is through.
func (redisReader) Run(ctx context.Context) error {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer client.Close()
	entry := make([]byte, entrySize)
	_, _ = rand.Read(entry) // it never fails
	return serveConstant(ctx, func(ctx context.Context, q readQuestion) error {
		key := "bench/" + q.Subject.ID + "/" + q.Resource.ID
		_, err := client.Get(ctx, key).Bytes()
		if errors.Is(err, redis.Nil) {
			err = client.Set(ctx, key, entry, time.Hour).Err()
		}
		return err
	})
}

// postgresReader answers a constant after it has read the facts from Postgres
// with a sidecar's statement.
type postgresReader struct{}

// readerConnections is how many connections a sidecar reads facts with.
const readerConnections = 16

// Run serves until the parent is through.
func (postgresReader) Run(ctx context.Context) error {
	pool, err := postgres.Open(ctx, os.Getenv("DATABASE_URL"), postgres.RoleSidecar, readerConnections)
	if err != nil {
		return err
	}
	defer pool.Close()
	deployment, err := feed.ReadDeployment(ctx, pool)
	if err != nil {
		return err
	}
	return serveConstant(ctx, func(ctx context.Context, q readQuestion) error {
		_, err := facts.Load(ctx, pool, deployment, authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: q.Subject.ID},
			Action: "chart.open", Resource: authz.Resource{Type: authz.ResourceClient, ID: q.Resource.ID}})
		return err
	})
}

// serveConstant is a bare Fiber handler that answers a constant after read.
func serveConstant(ctx context.Context, read func(context.Context, readQuestion) error) error {
	ctx, listener, err := announce(ctx)
	if err != nil {
		return err
	}
	answer := []byte(os.Getenv(floorAnswer))
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/", func(c *fiber.Ctx) error {
		var q readQuestion
		if err := json.Unmarshal(c.Body(), &q); err != nil {
			return err
		}
		if err := read(c.UserContext(), q); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(answer)
	})
	context.AfterFunc(ctx, func() { _ = app.Shutdown() })
	return app.Listener(listener)
}
