package halves

import (
	"time"

	"chartgate/internal/compile"
	"chartgate/internal/facts"
	"chartgate/internal/pdp"
	"chartgate/internal/record"

	"github.com/prometheus/client_golang/prometheus"
)

// registerSidecar puts the numbers of facts and of the record beside those of
// HTTP. They are read when they are asked for, and cost a decision nothing.
func registerSidecar(registry *prometheus.Registry, source *facts.Source, spool *record.Spool) {
	gauge := func(name, help string, read func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chartgate_" + name, Help: help}, read))
	}
	counter := func(name, help string, labels prometheus.Labels, read func() float64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "chartgate_" + name, Help: help, ConstLabels: labels}, read))
	}
	gauge("lease_age_seconds", "How long ago the last complete poll of the change feed began; -1 before the first.", func() float64 {
		age, _ := source.Follower().Age()
		if age < 0 {
			return -1
		}
		return age.Seconds()
	})
	gauge("lease_live", "1 while memory may be used, 0 while each decision reads the database.", func() float64 {
		if source.Follower().Live() == nil {
			return 0
		}
		return 1
	})
	gauge("feed_held_back_transactions", "Transactions between the oldest that was open at the last poll and the newest: each poll reads their changes again. Many for long are an open transaction that somebody forgot.", func() float64 {
		if s := source.Follower().Live(); s != nil {
			return float64(s.Snapshot.Span())
		}
		return 0
	})
	c := source.Counts()
	for layer, read := range map[string]func() uint64{
		"memory": c.Memory.Load, "redis": c.Redis.Load, "postgres": c.Postgres.Load, "shared": c.Shared.Load, "failed": c.Failed.Load,
	} {
		counter("facts_total", "Where the facts of decisions came from.", prometheus.Labels{"layer": layer}, func() float64 { return float64(read()) })
	}
	for why, read := range map[string]func() uint64{"stale": c.Stale.Load, "rubbish": c.Rubbish.Load} {
		counter("redis_refused_total", "Entries in Redis that were not taken.", prometheus.Labels{"why": why}, func() float64 { return float64(read()) })
	}
	s := spool.Stats()
	gauge("spool_records", "Decisions on record here that are not in the database yet.", func() float64 { return float64(s.DepthRecords.Load()) })
	gauge("spool_bytes", "The bytes of those decisions.", func() float64 { return float64(s.DepthBytes.Load()) })
	gauge("spool_oldest_seconds", "How long the oldest of them has waited.", func() float64 { return s.OldestUnshipped().Seconds() })
	counter("decisions_recorded_total", "Decisions put on record.", nil, func() float64 { return float64(s.Recorded.Load()) })
	counter("decisions_lost_total", "Decisions that were on record and cannot be found any more: must stay 0.", nil, func() float64 { return float64(s.Lost.Load()) })
	counter("record_refused_total", "Calls that were refused because their decisions could not be put on record.", nil, func() float64 { return float64(s.Refused.Load()) })
}

// factTimes shows how long facts took that were not in memory. Those that were
// are in the part "facts" of decisions.
func factTimes(registry *prometheus.Registry) func(layer string, d time.Duration) {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "chartgate_facts_seconds",
		Help:    "How long the facts of decisions took that were not in memory, by where they came from, with what was tried before.",
		Buckets: []float64{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.1, 0.5, 1, 2.5},
	}, []string{"layer"})
	registry.MustRegister(seconds)
	layers := map[string]prometheus.Observer{}
	for _, layer := range []string{"redis", "postgres"} {
		layers[layer] = seconds.WithLabelValues(layer)
	}
	return func(layer string, d time.Duration) { layers[layer].Observe(d.Seconds()) }
}

// registerEngine says who decides: the compiled policy or OPA, and whether the
// two agree.
func registerEngine(registry *prometheus.Registry, engine *pdp.Engine) {
	c := engine.Counts()
	counter := func(name, help string, labels prometheus.Labels, read func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "chartgate_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(read()) }))
	}
	counter("evaluations_total", "Evaluations of the policy.", prometheus.Labels{"by": "program"}, c.Program.Load)
	counter("evaluations_total", "Evaluations of the policy.", prometheus.Labels{"by": "opa"}, c.OPA.Load)
	counter("evaluations_checked_total", "Evaluations by the program that OPA made again.", nil, c.Checked.Load)
	counter("evaluations_skipped_total", "Evaluations that were drawn for it and not made again, since too many waited.", nil, c.Skipped.Load)
	counter("evaluations_differ_total", "Of those, the ones that differ: must stay 0.", nil, c.Differs.Load)
}

// registerProgram says whether the compiled policy decides now, and how often
// facts broke what it rests on.
func registerProgram(registry *prometheus.Registry, decides *pdp.PDP) {
	gauge := func(name, help string, is func(*pdp.Engine) bool) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chartgate_" + name, Help: help}, func() float64 {
			if is(decides.Engine()) {
				return 1
			}
			return 0
		}))
	}
	gauge("program_on", "1 while the compiled policy decides and lists can be made, 0 while OPA decides everything.", (*pdp.Engine).Compiled)
	gauge("program_certified", "1 once this process has compared the compiled policy with OPA, and they agree.", (*pdp.Engine).Certified)
	for g := compile.Kept + 1; g < compile.Guarantees; g++ {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "chartgate_guarantees_broken_total",
			Help:        "Facts that broke what the compiled policy rests on, so that OPA decided: must stay 0.",
			ConstLabels: prometheus.Labels{"guarantee": g.String()}}, func() float64 {
			return float64(decides.Engine().Counts().Broken[g].Load())
		}))
	}
}

// registerReleases says which release of the policy decides, and what became of
// others.
func registerReleases(registry *prometheus.Registry, releases *pdp.Releases) {
	gauge := func(name, help string, read func() int64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "chartgate_" + name, Help: help}, func() float64 { return float64(read()) }))
	}
	counter := func(name, help string, read func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "chartgate_" + name, Help: help}, func() float64 { return float64(read()) }))
	}
	gauge("release_serial", "The activation of the policy that holds here; 0 before the first.", func() int64 { return releases.Activation().Serial })
	gauge("release_revision", "The revision of the release that decides here.", func() int64 { return releases.Activation().Active.Revision })
	c := releases.Counts()
	counter("release_swaps_total", "How often another release began to decide.", c.Swaps.Load)
	counter("release_refused_total", "Bundles that were refused.", c.Refused.Load)
	counter("release_waited_total", "Decisions that waited for a release to be loaded.", c.Waited.Load)
	counter("release_undecided_total", "Of those, the ones that were not made since it could not be loaded.", c.Unloaded.Load)
	counter("candidate_asked_total", "Live decisions that a candidate made beside the active release.", c.Asked.Load)
	counter("candidate_differs_total", "Of those, the ones with another outcome.", c.Differs.Load)
	counter("candidate_dropped_total", "Live decisions that were drawn for a candidate and not asked, since too many waited.", c.Dropped.Load)
}
