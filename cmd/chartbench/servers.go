package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

// floorAnswer is the environment variable that holds the floor's constant.
const floorAnswer = "CHARTBENCH_ANSWER"

// floorServer is the floor: a bare Fiber handler that returns a constant.
type floorServer struct{}

// Run serves until the parent is through.
func (floorServer) Run(ctx context.Context) error {
	ctx, listener, err := announce(ctx)
	if err != nil {
		return err
	}
	answer := []byte(os.Getenv(floorAnswer))
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(answer)
	})
	context.AfterFunc(ctx, func() { app.Shutdown() })
	return app.Listener(listener)
}

// sidecarServer is the sidecar as cmd/sidecar runs it.
type sidecarServer struct {
	halves.Spool
	NoRedis     bool   `env:"CHARTBENCH_NO_REDIS"`
	MemoryBytes uint64 `env:"CHARTBENCH_MEMORY"`
}

// Run serves until the parent is through.
func (c *sidecarServer) Run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	slog.SetDefault(log)
	halves.BoundMemory()
	secrets := halves.ReadSecrets()
	if c.NoRedis {
		secrets.RedisURL = ""
	}
	engine, err := halves.BuiltIn(ctx, pdp.DecisionPath)
	if err != nil {
		return err
	}
	half, err := halves.Sidecar(ctx, halves.Config{
		DatabaseURL: secrets.DatabaseURL, RedisURL: secrets.RedisURL, APIKey: secrets.APIKey, KeyScopes: []string{web.ScopeAsk, web.ScopeOperate},
		PublicURL: "http://127.0.0.1", Engine: engine, Log: log,
		SpoolDir: c.SpoolDir, SpoolSync: c.SpoolSync, MemoryBytes: c.MemoryBytes,
	})
	if err != nil {
		return err
	}
	defer half.Close()
	ctx, listener, err := announce(ctx)
	if err != nil {
		return err
	}
	go profileOnSignal(ctx, os.Getenv(profileFolder))
	return half.Serve(ctx, listener)
}

// processes are the servers of a scenario.
type processes struct {
	list  []*process
	redis string // the address of the Redis that its sidecars share, "" before there is one
}

func (g *processes) add(p *process) { g.list = append(g.list, p) }

// stop ends them all.
func (g *processes) stop() error {
	var err error
	for _, p := range g.list {
		err = errors.Join(err, p.stop())
	}
	return err
}

// startSidecar starts a sidecar on s, with what the environment adds, and
// returns it with a key for it. Its decisions are kept on the disk of the
// temporary folder: CHARTGATE_SPOOL_SYNC says how often they are synced.
func (g *processes) startSidecar(ctx context.Context, s *store, environment ...string) (*process, string, error) {
	key := "bench_" + rand.Text()
	if g.redis == "" && os.Getenv("REDIS_URL") == "" && os.Getenv("CHARTBENCH_NO_REDIS") == "" {
		var err error
		if g.redis, err = g.startRedis(ctx, s); err != nil {
			return nil, "", err
		}
	}
	if g.redis != "" {
		environment = append([]string{"REDIS_URL=" + g.redis}, environment...)
	}
	p, err := startSelf(ctx, "serve-sidecar", append([]string{"DATABASE_URL=" + s.url, "CHARTGATE_API_KEY=" + key,
		"CHARTGATE_SPOOL_DIR=" + filepath.Join(s.folder, "spool-"+rand.Text()), profileFolder + "=" + s.folder}, environment...)...)
	if err != nil {
		return nil, "", err
	}
	g.add(p)
	return p, key, awaitReady(ctx, p, "/readyz", "", "", startWait)
}

// startCompiled is startSidecar, and waits until the compiled policy decides and
// is certified: what that costs is no part of what is measured.
func (g *processes) startCompiled(ctx context.Context, s *store, environment ...string) (*process, string, error) {
	p, key, err := g.startSidecar(ctx, s, environment...)
	if err != nil {
		return nil, "", err
	}
	if compiledWait == 0 {
		return p, key, nil
	}
	return p, key, awaitReady(ctx, p, "/metrics", key, "\nchartgate_program_certified 1\n", compiledWait)
}

// compiledWait is how long certification may take; 0 does not wait for it,
// which is for tests of the scenarios themselves.
var compiledWait = 5 * time.Minute

// startFloor starts the floor of asked: it is sent the same, and answers a
// constant of the same size.
func (g *processes) startFloor(ctx context.Context, asked *target) (*target, error) {
	return g.startConstant(ctx, "floor", "serve-floor", asked)
}

// startConstant starts one of our servers that answer a constant, whatever else
// they do before.
func (g *processes) startConstant(ctx context.Context, name, command string, asked *target, environment ...string) (*target, error) {
	constant, err := asked.answer(ctx)
	if err != nil {
		return nil, err
	}
	p, err := startSelf(ctx, command, append(environment, floorAnswer+"="+string(constant))...)
	if err != nil {
		return nil, err
	}
	g.add(p)
	return &target{name: name, address: p.address, path: "/", header: asked.header, bodies: asked.bodies, endless: asked.endless,
		cpu: []cost{{name: "server", pid: p.pid}},
		check: func(_ int, answer []byte) error {
			if !bytes.Equal(answer, constant) {
				return fmt.Errorf("wrong answer: %s", answer)
			}
			return nil
		}}, nil
}

// awaitReady asks a server until its answer holds ready.
func awaitReady(ctx context.Context, p *process, path, key, ready string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			said, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err == nil && response.StatusCode == http.StatusOK && strings.Contains(string(said), ready) {
				return nil
			}
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it was ready: %w", p.name, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s", p.name, wait)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
