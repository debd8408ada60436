package compile

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// symbol is what a term stands for: one of its members is set, or none, where a
// variable has no value yet.
type symbol struct {
	value  ast.Value         // a constant
	at     *Operand          // a place of the facts document
	fields map[string]symbol // an object whose values are not all known
	set    []element         // a set that rules fill
	index  bool              // where an element stands in its list: of no further use
	test   *Formula          // true or false, as the formula says, where defined holds
	// defined is where test has a value at all.
	defined *Formula
}

// element is an element of a set, or a value, under the condition that it is.
type element struct {
	cond *Formula
	key  symbol
}

func (s symbol) empty() bool {
	return s.value == nil && s.at == nil && s.fields == nil && s.set == nil && !s.index && s.test == nil
}

// String names the symbol so that equal ones have equal names.
func (s symbol) String() string {
	switch {
	case s.value != nil:
		return s.value.String()
	case s.at != nil:
		return "@" + s.at.String()
	case s.test != nil:
		return "?" + s.test.key
	}
	return fmt.Sprint(s.fields)
}

// env is what is known at one place of a rule. It is never changed.
type env struct {
	vars  *binding
	depth int    // loops around this place
	rule  string // the rule it stands in, for messages
	loc   *ast.Location
}

type binding struct {
	name ast.Var
	sym  symbol
	next *binding
}

func (e env) bind(name ast.Var, s symbol) env {
	e.vars = &binding{name, s, e.vars}
	return e
}

func (e env) find(name ast.Var) (symbol, bool) {
	for b := e.vars; b != nil; b = b.next {
		if b.name == name {
			return b.sym, true
		}
	}
	return symbol{}, false
}

// converter turns a residue into formulas: it runs the rules on symbols. Every
// step gets what follows as a function, since a step can have several outcomes
// (the rules of a set, the elements of a list), of which one must lead on.
type converter struct {
	ctx   context.Context
	from  *residue
	forms func(path string) (form, bool) // what stands at a place; false: never anything
	memo  map[string][]element           // of rules whose values are constants
	steps int
}

// maxSteps bounds the work on one query: a policy that needs more is not one
// that people can read either.
const maxSteps = 200_000

type next func(symbol, env) *Formula

func leadsOn(env) *Formula { return yes }

// convert returns every value that x can have in the residue's query. The error
// is an *Untranslatable where a rule is the cause.
func convert(ctx context.Context, from *residue, forms func(string) (form, bool)) (out []element, err error) {
	c := &converter{ctx: ctx, from: from, forms: forms, memo: map[string][]element{}}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case error:
			out, err = nil, p
		default:
			panic(p)
		}
	}()
	for _, q := range from.queries {
		out = append(out, c.values(q, ast.VarTerm("x"), env{rule: from.query})...)
	}
	return merge(out), nil
}

// values returns every value that a term can have at the end of a body.
func (c *converter) values(b ast.Body, t *ast.Term, e env) []element {
	seen := map[string]bool{}
	var out []element
	c.body(b, e, func(in env) *Formula {
		return c.term(t, in, func(s symbol, in env) *Formula {
			if s.at != nil && s.at.Loop > e.depth {
				c.fail(in, "the elements of a list become a value", "ask the list itself: `x in input.…`")
			}
			if !seen[s.String()] {
				seen[s.String()] = true
				out = append(out, element{key: s})
			}
			return yes
		})
	})
	for i := range out {
		out[i].cond = c.body(b, e, func(in env) *Formula {
			return c.term(t, in, func(s symbol, _ env) *Formula { return truth(s.String() == out[i].key.String()) })
		})
	}
	return out
}

// fail gives up on the query; convert returns the error.
func (c *converter) fail(e env, what, hint string) {
	u := &Untranslatable{Rule: e.rule, What: what, Hint: hint}
	loc := e.loc
	if rule := c.from.written(e.rule); rule != nil {
		if loc == nil || loc.File == "" {
			loc = rule.Location
		}
		u.Rule = rule.Ref().String()
	}
	if loc != nil {
		u.File, u.Line = loc.File, loc.Row
	}
	panic(u)
}

// body runs what is left of a rule's expressions, each as soon as what it needs
// is known, and then k.
func (c *converter) body(b ast.Body, e env, k func(env) *Formula) *Formula {
	if c.steps++; c.steps > maxSteps {
		c.fail(e, "it is too large to be compiled", "write it with fewer alternatives")
	}
	if len(b) == 0 {
		return k(e)
	}
	i := c.pick(b, e)
	expr := b[i]
	rest := make(ast.Body, 0, len(b)-1)
	rest = append(append(rest, b[:i]...), b[i+1:]...)
	if expr.Location != nil && expr.Location.File != "" {
		e.loc = expr.Location
	}
	return c.expr(expr, e, func(e env) *Formula { return c.body(rest, e, k) })
}

func (c *converter) expr(expr *ast.Expr, e env, k func(env) *Formula) *Formula {
	if len(expr.With) > 0 {
		c.fail(e, "`with` is used", "pass what differs as an argument of a function")
	}
	switch t := expr.Terms.(type) {
	case *ast.SomeDecl:
		return k(e)
	case *ast.Every, *ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
		holds := c.bodies(t, e)
		if expr.Negated {
			holds = not(holds)
		}
		return and(holds, k(e))
	case *ast.Term:
		if expr.Negated {
			return and(not(c.term(t, e, c.truthy)), k(e))
		}
		return c.term(t, e, func(s symbol, e env) *Formula { return and(c.truthy(s, e), k(e)) })
	case []*ast.Term:
		switch {
		case expr.IsEquality() && expr.Negated:
			return and(not(c.unify(t[1], t[2], e, leadsOn)), k(e))
		case expr.IsEquality():
			return c.unify(t[1], t[2], e, k)
		}
		return c.call(expr.Negated, t, e, k)
	}
	c.fail(e, "this form of expression is not known", "")
	return no
}

