package sidecar

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits bound what is decided at the same time. Beyond them a call is refused
// at once, with 503 and Retry-After: those that are answered are answered soon.
type Limits struct {
	Checks int // single decisions under way. 0: 256 for each CPU
	Bulk   int // decisions of batches, searches and filters under way. 0: 2,000 for each CPU
}

func (l Limits) withDefaults() Limits {
	if l.Checks == 0 {
		l.Checks = 256 * runtime.GOMAXPROCS(0)
	}
	if l.Bulk == 0 {
		l.Bulk = 2000 * runtime.GOMAXPROCS(0)
	}
	return l
}

// class is a kind of call. The first are refused last.
type class int

const (
	check   class = iota // a single decision: somebody waits to open a chart
	several              // a batch
	list                 // a search, or a filter
	classes
)

var classNames = [classes]string{"check", "batch", "list"}

// listWeight is how many decisions a search or a filter counts as.
const listWeight = 100

// work counts what is under way.
type work struct {
	Limits
	checks, bulk atomic.Int64 // decisions
	refused      [classes]atomic.Uint64
}

// begin lets n decisions of a class begin, or returns why not. Who began must
// end. Batches are refused where single decisions take half of their room, and
// lists where they take a quarter of it, or bulk half of its own. One call
// alone is never too large.
func (w *work) begin(c class, n int) error {
	if c == check {
		if w.checks.Add(1) <= int64(w.Checks) {
			return nil
		}
		w.checks.Add(-1)
		return w.refuse(c)
	}
	most, others := int64(w.Bulk), int64(w.Checks)/2
	if c == list {
		most, others = most/2, others/2
	}
	if now := w.bulk.Add(int64(n)); w.checks.Load() <= others && (now <= most || now == int64(n)) {
		return nil
	}
	w.bulk.Add(-int64(n))
	return w.refuse(c)
}

func (w *work) end(c class, n int) {
	if c == check {
		w.checks.Add(-1)
		return
	}
	w.bulk.Add(-int64(n))
}

func (w *work) refuse(c class) error {
	w.refused[c].Add(1)
	return web.Busy("too much is being decided at the same time; try again")
}

// room is the middleware of routes whose calls weigh the same.
func (w *work) room(c class, n int) fiber.Handler {
	return func(f *fiber.Ctx) error {
		if err := w.begin(c, n); err != nil {
			return err
		}
		defer w.end(c, n)
		return f.Next()
	}
}

// register shows the numbers of w.
func (w *work) register(registry *prometheus.Registry) {
	for kind, of := range map[string]*atomic.Int64{"check": &w.checks, "bulk": &w.bulk} {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chartgate_decisions_under_way",
			Help: "Decisions that are being made now: single ones, and those of batches and lists.", ConstLabels: prometheus.Labels{"kind": kind}},
			func() float64 { return float64(of.Load()) }))
	}
	for c, name := range classNames {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "chartgate_refused_busy_total",
			Help: "Calls that were refused since too much was under way.", ConstLabels: prometheus.Labels{"class": name}},
			func() float64 { return float64(w.refused[c].Load()) }))
	}
}

// Check returns what is wrong with the limits.
func (l Limits) Check() error {
	if l.Checks < 0 || l.Bulk < 0 {
		return fmt.Errorf("--max-checks, --max-bulk: %d and %d: want 1 or more, or 0 for the default", l.Checks, l.Bulk)
	}
	return nil
}
