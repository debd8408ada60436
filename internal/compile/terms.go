package compile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// term finds what t stands for; where that is undefined, nothing leads on.
func (c *converter) term(t *ast.Term, e env, k next) *Formula {
	switch v := t.Value.(type) {
	case ast.Var:
		if s, ok := e.find(v); ok {
			return k(s, e)
		}
		if isRoot(v) {
			return c.ref(ast.Ref{t}, e, k)
		}
		c.fail(e, fmt.Sprintf("%s has no value", v), "")
	case ast.Ref:
		return c.ref(v, e, k)
	case ast.Null, ast.Boolean, ast.Number, ast.String:
		return k(symbol{value: v}, e)
	case ast.Object:
		if !isPlain(t) {
			return c.object(v, v.Keys(), nil, e, k)
		}
		return k(symbol{value: v}, e)
	case *ast.Array, ast.Set:
		if isPlain(t) {
			return k(symbol{value: v}, e)
		}
		c.fail(e, "a list is put together of things that are not known", "compare them one by one")
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		c.fail(e, "a comprehension is used", "use `some` or `every`")
	}
	c.fail(e, fmt.Sprintf("%s cannot be compiled", t), "")
	return no
}

// isPlain reports that t is a constant.
func isPlain(t *ast.Term) bool {
	plain := true
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Null, ast.Boolean, ast.Number, ast.String, *ast.Array, ast.Object, ast.Set:
		default:
			plain = false
		}
		return !plain
	})
	return plain
}

// object finds what the values of an object stand for, one key after another.
func (c *converter) object(o ast.Object, keys []*ast.Term, done map[string]symbol, e env, k next) *Formula {
	if len(keys) == 0 {
		return k(symbol{fields: done}, e)
	}
	name, ok := keys[0].Value.(ast.String)
	if !ok {
		c.fail(e, "an object has a key that is no text", "")
	}
	return c.term(o.Get(keys[0]), e, func(s symbol, e env) *Formula {
		fields := maps.Clone(done)
		if fields == nil {
			fields = map[string]symbol{}
		}
		fields[string(name)] = s
		return c.object(o, keys[1:], fields, e, k)
	})
}

func (c *converter) ref(ref ast.Ref, e env, k next) *Formula {
	head, ok := ref[0].Value.(ast.Var)
	if !ok {
		c.fail(e, fmt.Sprintf("%s is looked into", ref[0]), "give it a name first")
	}
	switch {
	case head == "input":
		return c.apply(symbol{at: &Operand{}}, ref[1:], e, k)
	case head == "data":
		return c.data(ref, e, k)
	}
	s, ok := e.find(head)
	if !ok {
		c.fail(e, fmt.Sprintf("%s has no value", head), "")
	}
	return c.apply(s, ref[1:], e, k)
}

// apply looks into s along the parts of a reference.
func (c *converter) apply(s symbol, parts []*ast.Term, e env, k next) *Formula {
	switch {
	case s.at != nil:
		return c.applyPlace(*s.at, parts, e, k)
	case len(parts) == 0:
		return k(s, e)
	case s.value != nil:
		return c.applyConstant(s.value, parts, e, k)
	case s.set != nil:
		return c.applySet(s.set, parts, e, k)
	case s.fields != nil:
		return c.key(parts[0], e, func(key symbol, e env) *Formula {
			name, ok := key.value.(ast.String)
			if !ok {
				c.fail(e, "an object is looked into by something that is not known", "")
			}
			field, ok := s.fields[string(name)]
			if !ok {
				return no
			}
			return c.apply(field, parts[1:], e, k)
		})
	}
	return no // true and false have no members
}

// key finds what a part of a reference stands for; a variable without a value
// gives an empty symbol.
func (c *converter) key(part *ast.Term, e env, k next) *Formula {
	if isUnbound(part, e) {
		return k(symbol{}, e)
	}
	return c.term(part, e, k)
}

func (c *converter) applyPlace(at Operand, parts []*ast.Term, e env, k next) *Formula {
	if len(parts) == 0 {
		return c.atPlace(at, e, k)
	}
	return c.key(parts[0], e, func(key symbol, e env) *Formula {
		if name, ok := key.value.(ast.String); ok {
			inner := Operand{Loop: at.Loop, Path: string(name)}
			if at.Path != "" {
				inner.Path = at.Path + "." + string(name)
			}
			if f, known := c.forms(at.Path); at.Loop == 0 && known && f == formAny {
				c.fail(e, fmt.Sprintf("it looks inside input.%s", at.Path), "only whole properties can be compared")
			}
			return c.applyPlace(inner, parts[1:], e, k)
		}
		if !key.empty() {
			c.fail(e, fmt.Sprintf("input.%s is looked into by something that is not known", at.Path), "use `in` or `some … in`")
		}
		return c.loop(at, e, func(one symbol, e env) *Formula {
			e = e.bind(parts[0].Value.(ast.Var), symbol{index: true})
			return c.applyPlace(*one.at, parts[1:], e, k)
		})
	})
}

