package release

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// questioner asks the conditions of rules one by one.
type questioner struct {
	ctx    context.Context
	bundle *pdp.Bundle
	engine *pdp.Engine
	input  ast.Value
	err    error
	depth  int
}

// heldTracer remembers the rules that held while OPA evaluated.
type heldTracer map[*ast.Rule]bool

// Enabled is part of topdown.QueryTracer.
func (heldTracer) Enabled() bool { return true }

// Config is part of topdown.QueryTracer.
func (heldTracer) Config() topdown.TraceConfig { return topdown.TraceConfig{} }

// TraceEvent is part of topdown.QueryTracer.
func (h heldTracer) TraceEvent(event topdown.Event) {
	if rule, ok := event.Node.(*ast.Rule); ok && event.Op == topdown.ExitOp {
		h[rule] = true
	}
}

func (q *questioner) held() ([]*ast.Rule, error) {
	source := q.engine.Source()
	held := heldTracer{}
	_, err := rego.New(rego.Query(pdp.DecisionPath), rego.Compiler(source.Compiler), rego.Store(source.Store), rego.ParsedInput(q.input),
		rego.QueryTracer(held), rego.SetRegoVersion(ast.RegoV1)).Eval(q.ctx)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	rules := slices.DeleteFunc(slices.Collect(maps.Keys(held)), func(r *ast.Rule) bool {
		return !strings.HasPrefix(r.Ref().String(), "data.rules.") || len(r.Head.Args) > 0
	})
	slices.SortFunc(rules, func(a, b *ast.Rule) int { return a.Location.Compare(b.Location) })
	return rules, nil
}

// settings lists those that some rule reads.
func (q *questioner) settings() map[string]bool {
	read := map[string]bool{}
	for _, module := range q.bundle.Modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if name, ok := strings.CutPrefix(ref.String(), "input.settings."); ok {
				read[name] = true
			}
			return false
		})
	}
	return read
}

// refusal finds what is nearest to an allowance: of a denial, the good case that
// it misses; else the rule of a basis that misses least.
func (q *questioner) refusal(code string) *Miss {
	var best *Miss
	for _, rule := range q.rules("data.authz.bases", "data.authz.denials") {
		key, _ := rule.Head.Key.Value.(ast.String)
		denial := strings.HasPrefix(rule.Ref().String(), "data.authz.denials")
		if denial && string(key) != code {
			continue
		}
		for _, name := range refersTo(rule) {
			for _, clause := range q.rules(name) {
				m := q.miss(clause)
				if denial {
					m.Rule = clause
					m.Fails = append(m.Fails, q.holding(clause)...)
					return m
				}
				if len(m.Fails) > 0 && (best == nil || nearer(m, best)) {
					best = m
				}
			}
		}
	}
	return best
}

// nearer reports that fewer conditions of a fail; a rule that is not about the
// action at all is far.
func nearer(a, b *Miss) bool {
	if x, y := a.aboutAction(), b.aboutAction(); x != y {
		return x
	}
	if len(a.Fails) != len(b.Fails) {
		return len(a.Fails) < len(b.Fails)
	}
	return a.Of > b.Of
}

func (m *Miss) aboutAction() bool {
	return !slices.ContainsFunc(m.Fails, func(c Condition) bool { return strings.Contains(c.Text, "input.action.name") })
}

// rules returns the rules of these names, as they are written.
func (q *questioner) rules(names ...string) []*ast.Rule {
	var all []*ast.Rule
	for _, file := range slices.Sorted(maps.Keys(q.bundle.Modules)) {
		for _, rule := range q.bundle.Modules[file].Rules {
			if slices.Contains(names, rule.Ref().GroundPrefix().String()) ||
				rule.Head.RuleKind() == ast.MultiValue && slices.Contains(names, rule.Module.Package.Path.String()+"."+rule.Head.Name.String()) {
				all = append(all, rule)
			}
		}
	}
	return all
}

// refersTo lists the rules that a rule refers to.
func refersTo(rule *ast.Rule) []string {
	var names []string
	imported := importsOf(rule.Module)
	ast.WalkRefs(rule.Body, func(ref ast.Ref) bool {
		if full := imported.expand(ref); full.HasPrefix(ast.DefaultRootRef) {
			names = append(names, full.String())
		}
		return false
	})
	return names
}