// bodies runs an expression that has bodies of its own.
func (c *converter) bodies(terms any, e env) *Formula {
	switch t := terms.(type) {
	case *ast.Every:
		return c.every(t, e)
	case *ast.Not: // of future.keywords.not: nothing is looked up before it
		return not(c.body(t.Body, e, leadsOn))
	case *ast.LogicalAnd:
		return and(c.body(t.Lhs, e, leadsOn), c.body(t.Rhs, e, leadsOn))
	case *ast.LogicalOr:
		return or(c.body(t.Lhs, e, leadsOn), c.body(t.Rhs, e, leadsOn))
	}
	return no
}

// truthy is what a term that stands alone asks: that it is not false.
func (c *converter) truthy(s symbol, _ env) *Formula {
	switch {
	case s.value != nil:
		return truth(s.value.Compare(ast.Boolean(false)) != 0)
	case s.at != nil:
		return not(atom(OpEqual, *s.at, Operand{Const: ast.Boolean(false)}))
	case s.test != nil:
		return s.test
	}
	return yes
}

// every is "no element fails": Rego's every, which an empty list passes and
// what is no collection does not.
func (c *converter) every(t *ast.Every, e env) *Formula {
	return c.term(t.Domain, e, func(s symbol, e env) *Formula {
		fails := func(one symbol, e env) *Formula {
			if v, ok := t.Value.Value.(ast.Var); ok {
				e = e.bind(v, one)
			}
			if t.Key != nil {
				if v, ok := t.Key.Value.(ast.Var); ok {
					e = e.bind(v, symbol{index: true})
				}
			}
			return not(c.body(t.Body, e, leadsOn))
		}
		switch {
		case s.value != nil && !isCollection(s.value):
			return no
		case s.value != nil:
			var kids []*Formula
			for _, v := range elements(s.value) {
				kids = append(kids, not(fails(symbol{value: v}, e)))
			}
			return and(kids...)
		case s.set != nil:
			var kids []*Formula
			for _, m := range s.set {
				kids = append(kids, not(and(m.cond, fails(m.key, e))))
			}
			return and(kids...)
		case s.at != nil:
			collection := or(atom(OpIsArray, *s.at, Operand{}), atom(OpIsObject, *s.at, Operand{}))
			return and(collection, not(c.loop(*s.at, e, fails)))
		}
		c.fail(e, "`every` over something that is no list", "")
		return no
	})
}

func isCollection(v ast.Value) bool {
	switch v.(type) {
	case *ast.Array, ast.Object, ast.Set:
		return true
	}
	return false
}

// loop says that some element of the list at a place leads on.
func (c *converter) loop(list Operand, e env, k next) *Formula {
	if f, ok := c.forms(list.Path); list.Loop == 0 && (!ok || f == formObject) {
		c.fail(e, fmt.Sprintf("it loops over input.%s, which is no list", list.Path), "name the member that is meant")
	}
	e.depth++
	return exists(list, e.depth, k(symbol{at: &Operand{Loop: e.depth}}, e))
}

// unify makes two terms equal: a variable without a value gets one.
func (c *converter) unify(a, b *ast.Term, e env, k func(env) *Formula) *Formula {
	if isUnbound(a, e) {
		return c.term(b, e, func(s symbol, e env) *Formula { return k(e.bind(a.Value.(ast.Var), s)) })
	}
	if isUnbound(b, e) {
		return c.term(a, e, func(s symbol, e env) *Formula { return k(e.bind(b.Value.(ast.Var), s)) })
	}
	return c.term(a, e, func(x symbol, e env) *Formula {
		return c.term(b, e, func(y symbol, e env) *Formula { return and(c.equal(x, y, e), k(e)) })
	})
}

func (c *converter) equal(a, b symbol, e env) *Formula {
	if b.test != nil {
		a, b = b, a
	}
	if a.test == nil {
		return atom(OpEqual, c.compared(a, e), c.compared(b, e))
	}
	switch {
	case b.value == nil:
		c.fail(e, "the outcome of a test is compared with something that is not known", "write the test as a rule of its own")
	case b.value.Compare(ast.Boolean(true)) == 0:
		return and(a.defined, a.test)
	case b.value.Compare(ast.Boolean(false)) == 0:
		return and(a.defined, not(a.test))
	}
	return no
}

// compared is the operand of a comparison, which a table is not: only whether
// it is there can be asked.
func (c *converter) compared(s symbol, e env) Operand {
	if s.at != nil && s.at.Loop == 0 {
		if f, _ := c.forms(s.at.Path); f == formObject {
			c.fail(e, "a whole table is compared", "name the member that is meant")
		}
	}
	return c.operand(s, e)
}

func (c *converter) operand(s symbol, e env) Operand {
	switch {
	case s.value != nil:
		return Operand{Const: s.value}
	case s.at != nil:
		return *s.at
	case s.set != nil:
		c.fail(e, "a whole set is compared", "ask for its elements: `not x in set`, `some x in set`")
	case s.index:
		c.fail(e, "the index of a list is used", "compare elements, not where they stand")
	}
	c.fail(e, "a value that is put together is compared", "compare its parts")
	return Operand{}
}