// tables are the parts of the facts document that always stand there; what is
// asked of them is always a member.
var tables = []string{"", "subject", "action", "resource", "context"}

// atPlace leads on where a place has a value.
func (c *converter) atPlace(at Operand, e env, k next) *Formula {
	switch {
	case at.Loop > 0 && at.Path == "":
		return k(symbol{at: &at}, e)
	case at.Loop > 0:
	case at.Path == "action.name":
		return k(symbol{value: ast.String(c.from.action)}, e)
	default:
		if _, ok := c.forms(at.Path); !ok {
			if slices.Contains(tables, at.Path) {
				c.fail(e, fmt.Sprintf("the whole of input.%s is used", at.Path), "name the member that is meant")
			}
			return no // the facts document never has it
		}
	}
	return and(atom(OpDefined, at, Operand{}), k(symbol{at: &at}, e))
}

// applyConstant looks into a constant. By a place it is one alternative for
// each key, by a variable without a value likewise.
func (c *converter) applyConstant(v ast.Value, parts []*ast.Term, e env, k next) *Formula {
	return c.key(parts[0], e, func(key symbol, e env) *Formula {
		if key.value != nil {
			found, err := v.Find(ast.Ref{ast.NewTerm(key.value)})
			if err != nil {
				return no
			}
			return c.apply(symbol{value: found}, parts[1:], e, k)
		}
		var alternatives []*Formula
		each := func(name, found *ast.Term) {
			then, cond := e, yes
			if key.empty() {
				then = e.bind(parts[0].Value.(ast.Var), symbol{value: name.Value})
			} else {
				cond = c.equal(key, symbol{value: name.Value}, e)
			}
			alternatives = append(alternatives, and(cond, c.apply(symbol{value: found.Value}, parts[1:], then, k)))
		}
		switch v := v.(type) {
		case *ast.Array:
			for i := range v.Len() {
				each(ast.IntNumberTerm(i), v.Elem(i))
			}
		case ast.Set:
			v.Foreach(func(t *ast.Term) { each(t, t) })
		case ast.Object:
			v.Foreach(each)
		}
		return or(alternatives...)
	})
}

func (c *converter) applySet(set []element, parts []*ast.Term, e env, k next) *Formula {
	return c.key(parts[0], e, func(key symbol, e env) *Formula {
		var alternatives []*Formula
		for _, m := range set {
			then, cond := e, m.cond
			if key.empty() {
				then = e.bind(parts[0].Value.(ast.Var), m.key)
			} else {
				cond = and(cond, c.equal(key, m.key, e))
			}
			if cond != no {
				alternatives = append(alternatives, and(cond, c.apply(m.key, parts[1:], then, k)))
			}
		}
		return or(alternatives...)
	})
}

// data follows a reference into rules, or into the data of the bundle.
func (c *converter) data(ref ast.Ref, e env, k next) *Formula {
	ref = c.ground(ref, e)
	if name, rules, n := c.from.find(ref); n > 0 {
		if len(rules[0].Head.Args) > 0 {
			c.fail(e, "a function is used as a value", "call it")
		}
		return c.rule(name, rules, ref[n:], e, k)
	}
	ground := ref.GroundPrefix()
	if node := c.from.source.Compiler.RuleTree.Find(ground); node != nil {
		c.fail(e, fmt.Sprintf("%s is a whole package", ground), "name the rule that is meant")
	}
	path, n := storage.Path{}, 1
	for ; n < len(ground); n++ {
		part, ok := ground[n].Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(part))
	}
	v, ok, err := c.from.lookup(c.ctx, path)
	switch {
	case err != nil:
		panic(err)
	case !ok:
		return no
	}
	return c.apply(symbol{value: v}, ref[n:], e, k)
}

// ground puts constants in the place of the variables of a reference.
func (c *converter) ground(ref ast.Ref, e env) ast.Ref {
	out := ref.Copy()
	for i, part := range ref[1:] {
		switch v := part.Value.(type) {
		case ast.Var:
			if s, ok := e.find(v); ok && s.value != nil {
				out[i+1] = ast.NewTerm(s.value)
			}
		case ast.Ref:
			if v.String() == "input.action.name" {
				out[i+1] = ast.StringTerm(c.from.action)
			}
		}
	}
	return out
}
