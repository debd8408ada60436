package compile

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

const elseHint = "write the alternatives as rules of their own that exclude each other"

// rule leads on with the value of a rule, or the elements of a set of rules.
func (c *converter) rule(name string, rules []*ast.Rule, parts []*ast.Term, e env, k next) *Formula {
	for _, r := range rules {
		at := env{rule: name, loc: r.Location}
		switch {
		case r.Else != nil:
			c.fail(at, "`else` is used", elseHint)
		case r.Head.HasDynamicRef():
			c.fail(at, "its name depends on a value", "use `contains` with constant keys")
		}
	}
	outcomes, constant := c.constants(name, rules)
	if rules[0].Head.RuleKind() == ast.MultiValue {
		if !constant {
			outcomes = nil
			for _, r := range rules {
				outcomes = append(outcomes, c.values(r.Body, r.Head.Key, env{depth: e.depth, rule: name})...)
			}
		}
		return c.apply(symbol{set: merge(outcomes)}, parts, e, k)
	}
	if constant {
		var alternatives []*Formula
		for _, o := range outcomes {
			alternatives = append(alternatives, and(o.cond, c.apply(o.key, parts, e, k)))
		}
		return or(alternatives...)
	}
	return c.variable(name, rules, parts, e, k)
}

// variable leads on with the values of rules that are not all constants.
func (c *converter) variable(name string, rules []*ast.Rule, parts []*ast.Term, e env, k next) *Formula {
	inside := env{depth: e.depth, rule: name}
	var alternatives, held []*Formula
	for _, r := range rules {
		if r.Default {
			continue
		}
		held = append(held, c.body(r.Body, inside, leadsOn))
		alternatives = append(alternatives, c.body(r.Body, inside, func(in env) *Formula {
			return c.term(r.Head.Value, in, func(s symbol, in env) *Formula {
				return c.apply(s, parts, e.within(in), k)
			})
		}))
	}
	for _, r := range rules {
		if r.Default {
			value := symbol{value: r.Head.Value.Value}
			alternatives = append(alternatives, and(not(or(held...)), c.apply(value, parts, e, k)))
		}
	}
	return or(alternatives...)
}

// within is e inside the loops of another place.
func (e env) within(in env) env {
	e.depth = max(e.depth, in.depth)
	return e
}

// constants returns the values or elements of rules that are all constants,
// each with its condition; false where one is not. Rules with one value are one
// formula this way, however often they are asked for.
func (c *converter) constants(name string, rules []*ast.Rule) ([]element, bool) {
	if known, ok := c.memo[name]; ok {
		return known, true
	}
	for _, r := range rules {
		if t := valueOf(r); t == nil || !isPlain(t) {
			return nil, false
		}
	}
	var out []element
	var held []*Formula
	for _, r := range rules {
		if !r.Default {
			cond := c.body(r.Body, env{rule: name}, leadsOn)
			held = append(held, cond)
			out = append(out, element{cond, symbol{value: valueOf(r).Value}})
		}
	}
	for _, r := range rules {
		if r.Default {
			out = append(out, element{not(or(held...)), symbol{value: r.Head.Value.Value}})
		}
	}
	out = merge(out)
	c.memo[name] = out
	return out, true
}

// merge makes one of the elements with the same key, and drops those that can
// never be.
func merge(all []element) []element {
	out := []element{}
	for _, one := range all {
		i := slices.IndexFunc(out, func(o element) bool { return o.key.String() == one.key.String() })
		switch {
		case one.cond == no:
		case i < 0:
			out = append(out, one)
		default:
			out[i].cond = or(out[i].cond, one.cond)
		}
	}
	return out
}

// valueOf is the value of a rule, or the element that it adds to its set.
func valueOf(r *ast.Rule) *ast.Term {
	if r.Head.RuleKind() == ast.MultiValue {
		return r.Head.Key
	}
	return r.Head.Value
}

// comparisons are the builtins of two operands that become one atom.
var comparisons = map[string]func(a, b Operand) *Formula{
	"eq":                func(a, b Operand) *Formula { return atom(OpEqual, a, b) },
	"equal":             func(a, b Operand) *Formula { return atom(OpEqual, a, b) },
	"neq":               func(a, b Operand) *Formula { return not(atom(OpEqual, a, b)) },
	"lt":                func(a, b Operand) *Formula { return atom(OpLess, a, b) },
	"lte":               func(a, b Operand) *Formula { return atom(OpLessEqual, a, b) },
	"gt":                func(a, b Operand) *Formula { return atom(OpLess, b, a) },
	"gte":               func(a, b Operand) *Formula { return atom(OpLessEqual, b, a) },
	"internal.member_2": func(a, b Operand) *Formula { return atom(OpIn, a, b) },
}

var typeTests = map[string]Op{"is_string": OpIsText, "is_boolean": OpIsBool, "is_number": OpIsNumber,
	"is_null": OpIsNull, "is_array": OpIsArray, "is_object": OpIsObject}

var textTests = map[string]Op{"startswith": OpStartsWith, "endswith": OpEndsWith, "contains": OpContains}

