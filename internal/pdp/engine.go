package pdp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// DecisionPath is where the shipped policy, and every policy that decides on
// Chartgate's facts, puts its decision.
const DecisionPath = "data.authz.decision"

// Engine is one compiled policy. What it decides never changes; it reads no
// clock, does no I/O, and is safe for concurrent use. A certified program
// decides where there is one (see Certify), OPA's evaluator everywhere else.
type Engine struct {
	revision string
	decision string
	compiler *ast.Compiler
	store    storage.Store
	decide   rego.PreparedEvalQuery
	noBasis  authz.Decision

	program atomic.Pointer[compile.Program] // nil: OPA decides everything
	tried   atomic.Bool                     // whether it was certified, well or not
	shadow  *Shadow                         // nil: nobody looks
	counts  *Counts

	certifying chan struct{}                  // full while somebody compiles the policy
	certified  atomic.Pointer[compile.Report] // of the program, once there is one

	certifiedBefore atomic.Bool // when the product was built

	mu       sync.Mutex
	prepared map[string]rego.PreparedEvalQuery // by path; bounded by maxPrepared
	formulas map[string]*compile.Policy        // by action: see formulasFor
}

// NewEngine compiles b. With DecisionPath the policy is compiled strictly,
// against its schemas, and without any builtin that could make two evaluations
// differ; another decision path makes it a user's own policy, which gets its
// input unchanged (see PDP.DecideOwn).
func NewEngine(ctx context.Context, b *Bundle, decision string) (*Engine, error) {
	e := &Engine{revision: b.Revision, decision: decision, counts: &Counts{}, prepared: map[string]rego.PreparedEvalQuery{}, certifying: make(chan struct{}, 1)}
	ref, err := ast.ParseRef(decision)
	if err != nil || !strings.HasPrefix(decision, "data.") {
		return nil, fmt.Errorf("decision %q: want a path such as %s", decision, DecisionPath)
	}
	if e.compiler, err = compileBundle(b, e.OwnPolicy()); err != nil {
		return nil, err
	}
	if len(e.compiler.GetRules(ref)) == 0 {
		return nil, fmt.Errorf("bundle: it has no rule %s", decision)
	}
	e.store = inmem.NewFromObjectWithOpts(b.Data, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	if e.decide, err = e.prepare(ctx, decision); err != nil {
		return nil, err
	}
	if !e.OwnPolicy() {
		if e.noBasis, err = e.readNoBasis(ctx); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Revision names the policy (DESIGN 11, Chartgate-Policy-Revision).
func (e *Engine) Revision() string { return e.revision }

// Decision is the path of the decision, such as "data.authz.decision".
func (e *Engine) Decision() string { return e.decision }

// Source is the policy as OPA has it, to be compiled into formulas.
func (e *Engine) Source() compile.Source {
	return compile.Source{Compiler: e.compiler, Store: e.store}
}

// OwnPolicy reports whether this is a user's own policy, which decides on the
// request alone, as it came, and not on Chartgate's facts.
func (e *Engine) OwnPolicy() bool { return e.decision != DecisionPath }

// Evaluate decides r on f. It is pure: the same request and facts give the same
// decision, now and on replay. The decision is exact; see Shown for what may be
// answered. An error means that the policy gave no decision.
func (e *Engine) Evaluate(ctx context.Context, r authz.Request, f authz.Facts) (authz.Decision, error) {
	return e.evaluate(ctx, &r, &f, new(authz.Span))
}

// evaluate is Evaluate, and leaves of span the times at which the decision is the
// same with all else the same.
func (e *Engine) evaluate(ctx context.Context, r *authz.Request, f *authz.Facts, span *authz.Span) (authz.Decision, error) {
	if p := e.program.Load(); p != nil {
		if d, same, ok := e.byProgram(ctx, p, r, f); ok {
			span.Meet(same)
			e.decided(p, r, f, &d)
			return d, nil
		}
	}
	*span = authz.Never
	e.counts.OPA.Add(1)
	return e.byOPA(ctx, *r, *f)
}

// decided counts a decision of the program, and has some looked at.
func (e *Engine) decided(p *compile.Program, r *authz.Request, f *authz.Facts, d *authz.Decision) {
	e.counts.Program.Add(1)
	if e.shadow != nil && e.shadow.draws() {
		e.shadow.draw(e, p, *r, *f, *d)
	}
}

// byOPA is Evaluate by OPA's evaluator: the reference.
func (e *Engine) byOPA(ctx context.Context, r authz.Request, f authz.Facts) (authz.Decision, error) {
	return e.EvaluateDocument(ctx, authz.Document(r, f))
}

// EvaluateDocument is Evaluate for a facts document that is ready: of a case,
// or of the record.
func (e *Engine) EvaluateDocument(ctx context.Context, document map[string]any) (authz.Decision, error) {
	result, defined, err := e.eval(ctx, e.decide, document)
	if err != nil {
		return authz.Decision{}, err
	}
	if !defined {
		return authz.Decision{}, errors.New("the policy gave no decision")
	}
	return readDecision(result)
}

// Query evaluates any document of the policy, as OPA's data API does. The path
// is written with dots; false means that it is undefined.
func (e *Engine) Query(ctx context.Context, path string, input any) (any, bool, error) {
	q, err := e.preparedFor(ctx, path)
	if err != nil {
		return nil, false, err
	}
	return e.eval(ctx, q, input)
}

func (e *Engine) eval(ctx context.Context, q rego.PreparedEvalQuery, input any) (any, bool, error) {
	options := []rego.EvalOption{}
	if input != nil {
		value, err := ast.InterfaceToValue(input)
		if err != nil {
			return nil, false, fmt.Errorf("evaluate %s: %w", e.decision, err)
		}
		options = append(options, rego.EvalParsedInput(value))
	}
	results, err := q.Eval(ctx, options...)
	if err != nil {
		return nil, false, fmt.Errorf("evaluate: %w", err)
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return nil, false, nil
	}
	return results[0].Expressions[0].Value, true, nil
}

func (e *Engine) prepare(ctx context.Context, path string) (rego.PreparedEvalQuery, error) {
	q, err := rego.New(rego.Query(path), rego.Compiler(e.compiler), rego.Store(e.store),
		rego.StrictBuiltinErrors(false), rego.SetRegoVersion(ast.RegoV1)).PrepareForEval(ctx)
	if err != nil {
		return q, fmt.Errorf("bundle: prepare %s: %w", path, err)
	}
	return q, nil
}

// maxPrepared bounds the queries that are kept ready for OPA's data API, whose
// paths are the caller's.
const maxPrepared = 256

func (e *Engine) preparedFor(ctx context.Context, path string) (rego.PreparedEvalQuery, error) {
	e.mu.Lock()
	q, ok := e.prepared[path]
	e.mu.Unlock()
	if ok {
		return q, nil
	}
	q, err := e.prepare(ctx, path)
	if err != nil {
		return q, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.prepared) >= maxPrepared {
		clear(e.prepared)
	}
	e.prepared[path] = q
	return q, nil
}
