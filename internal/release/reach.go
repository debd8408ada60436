package release

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/compile"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"
)

// entries are the rules that somebody asks for: the decision, and whether it is
// an allowance.
func (in *inspection) entries() []*ast.Rule {
	return slices.DeleteFunc(in.compiledRules(), func(rule *ast.Rule) bool {
		name := rule.Ref().String()
		return name != "data.authz.decision" && name != "data.authz.allow"
	})
}

// reached returns the rules that some rules need, themselves included.
func (in *inspection) reached(from ...*ast.Rule) map[*ast.Rule]bool {
	graph := in.engine.Source().Compiler.Graph
	seen := map[*ast.Rule]bool{}
	for len(from) > 0 {
		rule := from[0]
		from = from[1:]
		if seen[rule] {
			continue
		}
		seen[rule] = true
		from = append(from, rulesOf(graph.Dependencies(rule))...)
	}
	return seen
}

func rulesOf(nodes map[util.T]struct{}) []*ast.Rule {
	var rules []*ast.Rule
	for n := range nodes {
		if rule, ok := n.(*ast.Rule); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

// reachable finds rules that no answer rests on.
func (in *inspection) reachable(context.Context) ([]Finding, string, error) {
	reached := in.reached(in.entries()...)
	graph := in.engine.Source().Compiler.Graph
	told := map[string]bool{}
	var all []Finding
	n := 0
	for _, rule := range in.compiledRules() {
		n++
		name := rule.Ref().GroundPrefix().String()
		if reached[rule] || told[name] {
			continue
		}
		told[name] = true
		// A helper of a rule that is not reached either is told of with that rule.
		if slices.ContainsFunc(rulesOf(graph.Dependents(rule)), func(r *ast.Rule) bool {
			return !reached[r] && r.Ref().GroundPrefix().String() != name
		}) {
			continue
		}
		hint := "take it out, or use it"
		if short, ok := strings.CutPrefix(name, "data.rules."); ok {
			topic, _, _ := strings.Cut(short, ".")
			hint = fmt.Sprintf("take it out, or name it in authz/authz.rego: `bases contains %q if rules.%s`, or `denials contains …`", topic, short)
		}
		all = append(all, in.at(rule.Location, fmt.Sprintf("no answer rests on %s", strings.TrimPrefix(name, "data.")), hint).of(rule))
	}
	return all, fmt.Sprintf("%d rules", n), nil
}

// dead finds rules that can hold for no action, whatever the facts, and codes
// that no answer can carry.
func (in *inspection) dead(ctx context.Context) ([]Finding, string, error) {
	rules := slices.DeleteFunc(in.compiledRules(), func(r *ast.Rule) bool { return r.Default })
	dead, err := in.finder.Dead(ctx, rules)
	if err != nil {
		return nil, "", err
	}
	graph := in.engine.Source().Compiler.Graph
	whole := map[string]bool{} // every rule of the name is dead
	for _, rule := range dead {
		whole[rule.Ref().String()] = true
	}
	for _, rule := range rules {
		if !slices.Contains(dead, rule) {
			delete(whole, rule.Ref().String())
		}
	}
	var all []Finding
	for _, rule := range dead {
		name := rule.Ref().String()
		if slices.ContainsFunc(rulesOf(graph.Dependencies(rule)), func(r *ast.Rule) bool {
			return whole[r.Ref().String()] && r.Ref().String() != name
		}) {
			continue // that one is the cause
		}
		all = append(all, in.at(rule.Location, fmt.Sprintf("%s can never hold, for no action and no facts", strings.TrimPrefix(rule.Ref().GroundPrefix().String(), "data.")),
			"two of its conditions exclude each other, or it asks for an action or a word that is not there").of(rule))
	}
	return all, fmt.Sprintf("%d rules", len(rules)), nil
}

// mayBeLeftOut are the facts that are the caller's to state: a request without
// them is another request, not one that less is known of (DOMAIN rule 105).
var mayBeLeftOut = []string{"resource.properties", "resource.properties.practice"}

// unknowns finds facts by which the policy refuses where it should be known
// that all is well: without the fact, or where it is an unknown word, somebody
// is let in who is refused where it is known (promise P1).
func (in *inspection) unknowns(ctx context.Context) ([]Finding, string, error) {
	words := in.wordFacts()
	found := map[string]*compile.Doubt{}
	actions := map[string]int{}
	var order []string
	for _, name := range slices.Sorted(maps.Keys(in.formulas.Actions)) {
		doubts, err := in.finder.Doubts(name, mayBeLeftOut, words)
		if err != nil {
			return []Finding{{File: ".", Text: fmt.Sprintf("%s: it cannot be told what happens where facts are missing: %v", name, err)}}, "", ctx.Err()
		}
		for _, d := range doubts {
			key := fmt.Sprint(d.Basis, d.Denial) // one part of the answer is told of once
			if found[key] == nil {
				found[key] = &d
				order = append(order, key)
			}
			actions[key]++
		}
	}
	var all []Finding
	for _, key := range order {
		all = append(all, in.doubt(found[key], actions[key]))
	}
	return all, fmt.Sprintf("%d actions, every fact that they read", len(in.formulas.Actions)), nil
}

// wordFacts lists the facts that hold one of a few words, or a list of such.
func (in *inspection) wordFacts() []string {
	var all []string
	var walk func(schema map[string]any, at string)
	walk = func(schema map[string]any, at string) {
		if len(wordsOf(schema))+len(wordsOf(asMap(schema["items"]))) > 0 {
			all = append(all, strings.TrimPrefix(at, "."))
		}
		for name, inner := range asMap(schema["properties"]) {
			walk(asMap(inner), at+"."+name)
		}
	}
	walk(asMap(in.bundle.Schemas["input"]), "")
	return all
}

func (in *inspection) doubt(d *compile.Doubt, actions int) Finding {
	fact := "input." + d.Fact
	state := "is not known"
	if d.Odd {
		state = "is a word that nobody knows"
	}
	also := ""
	if actions > 1 {
		also = fmt.Sprintf(" (and %d more)", actions-1)
	}
	part, hint := fmt.Sprintf("the denial %s does not hold then", d.Denial),
		"ask whether it is known to be right, and refuse whatever is not: `denied if not _good`, `_good if input.… == …`"
	if d.Basis != "" {
		part, hint = fmt.Sprintf("the basis %s holds then", d.Basis), "a basis must rest on what is known: ask for the good value, not for another one than the bad"
	}
	text := fmt.Sprintf("where `%s` %s, %s%s is allowed that is refused where it is: %s", fact, state, d.Action, also, part)
	loc, rule := in.reads(d)
	if rule == nil {
		return Finding{File: ".", Text: text, Hint: hint}
	}
	return in.at(loc, text, hint).of(rule)
}

// reads finds the expression by which a basis or denial reads a fact: one that
// negates, or asks for another value, before any other.
func (in *inspection) reads(d *compile.Doubt) (*ast.Location, *ast.Rule) {
	code := d.Basis + d.Denial
	var from []*ast.Rule
	for _, rule := range in.compiledRules() {
		if key := rule.Head.Key; key != nil && strings.HasPrefix(rule.Ref().String(), "data.authz.") && key.Value.Compare(ast.String(code)) == 0 {
			from = append(from, rule)
		}
	}
	reached := in.reached(from...)
	fact := ast.MustParseRef("input." + d.Fact)
	var best *ast.Expr
	var of *ast.Rule
	weight := 0
	for _, rule := range in.compiledRules() {
		if !reached[rule] {
			continue
		}
		negative := map[string]bool{} // names that stand for the fact
		ast.WalkExprs(rule.Body, func(e *ast.Expr) bool {
			here := 0
			ast.WalkRefs(e, func(ref ast.Ref) bool {
				if ref.HasPrefix(fact) {
					here = 1
				}
				return false
			})
			ast.WalkVars(e, func(v ast.Var) bool {
				if here == 1 && e.IsEquality() {
					negative[string(v)] = true
				} else if negative[string(v)] {
					here = 1
				}
				return false
			})
			if here == 1 && (e.Negated || e.IsCall() && e.Operator().String() == "neq") {
				here = 2
			}
			if here > weight {
				best, of, weight = e, rule, here
			}
			return false
		})
	}
	switch {
	case best != nil:
		return best.Location, of
	case len(from) > 0:
		return from[0].Location, from[0]
	}
	return nil, nil
}
