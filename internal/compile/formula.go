package compile

import (
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Kind says what a formula is.
type Kind uint8

// The kinds of formulas. Every formula is true or false: what Rego leaves
// undefined is false here, and OpDefined says whether it was.
const (
	KindFalse Kind = iota
	KindTrue
	KindAnd
	KindOr
	KindNot
	KindAtom
	KindExists // some element of a list satisfies the only kid
)

// Op is the test of an atom.
type Op uint8

// The tests of atoms. Each is false where an operand is undefined.
const (
	OpDefined    Op = iota // A has a value
	OpEqual                // A = B, of the same type
	OpLess                 // A < B in Rego's order of all values
	OpLessEqual            // A <= B
	OpIn                   // A is an element of the list B
	OpIsText               // A is a string; the next ones likewise
	OpIsBool               //
	OpIsNumber             //
	OpIsNull               //
	OpIsArray              //
	OpIsObject             //
	OpStartsWith           // text A starts with text B
	OpEndsWith             //
	OpContains             //
)

var opNames = [...]string{"defined", "=", "<", "<=", "in", "is_string", "is_boolean", "is_number", "is_null", "is_array", "is_object", "startswith", "endswith", "contains"}

func (o Op) String() string { return opNames[o] }

// Operand is a constant, or a place in the facts document.
type Operand struct {
	Const ast.Value // nil for a place
	// Path is a place under input, such as "client.assigned"; with Loop > 0 a
	// place under the element that this loop stands at, "" for the element.
	Path string
	Loop int
}

func (o Operand) isConst() bool { return o.Const != nil }

func (o Operand) String() string {
	switch {
	case o.isConst():
		return o.Const.String()
	case o.Loop == 0:
		return o.Path
	case o.Path == "":
		return "#" + strconv.Itoa(o.Loop)
	}
	return "#" + strconv.Itoa(o.Loop) + "." + o.Path
}

// Formula is a boolean formula over the facts document. It is never changed
// after it was made; equal formulas have equal keys.
type Formula struct {
	Kind Kind
	Kids []*Formula // of And, Or, Not, Exists
	Op   Op         // of an atom
	A, B Operand    // of an atom; A is the list of an Exists
	Loop int        // of an Exists: how its element is called within the kid
	key  string
}

var (
	yes = &Formula{Kind: KindTrue, key: "true"}
	no  = &Formula{Kind: KindFalse, key: "false"}
)

// String writes the formula so that two equal ones look the same.
func (f *Formula) String() string { return f.key }

func truth(b bool) *Formula {
	if b {
		return yes
	}
	return no
}

// and joins formulas that must all hold.
func and(kids ...*Formula) *Formula { return join(KindAnd, yes, no, "and", kids) }

// or joins formulas of which one must hold.
func or(kids ...*Formula) *Formula { return join(KindOr, no, yes, "or", kids) }

// join flattens, drops what does not matter (the neutral formula, repetitions,
// what another kid implies) and notices what decides (the ruling formula, a kid
// beside its own negation). The order of the kids stays.
func join(kind Kind, neutral, ruling *Formula, name string, kids []*Formula) *Formula {
	var flat []*Formula
	seen := map[string]bool{}
	for _, kid := range kids {
		group := []*Formula{kid}
		if kid.Kind == kind {
			group = kid.Kids
		}
		for _, k := range group {
			if k == ruling {
				return ruling
			}
			if k != neutral && !seen[k.key] {
				seen[k.key] = true
				flat = append(flat, k)
			}
		}
	}
	for _, k := range flat {
		if seen[not(k).key] {
			return ruling
		}
	}
	var kept []*Formula
	var keys []string
	for _, k := range flat {
		if !absorbed(kind, k, flat, seen) {
			kept, keys = append(kept, k), append(keys, k.key)
		}
	}
	switch len(kept) {
	case 0:
		return neutral
	case 1:
		return kept[0]
	}
	slices.Sort(keys)
	return &Formula{Kind: kind, Kids: kept, key: name + "(" + strings.Join(keys, ", ") + ")"}
}

// absorbed reports that k adds nothing beside the other kids: a or (a and b) is
// a, a and (a or b) is a, and an atom on x holds only where x is defined.
func absorbed(kind Kind, k *Formula, kids []*Formula, seen map[string]bool) bool {
	if (kind == KindAnd && k.Kind == KindOr) || (kind == KindOr && k.Kind == KindAnd) {
		return slices.ContainsFunc(k.Kids, func(part *Formula) bool { return seen[part.key] })
	}
	if kind != KindAnd || k.Kind != KindAtom || k.Op != OpDefined {
		return false
	}
	return slices.ContainsFunc(kids, func(other *Formula) bool { return other != k && implies(other, k.A) })
}

// implies reports that f can hold only where place has a value.
func implies(f *Formula, place Operand) bool {
	switch f.Kind {
	case KindAtom:
		return f.Op != OpDefined && (f.A.String() == place.String() ||
			(!unary(f.Op) && !f.B.isConst() && f.B.String() == place.String()))
	case KindAnd:
		return slices.ContainsFunc(f.Kids, func(k *Formula) bool { return implies(k, place) })
	case KindOr:
		return !slices.ContainsFunc(f.Kids, func(k *Formula) bool { return !implies(k, place) })
	case KindExists:
		return f.A.String() == place.String()
	}
	return false
}

func not(f *Formula) *Formula {
	switch f.Kind {
	case KindTrue:
		return no
	case KindFalse:
		return yes
	case KindNot:
		return f.Kids[0]
	}
	return &Formula{Kind: KindNot, Kids: []*Formula{f}, key: "not(" + f.key + ")"}
}

// atom makes a test, at once decided where its operands are constants.
func atom(op Op, a, b Operand) *Formula {
	if a.isConst() && (unary(op) || b.isConst()) {
		return truth(testConstants(op, a.Const, b.Const))
	}
	switch {
	case op == OpEqual && (a.isConst() || (!b.isConst() && b.String() < a.String())):
		a, b = b, a // one way to write it
	case op == OpIn && b.isConst() && len(elements(b.Const)) == 0:
		return no
	}
	if op == OpEqual && !b.isConst() && a.String() == b.String() {
		op, b = OpDefined, Operand{}
	}
	f := &Formula{Kind: KindAtom, Op: op, A: a, B: b}
	if unary(op) {
		f.key = opNames[op] + "(" + a.String() + ")"
	} else {
		f.key = a.String() + " " + opNames[op] + " " + b.String()
	}
	return f
}

func unary(op Op) bool { return op == OpDefined || (op >= OpIsText && op <= OpIsObject) }

// exists says that some element of the list satisfies body, in which the
// element is called loop. What body says of other things stands before it.
func exists(list Operand, loop int, body *Formula) *Formula {
	if body == no {
		return no
	}
	if body.Kind == KindOr {
		kids := make([]*Formula, len(body.Kids))
		for i, k := range body.Kids {
			kids[i] = exists(list, loop, k)
		}
		return or(kids...)
	}
	var outer, inner []*Formula
	for _, k := range conjuncts(body) {
		if mentions(k, loop) {
			inner = append(inner, k)
		} else {
			outer = append(outer, k)
		}
	}
	return and(append(outer, some(list, loop, and(inner...)))...)
}

// some is exists for a body that speaks of the element only.
func some(list Operand, loop int, body *Formula) *Formula {
	if body.Kind == KindAtom && body.Op == OpEqual {
		// Some element equals x: x is in the list.
		element := Operand{Loop: loop}.String()
		if !body.A.isConst() && body.A.String() == element && (body.B.isConst() || body.B.Loop != loop) {
			return atom(OpIn, body.B, list)
		}
		if !body.B.isConst() && body.B.String() == element && body.A.Loop != loop {
			return atom(OpIn, body.A, list)
		}
	}
	f := &Formula{Kind: KindExists, A: list, Loop: loop, Kids: []*Formula{body}}
	f.key = "exists(" + Operand{Loop: loop}.String() + " in " + list.String() + ": " + body.key + ")"
	return f
}

func conjuncts(f *Formula) []*Formula {
	if f.Kind == KindAnd {
		return f.Kids
	}
	return []*Formula{f}
}

func disjuncts(f *Formula) []*Formula {
	if f.Kind == KindOr {
		return f.Kids
	}
	return []*Formula{f}
}

// mentions reports whether f speaks of the element of loop.
func mentions(f *Formula, loop int) bool {
	found := false
	f.places(func(o Operand) { found = found || o.Loop == loop })
	return found
}

// places calls visit for every place that f reads, lists included. An inner
// loop of the same name hides the outer one.
func (f *Formula) places(visit func(Operand)) {
	switch f.Kind {
	case KindAtom:
		if !f.A.isConst() {
			visit(f.A)
		}
		if !unary(f.Op) && !f.B.isConst() {
			visit(f.B)
		}
	case KindExists:
		visit(f.A)
		f.Kids[0].places(func(o Operand) {
			if o.Loop != f.Loop {
				visit(o)
			}
		})
	default:
		for _, k := range f.Kids {
			k.places(visit)
		}
	}
}

// atoms calls visit for every atom and every Exists of f.
func (f *Formula) atoms(visit func(*Formula)) {
	if f.Kind == KindAtom || f.Kind == KindExists {
		visit(f)
	}
	for _, k := range f.Kids {
		k.atoms(visit)
	}
}

// rewrite makes f anew, every atom and Exists replaced by what change returns;
// nil keeps it. The body of an Exists is rewritten before change sees it.
func (f *Formula) rewrite(change func(*Formula) *Formula) *Formula {
	kids := f.each(func(k *Formula) *Formula { return k.rewrite(change) })
	switch f.Kind {
	case KindAtom:
		if g := change(f); g != nil {
			return g
		}
	case KindExists:
		g := &Formula{Kind: KindExists, A: f.A, Loop: f.Loop, Kids: kids}
		if h := change(g); h != nil {
			return h
		}
		return exists(f.A, f.Loop, kids[0])
	}
	return f.over(kids)
}

// each is what change makes of the kids of f.
func (f *Formula) each(change func(*Formula) *Formula) []*Formula {
	kids := make([]*Formula, len(f.Kids))
	for i, k := range f.Kids {
		kids[i] = change(k)
	}
	return kids
}

// over is the connective of f over other kids; an atom or an Exists is f itself.
func (f *Formula) over(kids []*Formula) *Formula {
	switch f.Kind {
	case KindAnd:
		return and(kids...)
	case KindOr:
		return or(kids...)
	case KindNot:
		return not(kids[0])
	}
	return f
}

// Holds reports whether f holds of a facts document.
func (f *Formula) Holds(document map[string]any) bool {
	c := newCode()
	n, err := c.add(f)
	return err == nil && c.eval(&frame{document: document}, n)
}
