package release

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// node is terms of one rule that are compared with each other. Nodes that were
// put together point to the one that is left.
type node struct {
	values
	paths    []string // of facts or data, the parts joined by a slash
	children map[string]*node
	into     *node
}

func (n *node) end() *node {
	for n.into != nil {
		n = n.into
	}
	return n
}

const (
	element = "[]" // any element of a list or set, or any member of an object
	keys    = "{}" // the names of the members of an object
)

func (n *node) child(part string) *node {
	n = n.end()
	if n.children == nil {
		n.children = map[string]*node{}
	}
	if n.children[part] == nil {
		c := &node{}
		for _, p := range n.paths {
			c.paths = append(c.paths, p+"/"+part)
		}
		n.children[part] = c
	}
	return n.children[part].end()
}

// join puts two nodes together, with what lies under them.
func join(a, b *node) {
	a, b = a.end(), b.end()
	if a == b {
		return
	}
	for _, part := range slices.Sorted(maps.Keys(b.children)) {
		a.child(part)
	}
	for _, part := range slices.Sorted(maps.Keys(a.children)) {
		join(a.child(part), b.child(part))
	}
	a.words, a.domains = append(a.words, b.words...), append(a.domains, b.domains...)
	for _, p := range b.paths {
		if !slices.Contains(a.paths, p) {
			a.paths = append(a.paths, p)
		}
	}
	b.into = a
}

// scope is one rule while it is read.
type scope struct {
	r    *reader
	rule *ast.Rule
	vars map[ast.Var]*node
	all  []*node
	late []func() // calls of functions, read once all else is known
}

// maxNesting bounds functions that call functions.
const maxNesting = 16

// read reads a rule, with what is known of the arguments that it was given, and
// returns what is known of its value.
func (r *reader) read(rule *ast.Rule, arguments []*values) *values {
	s := &scope{r: r, rule: rule, vars: map[ast.Var]*node{}}
	for i, argument := range rule.Head.Args {
		if i < len(arguments) {
			n := s.term(argument)
			n.words, n.domains = append(n.words, arguments[i].words...), append(n.domains, arguments[i].domains...)
		}
	}
	ast.WalkExprs(rule, func(e *ast.Expr) bool {
		s.expr(e)
		return false
	})
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		s.ref(ref) // an index is compared with what it looks into
		return false
	})
	value := rule.Head.Value
	if rule.Head.RuleKind() == ast.MultiValue {
		value = rule.Head.Key
	}
	result := s.new()
	if value != nil {
		result = s.term(value)
	}
	if r.depth < maxNesting {
		r.depth++
		for _, call := range s.late {
			call()
		}
		r.depth--
	}
	s.judge()
	return s.known(result)
}

func (s *scope) new() *node {
	n := &node{}
	s.all = append(s.all, n)
	return n
}

// term is the node of a term.
func (s *scope) term(t *ast.Term) *node {
	switch v := t.Value.(type) {
	case ast.Var:
		if s.vars[v] == nil {
			s.vars[v] = s.new()
		}
		return s.vars[v].end()
	case ast.String:
		n := s.new()
		n.words = []mention{{string(v), func(text, hint string) Finding { return s.r.in.at(t.Location, text, hint).of(s.rule) }}}
		return n
	case ast.Ref:
		return s.ref(v)
	case *ast.Array:
		n := s.new()
		v.Foreach(func(e *ast.Term) { join(n.child(element), s.term(e)) })
		return n
	case ast.Set:
		n := s.new()
		v.Foreach(func(e *ast.Term) { join(n.child(element), s.term(e)) })
		return n
	}
	return s.new()
}

// ref is the node of a reference: into the facts, the data, a rule's value, or
// something that a name stands for.
func (s *scope) ref(ref ast.Ref) *node {
	var n *node
	rest := ref[1:]
	switch {
	case ref[0].Equal(ast.InputRootDocument):
		n = s.new()
		n.paths = []string{"input"}
	case ref[0].Equal(ast.DefaultRootDocument):
		compiler := s.r.in.engine.Source().Compiler
		ground := ref.GroundPrefix()
		n = s.new()
		n.paths = []string{"data"}
		for k := 2; k <= len(ground); k++ {
			rules := compiler.GetRulesExact(ground[:k])
			if len(rules) == 0 {
				continue
			}
			n, rest = s.new(), ref[k:]
			known := s.r.summary(ground[:k].String(), rules)
			if rules[0].Head.RuleKind() == ast.MultiValue {
				e := n.child(element)
				e.domains = append(e.domains, known.domains...)
				if len(rest) > 0 {
					join(e, s.term(rest[0]))
					n, rest = e, rest[1:]
				}
			} else {
				n.domains = append(n.domains, known.domains...)
			}
			break
		}
	default:
		if _, ok := ref[0].Value.(ast.Var); !ok {
			return s.new()
		}
		n = s.term(ref[0])
	}
	for _, part := range rest {
		if name, ok := part.Value.(ast.String); ok {
			n = n.child(string(name))
			continue
		}
		join(n.child(keys), s.term(part))
		n = n.child(element)
	}
	s.all = append(s.all, n)
	return n.end()
}

// comparing are the builtins whose two operands are of one kind.
var comparing = []string{"eq", "equal", "assign", "neq", "lt", "lte", "gt", "gte"}

func (s *scope) expr(e *ast.Expr) {
	if every, ok := e.Terms.(*ast.Every); ok {
		join(s.term(every.Domain).child(element), s.term(every.Value))
		return
	}
	if !e.IsCall() {
		return
	}
	operands := e.Operands()
	switch name := e.Operator().String(); {
	case slices.Contains(comparing, name) && len(operands) == 2:
		join(s.term(operands[0]), s.term(operands[1]))
	case strings.HasPrefix(name, "internal.member_") && len(operands) >= 2:
		k := len(operands)
		if name == "internal.member_2" {
			k = 2
		}
		join(s.term(operands[k-1]).child(element), s.term(operands[k-2]))
	case e.Operator().HasPrefix(ast.DefaultRootRef):
		var nodes []*node
		for _, o := range operands {
			nodes = append(nodes, s.term(o))
		}
		s.late = append(s.late, func() {
			var known []*values
			for _, n := range nodes {
				known = append(known, s.known(n))
			}
			for _, rule := range s.r.in.engine.Source().Compiler.GetRulesExact(e.Operator()) {
				s.r.read(rule, known)
			}
		})
	}
}
