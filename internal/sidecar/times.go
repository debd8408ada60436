package sidecar

import (
	"time"

	"chartgate/internal/pdp"

	"github.com/prometheus/client_golang/prometheus"
)

// times shows how long the parts of decisions take, of a sample of them: the
// PDP's parts, and of plain single evaluations also parse and answer.
type times struct {
	parts map[string]prometheus.Observer
}

func newTimes(registry *prometheus.Registry) *times {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "chartgate_decision_part_seconds",
		Help:    "How long the parts of decisions took: one in 64 is timed.",
		Buckets: []float64{1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1},
	}, []string{"part"})
	registry.MustRegister(seconds)
	t := &times{parts: map[string]prometheus.Observer{}}
	for _, part := range []string{"parse", pdp.PartFacts, pdp.PartEvaluate, pdp.PartRecord, "answer"} {
		t.parts[part] = seconds.WithLabelValues(part)
	}
	return t
}

func (t *times) took(part string, d time.Duration) { t.parts[part].Observe(d.Seconds()) }

// timing is one part that goes on; the zero timing is not taken.
type timing struct {
	of    prometheus.Observer
	began time.Time
}

func (t *times) part(name string) (one timing) {
	if pdp.Timed() {
		one = timing{of: t.parts[name], began: time.Now()}
	}
	return one
}

func (t timing) end() {
	if t.of != nil {
		t.of.Observe(time.Since(t.began).Seconds())
	}
}