// maxDepth bounds how far a condition is followed into the rules that it asks
// for.
const maxDepth = 6

// miss asks each condition of a rule.
func (q *questioner) miss(rule *ast.Rule) *Miss {
	m := &Miss{Rule: rule, Of: len(rule.Body)}
	if len(rule.Head.Args) > 0 {
		return m
	}
	var before ast.Body // what held: it gives names their values
	for _, e := range rule.Body {
		with := append(slices.Clone(before), e)
		if q.holds(rule.Module, with) {
			before = with
			continue
		}
		m.Fails = append(m.Fails, q.condition(rule, e))
	}
	return m
}

// holding is the conditions of a denial that make it hold, each that negates
// with what the good case misses.
func (q *questioner) holding(rule *ast.Rule) []Condition {
	var out []Condition
	for _, e := range rule.Body {
		if e.Negated && q.holds(rule.Module, ast.NewBody(e)) {
			c := Condition{At: e.Location, Text: string(e.Location.Text), Holds: true, Facts: q.facts(e)}
			positive := e.Copy()
			positive.Negated = false
			c.Miss = q.asked(rule, positive)
			out = append(out, c)
		}
	}
	return out
}

func (q *questioner) condition(rule *ast.Rule, e *ast.Expr) Condition {
	c := Condition{At: e.Location, Text: string(e.Location.Text), Facts: q.facts(e)}
	if e.Negated {
		positive := e.Copy()
		positive.Negated = false
		for _, r := range q.ruleAsked(rule, positive) {
			if len(q.miss(r).Fails) == 0 {
				c.By = r
			}
		}
		return c
	}
	c.Miss = q.asked(rule, e)
	return c
}

// ruleAsked is the rules that a condition asks for, where it is no more than
// that.
func (q *questioner) ruleAsked(rule *ast.Rule, e *ast.Expr) []*ast.Rule {
	term, ok := e.Terms.(*ast.Term)
	if !ok {
		return nil
	}
	switch v := term.Value.(type) {
	case ast.Var:
		return q.rules(rule.Module.Package.Path.String() + "." + string(v))
	case ast.Ref:
		return q.rules(importsOf(rule.Module).expand(v).String())
	}
	return nil
}

// asked is what the nearest of the rules misses that a condition asks for.
func (q *questioner) asked(rule *ast.Rule, e *ast.Expr) *Miss {
	if q.depth >= maxDepth {
		return nil
	}
	q.depth++
	defer func() { q.depth-- }()
	var best *Miss
	for _, r := range q.ruleAsked(rule, e) {
		if m := q.miss(r); len(m.Fails) > 0 && (best == nil || nearer(m, best)) {
			best = m
		}
	}
	return best
}

// holds asks whether conditions hold together, as they stand in a module.
func (q *questioner) holds(module *ast.Module, body ast.Body) bool {
	source := q.engine.Source()
	var imports []*ast.Import
	for _, i := range module.Imports { // an import that the conditions do not use would be refused
		used := false
		ast.WalkVars(body, func(v ast.Var) bool { used = used || v == i.Name(); return false })
		if used {
			imports = append(imports, i)
		}
	}
	results, err := rego.New(rego.ParsedQuery(body.Copy()), rego.ParsedPackage(module.Package), rego.ParsedImports(imports),
		rego.Compiler(source.Compiler), rego.Store(source.Store), rego.ParsedInput(q.input), rego.SetRegoVersion(ast.RegoV1)).Eval(q.ctx)
	if err != nil {
		q.err = fmt.Errorf("explain: %s: %w", body, err)
		return false
	}
	return slices.ContainsFunc(results, func(r rego.Result) bool { // a query gives what its conditions are, also false
		return !slices.ContainsFunc(r.Expressions, func(e *rego.ExpressionValue) bool { return e.Value == false })
	})
}

// facts lists the facts that an expression reads, with their values.
func (q *questioner) facts(e *ast.Expr) []string {
	var out []string
	ast.WalkRefs(e, func(ref ast.Ref) bool {
		if !ref[0].Equal(ast.InputRootDocument) {
			return false
		}
		ground := ref.GroundPrefix()
		text := fmt.Sprintf("%s is not known", ground)
		if v, err := q.input.Find(ground[1:]); err == nil {
			text = fmt.Sprintf("%s is %s", ground, v)
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
		return false
	})
	return out
}
