package compile

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// pick returns the first expression that needs nothing more, else the first
// that can begin a loop.
func (c *converter) pick(b ast.Body, e env) int {
	for _, loops := range []bool{false, true} {
		for i, expr := range b {
			if c.ready(expr, e, loops) && settled(b, i, e) {
				return i
			}
		}
	}
	c.fail(e, "a variable has no value", "")
	return 0
}

func (c *converter) ready(expr *ast.Expr, e env, loops bool) bool {
	switch t := expr.Terms.(type) {
	case *ast.Every:
		return evaluable(t.Domain, e, loops)
	case *ast.Term:
		return evaluable(t, e, loops)
	case []*ast.Term:
		args := t[1:]
		if expr.IsEquality() && !expr.Negated {
			a, b := evaluable(args[0], e, loops), evaluable(args[1], e, loops)
			return (a && (b || isUnbound(args[1], e))) || (b && isUnbound(args[0], e))
		}
		arity, known := c.arity(t[0])
		for i, arg := range args {
			output := !known && i == len(args)-1 || known && i >= arity
			if !evaluable(arg, e, loops) && !(output && isUnbound(arg, e)) {
				return false
			}
		}
	}
	return true
}

// settled reports that an expression with a body of its own shares no variable
// without a value with the rest: it would take it for one of its own.
func settled(b ast.Body, i int, e env) bool {
	if !hasBody(b[i]) {
		return true
	}
	own := map[ast.Var]bool{}
	ast.WalkVars(b[i], func(v ast.Var) bool { own[v] = true; return false })
	shared := false
	for k, other := range b {
		var terms any = other
		if every, ok := other.Terms.(*ast.Every); ok {
			terms = every.Domain
		} else if hasBody(other) {
			continue // its variables are its own, too
		}
		if k != i {
			ast.WalkVars(terms, func(v ast.Var) bool {
				_, bound := e.find(v)
				shared = shared || (own[v] && !bound && !isRoot(v))
				return false
			})
		}
	}
	return !shared
}

func hasBody(expr *ast.Expr) bool {
	switch expr.Terms.(type) {
	case *ast.Every, *ast.Not, *ast.LogicalAnd, *ast.LogicalOr:
		return true
	}
	return false
}

func isRoot(v ast.Var) bool { return v == "input" || v == "data" }

func isUnbound(t *ast.Term, e env) bool {
	v, ok := t.Value.(ast.Var)
	if !ok || isRoot(v) {
		return false
	}
	_, bound := e.find(v)
	return !bound
}

// evaluable reports that every variable of t has a value, or with loops, that
// those without one stand where they loop.
func evaluable(t *ast.Term, e env, loops bool) bool {
	switch v := t.Value.(type) {
	case ast.Var:
		return !isUnbound(t, e)
	case ast.Ref:
		if !evaluable(v[0], e, loops) {
			return false
		}
		for _, part := range v[1:] {
			if !evaluable(part, e, loops) && !(loops && isUnbound(part, e)) {
				return false
			}
		}
	case ast.Object:
		return !v.Until(func(_, x *ast.Term) bool { return !evaluable(x, e, loops) })
	}
	return true
}
