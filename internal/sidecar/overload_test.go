package sidecar

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"pgregory.net/rapid"
)

// stalled is a fact source that waits until it is let go, as one does whose
// database has stopped answering.
type stalled struct {
	pdp.FactSource
	gate chan struct{}
}

func (s stalled) Facts(ctx context.Context, r authz.Request) (authz.Facts, error) {
	select {
	case <-s.gate:
		return s.FactSource.Facts(ctx, r)
	case <-ctx.Done():
		return authz.Facts{}, authz.ErrUnavailable
	}
}

// With facts that do not come, what is too much is refused at once: lists
// before batches, batches before single decisions. When facts come again
// everything that was taken is answered, and everything is taken.
func TestOverloadIsRefusedListsFirst(t *testing.T) {
	kept := &store{}
	gate := make(chan struct{})
	b := benchWith(t, shippedEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true}, stalled{kept, gate}, kept)
	b.work.Limits = Limits{Checks: 8, Bulk: 300}
	const (
		single = "/access/v1/evaluation"
		batch  = "/access/v1/evaluations"
		opa    = "/v1/data/authz/allow"
		filter = "/v1/compile/authz/allow"
	)
	one := questionText("practitioner-1", "chart.open", "client-1")
	bodies := map[string]string{single: one, batch: `{"evaluations":[` + one + `,` + one + `]}`, opa: `{"input":` + one + `}`,
		filter: `{"input":` + one + `}`}
	var waiting sync.WaitGroup
	took := func(path string, checks, bulk int64) {
		t.Helper()
		waiting.Go(func() {
			if r := b.do(t, "POST", path, bodies[path]); r.status != 200 {
				t.Errorf("%s: it was taken, and answered %d %s", path, r.status, r.body)
			}
		})
		for deadline := time.Now().Add(20 * time.Second); b.work.checks.Load() != checks || b.work.bulk.Load() != bulk; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s was not taken: %d and %d under way, want %d and %d", path, b.work.checks.Load(), b.work.bulk.Load(), checks, bulk)
			}
		}
	}
	refused := func(path string) {
		t.Helper()
		r := b.do(t, "POST", path, bodies[path])
		if r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Fatalf("%s: %d %v %s", path, r.status, r.header, r.body)
		}
		if isOPA(path) {
			if m := r.object(t); m["code"] != "internal_error" || !strings.Contains(m["message"].(string), "try again") {
				t.Errorf("%s: %s", path, r.body)
			}
		} else if !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") || !strings.Contains(r.body, "try again") {
			t.Errorf("%s: %v %s", path, r.header, r.body)
		}
	}
	took(single, 1, 0)
	took(opa, 2, 0)
	took(single, 3, 0) // beyond a quarter: no lists
	refused(filter)
	took(batch, 3, 2)
	took(single, 4, 2)
	took(single, 5, 2) // beyond a half: no batches
	refused(batch)
	took(opa, 6, 2)
	took(single, 7, 2)
	took(single, 8, 2) // all
	refused(single)
	refused(opa)
	if n := b.metricsText(t); !strings.Contains(n, `chartgate_refused_busy_total{class="check"} 2`) ||
		!strings.Contains(n, `chartgate_refused_busy_total{class="batch"} 1`) || !strings.Contains(n, `chartgate_refused_busy_total{class="list"} 1`) ||
		!strings.Contains(n, `chartgate_decisions_under_way{kind="check"} 8`) {
		t.Errorf("the numbers do not say it:\n%s", n)
	}
	if strings.Contains(b.log.String(), "request failed") {
		t.Errorf("each refusal is logged: %s", b.log)
	}
	close(gate)
	waiting.Wait()
	for _, path := range []string{single, opa, batch} {
		if r := b.do(t, "POST", path, bodies[path]); r.status != 200 {
			t.Errorf("afterwards %s: %d %s", path, r.status, r.body)
		}
	}
	if b.work.checks.Load() != 0 || b.work.bulk.Load() != 0 {
		t.Errorf("%d and %d are said to be under way", b.work.checks.Load(), b.work.bulk.Load())
	}
}

func (b bench) metricsText(t *testing.T) string {
	t.Helper()
	r := b.do(t, http.MethodGet, "/metrics", "")
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	return r.body
}

// Whatever comes and goes, no more is under way than the limits say, one call
// that is alone is taken, and what goes leaves nothing behind.
func TestNoMoreIsUnderWayThanTheLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &work{Limits: Limits{Checks: rapid.IntRange(1, 10).Draw(t, "checks"), Bulk: rapid.IntRange(1, 50).Draw(t, "bulk")}}
		type call struct {
			class class
			n     int
		}
		var under []call
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(under) > 0 && rapid.Bool().Draw(t, "one goes") {
				w.end(under[0].class, under[0].n)
				under = under[1:]
				continue
			}
			c := call{class(rapid.IntRange(0, int(classes)-1).Draw(t, "class")), rapid.IntRange(1, 60).Draw(t, "n")}
			if c.class == check {
				c.n = 1
			}
			err := w.begin(c.class, c.n)
			if err == nil {
				under = append(under, c)
			} else if len(under) == 0 {
				t.Fatalf("%+v alone is refused", c)
			}
			checks, bulk, calls := 0, 0, 0
			for _, u := range under {
				if u.class == check {
					checks++
				} else {
					bulk, calls = bulk+u.n, calls+1
				}
			}
			if checks > w.Checks || bulk > w.Bulk && calls > 1 || int64(checks) != w.checks.Load() || int64(bulk) != w.bulk.Load() {
				t.Fatalf("under way: %d of %d and %d of %d; counted %d and %d", checks, w.Checks, bulk, w.Bulk, w.checks.Load(), w.bulk.Load())
			}
		}
	})
}

// Every part of a decision shows in the numbers.
func TestPartsOfDecisionsAreTimed(t *testing.T) {
	b := benchOf(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true})
	parts := []string{"parse", "facts", "evaluate", "record", "answer"}
	for range 100_000 {
		b.together(t, questionText("practitioner-1", "chart.open", "client-1"))
		text := b.metricsText(t)
		seen := 0
		for _, part := range parts {
			if !strings.Contains(text, `chartgate_decision_part_seconds_count{part="`+part+`"} 0`) {
				seen++
			}
		}
		if seen == len(parts) {
			return
		}
	}
	t.Error("a part is never timed")
}