// call runs a builtin or a function of the policy. Its arguments are looked up
// before a `not`: what is undefined fails either way, as in Rego.
func (c *converter) call(negated bool, t []*ast.Term, e env, k func(env) *Formula) *Formula {
	arity, ok := c.arity(t[0])
	if !ok {
		c.fail(e, fmt.Sprintf("the function %s is used on what is not known", t[0]),
			"compare with ==, !=, <, <=, >, >=, in, startswith, endswith, contains or is_…")
	}
	operator := t[0].Value.(ast.Ref)
	return c.terms(t[1:1+arity], nil, e, func(args []symbol, e env) *Formula {
		if len(t)-1 == arity {
			if negated {
				return and(not(c.invoke(operator, args, e, c.truthy)), k(e))
			}
			return c.invoke(operator, args, e, func(s symbol, e env) *Formula { return and(c.truthy(s, e), k(e)) })
		}
		out := t[len(t)-1]
		same := func(s symbol, e env) *Formula {
			return c.term(out, e, func(want symbol, e env) *Formula { return c.equal(s, want, e) })
		}
		switch {
		case negated:
			return and(not(c.invoke(operator, args, e, same)), k(e))
		case isUnbound(out, e):
			return c.invoke(operator, args, e, func(s symbol, e env) *Formula { return k(e.bind(out.Value.(ast.Var), s)) })
		}
		return c.invoke(operator, args, e, func(s symbol, e env) *Formula { return and(same(s, e), k(e)) })
	})
}

// terms finds what several terms stand for, one after another.
func (c *converter) terms(t []*ast.Term, done []symbol, e env, k func([]symbol, env) *Formula) *Formula {
	if len(t) == 0 {
		return k(done, e)
	}
	return c.term(t[0], e, func(s symbol, e env) *Formula {
		return c.terms(t[1:], append(done[:len(done):len(done)], s), e, k)
	})
}

// arity is the number of arguments of a builtin or function; false where it is
// not translated.
func (c *converter) arity(operator *ast.Term) (int, bool) {
	ref, ok := operator.Value.(ast.Ref)
	if !ok {
		return 0, false
	}
	name := ref.String()
	_, compares := comparisons[name]
	_, asksTexts := textTests[name]
	_, asksType := typeTests[name]
	switch {
	case compares, asksTexts:
		return 2, true
	case asksType:
		return 1, true
	case ref.HasPrefix(ast.DefaultRootRef):
		if _, rules, n := c.from.find(ref); n == len(ref) {
			return len(rules[0].Head.Args), true
		}
	}
	return 0, false
}

// invoke leads on with the value of one call.
func (c *converter) invoke(operator ast.Ref, args []symbol, e env, k next) *Formula {
	name := operator.String()
	if makes, ok := comparisons[name]; ok {
		switch {
		case name == "internal.member_2" && args[1].set != nil:
			var kids []*Formula
			for _, m := range args[1].set {
				kids = append(kids, and(m.cond, c.equal(args[0], m.key, e)))
			}
			return k(symbol{test: or(kids...), defined: yes}, e)
		case args[0].test != nil || args[1].test != nil:
			return k(c.onTests(name, args, e), e)
		}
		return k(symbol{test: makes(c.compared(args[0], e), c.compared(args[1], e)), defined: yes}, e)
	}
	if op, ok := textTests[name]; ok {
		a, b := c.compared(args[0], e), c.compared(args[1], e)
		texts := and(atom(OpIsText, a, Operand{}), atom(OpIsText, b, Operand{}))
		return k(symbol{test: atom(op, a, b), defined: texts}, e)
	}
	if op, ok := typeTests[name]; ok {
		return k(symbol{test: atom(op, c.operand(args[0], e), Operand{}), defined: yes}, e)
	}
	return c.function(operator, args, e, k)
}

// onTests compares the outcome of a test with true or false.
func (c *converter) onTests(name string, args []symbol, e env) symbol {
	same, defined := c.equal(args[0], args[1], e), yes
	for _, a := range args {
		if a.test != nil {
			defined = and(defined, a.defined)
		}
	}
	switch name {
	case "eq", "equal":
		return symbol{test: same, defined: defined}
	case "neq":
		return symbol{test: and(defined, not(same)), defined: defined}
	}
	c.fail(e, "the outcome of a test is compared", "use ==")
	return symbol{}
}

// function leads on with the values of a function of the policy.
func (c *converter) function(operator ast.Ref, args []symbol, e env, k next) *Formula {
	name, rules, _ := c.from.find(operator)
	var alternatives []*Formula
	var values []element
	for _, r := range rules {
		at := env{rule: name, loc: r.Location, depth: e.depth}
		if r.Else != nil || r.Default {
			c.fail(at, "`else` or `default` is used", elseHint)
		}
		inside, fits := c.bindArguments(r, args, at)
		if isPlain(r.Head.Value) {
			cond := and(fits, c.body(r.Body, inside, leadsOn))
			values = append(values, element{cond, symbol{value: r.Head.Value.Value}})
			continue
		}
		alternatives = append(alternatives, and(fits, c.body(r.Body, inside, func(in env) *Formula {
			return c.term(r.Head.Value, in, func(s symbol, in env) *Formula { return k(s, e.within(in)) })
		})))
	}
	for _, o := range merge(values) { // those of one value are one alternative
		alternatives = append(alternatives, and(o.cond, k(o.key, e)))
	}
	return or(alternatives...)
}

// bindArguments gives the parameters of a function their values, and says when
// the arguments fit them.
func (c *converter) bindArguments(r *ast.Rule, args []symbol, e env) (env, *Formula) {
	fits := yes
	for i, parameter := range r.Head.Args {
		v, ok := parameter.Value.(ast.Var)
		switch bound, again := e.find(v); {
		case ok && again:
			fits = and(fits, c.equal(bound, args[i], e))
		case ok:
			e = e.bind(v, args[i])
		case isPlain(parameter):
			fits = and(fits, c.equal(args[i], symbol{value: parameter.Value}, e))
		default:
			c.fail(e, "a parameter is a pattern", "use plain names")
		}
	}
	return e, fits
}
