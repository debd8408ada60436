package pdp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Explanation says why a request is decided as it is, and, of a refusal, what
// would allow it. It is for people who may know all of it: what others may be
// told is decided by who asks the engine.
type Explanation struct {
	Decision authz.Decision // exact
	Ways     []Way          // of a refusal: the nearest ways to allow it, cheapest first

	because  []string // texts of the rules that held, their placeholders not yet filled
	document map[string]any
}

// maxWays is how many ways are offered.
const maxWays = 5

// Explain decides r on f, by OPA's evaluator, and says why: in the words of the
// rules that held (METADATA custom.because), and by changes of facts each of
// which was evaluated, and allows, before it is offered. It is pure, and far
// slower than Evaluate.
func (e *Engine) Explain(ctx context.Context, r authz.Request, f authz.Facts) (Explanation, error) {
	x, err := e.ExplainDocument(ctx, authz.Document(r, f))
	if err != nil || x.Decision.Allow {
		return x, err
	}
	x.Ways, err = e.ways(ctx, r, f)
	return x, err
}

// ExplainDocument is Explain for a facts document that is ready, of a case or
// of the record. It offers no ways.
func (e *Engine) ExplainDocument(ctx context.Context, document map[string]any) (Explanation, error) {
	x := Explanation{document: document}
	if e.OwnPolicy() {
		return x, fmt.Errorf("%w: a policy of one's own explains itself", authz.ErrUnavailable)
	}
	input, err := ast.InterfaceToValue(document)
	if err != nil {
		return x, fmt.Errorf("explain: %w", err)
	}
	held := &heldRules{rules: map[*ast.Rule]bool{}}
	results, err := e.decide.Eval(ctx, rego.EvalParsedInput(input), rego.EvalQueryTracer(held), rego.EvalEarlyExit(false))
	if err != nil {
		return x, fmt.Errorf("explain: %w", err)
	}
	if len(results) != 1 || len(results[0].Expressions) != 1 {
		return x, errors.New("explain: the policy gave no decision")
	}
	if x.Decision, err = readDecision(results[0].Expressions[0].Value); err != nil {
		return x, fmt.Errorf("explain: %w", err)
	}
	x.because, err = e.because(ctx, x.Decision, held)
	return x, err
}

// Refusal is what may be told of a refusal to whoever may not know more: that
// nothing allows it (promise P8).
func (e *Engine) Refusal() authz.Decision { return e.noBasis }

// heldRules remembers the rules that held while OPA evaluated.
type heldRules struct{ rules map[*ast.Rule]bool }

// Enabled is part of topdown.QueryTracer.
func (*heldRules) Enabled() bool { return true }

// Config is part of topdown.QueryTracer.
func (*heldRules) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is part of topdown.QueryTracer.
func (h *heldRules) TraceEvent(event topdown.Event) {
	if rule, ok := event.Node.(*ast.Rule); ok && event.Op == topdown.ExitOp {
		h.rules[rule] = true
	}
}

// Where the entry point says which rule each basis and each denial rests on.
var reasonRules = []string{"data.authz.bases", "data.authz.denials", "data.authz._refusals"}

// because gathers the texts of the rules that held for the codes of d: of an
// allowance for each basis in turn, of a refusal for its code and for whatever
// else stands in the way.
func (e *Engine) because(ctx context.Context, d authz.Decision, held *heldRules) ([]string, error) {
	codes := d.Bases
	if !d.Allow {
		codes = []string{d.Code}
		if !slices.Contains(blunt, d.Code) {
			all, err := e.denials(ctx)
			if err != nil {
				return nil, err
			}
			if i := slices.Index(all, d.Code); i >= 0 {
				codes = all[i:]
			}
		}
	}
	var texts []string
	for _, code := range codes {
		for _, rule := range e.rulesOf(code) {
			text := BecauseOf(rule)
			if text != "" && held.rules[rule] && !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
	}
	return texts, nil
}

// blunt codes leave nothing else to be said: the question itself is at fault,
// or is about nothing that is there.
var blunt = []string{authz.CodeUnknownAction, authz.CodeBadInput, authz.CodeOtherPractice}

// denials lists the codes of denials in the order in which they are looked at.
func (e *Engine) denials(ctx context.Context) ([]string, error) {
	v, err := storage.ReadOne(ctx, e.store, storage.Path{"tables", "order", "denials"})
	if storage.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("explain: data.tables.order.denials: %w", err)
	}
	var out []string
	value, err := ast.InterfaceToValue(v)
	if err == nil {
		err = ast.As(value, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("explain: data.tables.order.denials: %w", err)
	}
	return out, nil
}

// rulesOf returns the rules that a basis or a denial rests on: those of the
// entry point that add its code, and those that they refer to.
func (e *Engine) rulesOf(code string) []*ast.Rule {
	var out []*ast.Rule
	for _, name := range reasonRules {
		for _, rule := range e.compiler.GetRulesExact(ast.MustParseRef(name)) {
			if rule.Head.Key == nil || rule.Head.Key.Value.Compare(ast.String(code)) != 0 {
				continue
			}
			out = append(out, rule)
			ast.WalkRefs(rule.Body, func(ref ast.Ref) bool {
				out = append(out, e.compiler.GetRulesExact(ref.GroundPrefix())...)
				return false
			})
		}
	}
	return out
}

// BecauseOf is why a rule holds, in the words of its METADATA (custom.because);
// "" where it has none.
func BecauseOf(rule *ast.Rule) string {
	text := ""
	for _, a := range rule.Annotations {
		if s, ok := a.Custom["because"].(string); ok {
			text = s
		}
	}
	return text
}

// ways finds the nearest ways to allow a refused request. Each was evaluated by
// OPA: no way is offered that does not allow.
func (e *Engine) ways(ctx context.Context, r authz.Request, f authz.Facts) ([]Way, error) {
	var found []compile.Way
	policy, err := e.formulasFor(ctx, r.Action)
	if err == nil {
		found, err = policy.Nearest(r, f, 2*maxWays)
	}
	if u := (*compile.Untranslatable)(nil); errors.As(err, &u) {
		found = compile.Search(r, f, maxWays, func(r authz.Request, f authz.Facts) bool {
			d, err := e.byOPA(ctx, r, f)
			return err == nil && d.Allow
		})
	} else if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	var out []Way
	for _, w := range found {
		if len(out) == maxWays {
			break
		}
		after, facts := w.Apply(r, f)
		d, err := e.byOPA(ctx, after, facts)
		switch {
		case err != nil:
			return nil, fmt.Errorf("explain: %w", err)
		case d.Allow:
			out = append(out, wayOf(w, d.Code, r, f))
		default:
			slog.ErrorContext(ctx, "a formula and OPA differ about a change of facts", "revision", e.revision, "action", r.Action)
		}
	}
	return out, ctx.Err()
}

// formulasFor returns formulas of an action: the program's, else ones that are
// made for it and kept. They need no certificate here, see ways.
func (e *Engine) formulasFor(ctx context.Context, action string) (*compile.Policy, error) {
	if p := e.program.Load(); p != nil {
		return p.Policy, nil
	}
	e.mu.Lock()
	kept := e.formulas[action]
	e.mu.Unlock()
	if kept != nil {
		return kept, nil
	}
	made, err := compile.Only(ctx, e.Source(), action)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if made.Actions[action] == nil {
		return made, nil // its name is the caller's: it is not kept
	}
	if e.formulas == nil {
		e.formulas = map[string]*compile.Policy{}
	}
	e.formulas[action] = made
	return made, nil
}
