package pdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// Certify compiles the policy, compares the program with OPA on the whole
// abstract fact space, and, if they agree, lets the program decide from then
// on. It takes seconds; until it is done, and for every action that cannot be
// compiled, OPA decides. The report is the evidence; the error says that there
// is no program at all. Whoever calls it while another does waits for that one's
// report.
func (e *Engine) Certify(ctx context.Context) (*compile.Report, error) {
	if e.OwnPolicy() {
		return nil, errors.New("certify: a policy of one's own is not compiled")
	}
	select {
	case e.certifying <- struct{}{}:
		defer func() { <-e.certifying }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if report := e.certified.Load(); report != nil {
		return report, nil
	}
	policy, err := compile.Compile(ctx, e.Source())
	if err != nil {
		return nil, err
	}
	program := compile.Assemble(policy)
	if e.certifiedBefore.Load() {
		e.Attach(program)
	}
	report, err := compile.Certify(ctx, e.Source(), program, e.decision, e.byOPA)
	if err != nil {
		e.program.CompareAndSwap(program, nil)
		return nil, err
	}
	if !report.Certified() {
		e.program.CompareAndSwap(program, nil)
		return report, fmt.Errorf("certify: the program and OPA differ: %s", report)
	}
	e.Attach(program)
	e.certified.Store(report)
	return report, nil
}

// CertifiedBefore says that this very policy was certified with this very code
// when the product was built: its program decides as soon as it is compiled,
// and is certified again while it does.
func (e *Engine) CertifiedBefore() { e.certifiedBefore.Store(true) }

// Certified reports whether the program was compared with OPA in this process,
// and the two agreed.
func (e *Engine) Certified() bool { return e.certified.Load() != nil }

// Attach lets program decide. It must be this policy's, and certified; Certify
// is the usual way.
func (e *Engine) Attach(program *compile.Program) { e.program.Store(program) }

// listsWait is how long a list waits for a policy that is being compiled.
const listsWait = 4 * time.Second

// Lists returns the policy's formulas, of which lists are made; an error where
// there is no certified program. While the policy is being compiled it waits a
// little.
func (e *Engine) Lists() (*compile.Policy, error) {
	for deadline := time.Now().Add(listsWait); ; time.Sleep(20 * time.Millisecond) {
		if p := e.program.Load(); p != nil {
			return p.Policy, nil
		}
		if len(e.certifying) == 0 || time.Now().After(deadline) {
			break
		}
	}
	return nil, fmt.Errorf("%w: the policy is not compiled, or its program was switched off", authz.ErrUnavailable)
}

// Counts says who decided, since the engine was made.
type Counts struct {
	Program atomic.Uint64 // decisions by the program
	OPA     atomic.Uint64 // decisions by OPA's evaluator
	Checked atomic.Uint64 // of the program's: evaluated again by OPA
	Skipped atomic.Uint64 // of those drawn for it: not evaluated, since too many waited
	Differs atomic.Uint64 // of those evaluated: another decision. Any is an alarm
	// Broken counts facts that broke a guarantee of the loaders, so that OPA
	// decided. Any is an alarm.
	Broken [compile.Guarantees]atomic.Uint64
}

// Counts returns the live counters.
func (e *Engine) Counts() *Counts { return e.counts }

// Shadow evaluates a share of the program's decisions again with OPA. It must
// run while engines use it.
type Shadow struct {
	every uint64
	apart time.Duration
	began time.Time
	drawn atomic.Uint64
	next  atomic.Int64 // when the next may be drawn, after began
	queue chan doubt
}

// doubt is a decision to be evaluated again.
type doubt struct {
	engine   *Engine
	program  *compile.Program
	request  authz.Request
	facts    authz.Facts
	decision authz.Decision
}

// maxDoubts bounds the decisions that wait; more are skipped, never waited for.
const maxDoubts = 64

// NewShadow returns a Shadow that evaluates one decision in every again, and
// none sooner than apart after the one before: OPA takes some hundred times as
// long as the program, and a busy sidecar must not pay for that.
func NewShadow(every int, apart time.Duration) *Shadow {
	return &Shadow{every: uint64(max(1, every)), apart: apart, began: time.Now(), queue: make(chan doubt, maxDoubts)}
}

// Watch makes s look at the engine's decisions. It is to be called before the
// engine decides.
func (e *Engine) Watch(s *Shadow) { e.shadow = s }

// draws reports whether the sample takes the decision at hand.
func (s *Shadow) draws() bool {
	if s.drawn.Add(1)%s.every != 0 {
		return false
	}
	now, next := int64(time.Since(s.began)), s.next.Load()
	return now >= next && s.next.CompareAndSwap(next, now+int64(s.apart))
}

// draw takes a decision into the sample.
func (s *Shadow) draw(e *Engine, p *compile.Program, r authz.Request, f authz.Facts, d authz.Decision) {
	r.Resource.Properties = maps.Clone(r.Resource.Properties)
	select {
	case s.queue <- doubt{e, p, r, f, d}:
	default:
		e.counts.Skipped.Add(1)
	}
}

// Run evaluates what was drawn until ctx ends. A difference is an alarm, and
// switches the program off: OPA decides, and lists refuse.
func (s *Shadow) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-s.queue:
			d.check(ctx)
		}
	}
}

func (d doubt) check(ctx context.Context) {
	e := d.engine
	want, err := e.byOPA(ctx, d.request, d.facts)
	if ctx.Err() != nil {
		return
	}
	e.counts.Checked.Add(1)
	if err == nil && compile.Same(d.decision, want) {
		return
	}
	e.counts.Differs.Add(1)
	e.program.CompareAndSwap(d.program, nil)
	slog.ErrorContext(ctx, "the compiled policy and OPA differ; the program is switched off", "revision", e.revision,
		"action", d.request.Action, "program", d.decision.Code, "opa", want.Code, "error", err)
}
