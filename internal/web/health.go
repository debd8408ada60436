package web

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Check is one thing that a server needs. Its error goes to the log; callers
// without a key see only Hint.
type Check struct {
	Name     string
	Hint     string        // what is wrong and what to do, when Probe fails
	Optional bool          // shown, but the server is ready without it
	Says     func() string // what there is to know of it, for everybody to see; may be nil
	Probe    func(context.Context) error
}

// Result is what a check said.
type Result struct {
	OK       bool   `json:"ok"`
	Reason   string `json:"reason,omitempty"`
	Says     string `json:"says,omitempty"`
	optional bool
}

// Health answers whether a server lives and whether it is ready to be asked.
type Health struct {
	log    *slog.Logger
	checks []Check

	draining atomic.Bool

	mu      sync.Mutex // whoever holds it probes, for all who wait
	at      time.Time
	results map[string]Result
}

const (
	probeTimeout = 2 * time.Second
	probeEvery   = 250 * time.Millisecond // strangers may ask as often as they like
)

// NewHealth makes the answers from the checks. Without checks it is ready.
func NewHealth(log *slog.Logger, checks ...Check) *Health {
	return &Health{log: log, checks: checks}
}

// Drain makes the server unready, so that nobody new is sent to it while it
// ends what it has begun.
func (h *Health) Drain() { h.draining.Store(true) }

// Mount adds GET /livez and GET /readyz, which need no key.
func (h *Health) Mount(app fiber.Router) {
	app.Get("/livez", func(c *fiber.Ctx) error { return c.JSON(fiber.Map{"live": true}) }).Name("livez")
	app.Get("/readyz", h.ready).Name("readyz")
}

func (h *Health) ready(c *fiber.Ctx) error {
	ready, results := h.Ready(c.UserContext())
	if !ready {
		c.Status(http.StatusServiceUnavailable)
	}
	return c.JSON(fiber.Map{"ready": ready, "checks": results})
}

// Ready probes every check, at most every probeEvery for all who ask, and reports
// whether all that are needed hold.
func (h *Health) Ready(ctx context.Context) (bool, map[string]Result) {
	results := h.probe(ctx)
	ready := !h.draining.Load()
	shown := make(map[string]Result, len(results)+1)
	for name, r := range results {
		ready = ready && (r.OK || r.optional)
		shown[name] = r
	}
	if h.draining.Load() {
		shown["server"] = Result{Reason: "the server is shutting down"}
	}
	return ready, shown
}

func (h *Health) probe(ctx context.Context) map[string]Result {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.results != nil && time.Since(h.at) < probeEvery {
		return h.results
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	results := make([]Result, len(h.checks))
	var wait sync.WaitGroup
	for i, check := range h.checks {
		wait.Go(func() {
			results[i] = Result{OK: true, optional: check.Optional}
			if err := check.Probe(ctx); err != nil {
				results[i] = Result{Reason: check.Hint, optional: check.Optional}
				h.log.Warn("check fails", "check", check.Name, "error", err)
			}
			if check.Says != nil {
				results[i].Says = check.Says()
			}
		})
	}
	wait.Wait()
	h.at, h.results = time.Now(), make(map[string]Result, len(results))
	for i, check := range h.checks {
		h.results[check.Name] = results[i]
	}
	return h.results
}
