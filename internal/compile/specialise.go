package compile

import (
	"github.com/open-policy-agent/opa/v1/ast"
)

// knowledge says what is known of a place: its value, nil where it is known to
// be undefined, and false where it is not known. A place may also be known to
// be the same as another one, which is then asked instead.
type knowledge func(path string) (v ast.Value, same string, known bool)

// specialise puts what is known into a formula and simplifies it: partial
// evaluation without OPA.
func (f *Formula) specialise(known knowledge) *Formula {
	return f.rewrite(func(a *Formula) *Formula {
		left, ok := known.put(a.A)
		if !ok {
			return no
		}
		if a.Kind == KindExists {
			if left.isConst() {
				return anyOf(a, left.Const)
			}
			return exists(left, a.Loop, a.Kids[0])
		}
		if unary(a.Op) {
			return atom(a.Op, left, Operand{})
		}
		right, ok := known.put(a.B)
		if !ok {
			return no
		}
		return atom(a.Op, left, right)
	})
}

// put replaces a place that is known; false where it is known to be undefined.
func (known knowledge) put(o Operand) (Operand, bool) {
	if o.isConst() || o.Loop > 0 {
		return o, true
	}
	v, same, ok := known(o.Path)
	switch {
	case ok && same != "":
		return Operand{Path: same}, true
	case ok && v == nil:
		return o, false
	case ok:
		return Operand{Const: v}, true
	}
	return o, true
}

// anyOf is an Exists over a list that is known: its body for one of the elements.
func anyOf(e *Formula, list ast.Value) *Formula {
	var kids []*Formula
	for _, v := range elements(list) {
		kids = append(kids, e.Kids[0].element(e.Loop, v))
	}
	return or(kids...)
}

// element puts v in the place of the element of loop.
func (f *Formula) element(loop int, v ast.Value) *Formula {
	put := func(o Operand) (Operand, bool) {
		if o.isConst() || o.Loop != loop {
			return o, true
		}
		if o.Path == "" {
			return Operand{Const: v}, true
		}
		found, err := v.Find(ast.MustParseRef("x." + o.Path)[1:])
		return Operand{Const: found}, err == nil
	}
	switch f.Kind {
	case KindAnd, KindOr, KindNot:
		return f.over(f.each(func(k *Formula) *Formula { return k.element(loop, v) }))
	case KindAtom:
		a, ok := put(f.A)
		if !ok {
			return no
		}
		b := Operand{}
		if !unary(f.Op) {
			if b, ok = put(f.B); !ok {
				return no
			}
		}
		return atom(f.Op, a, b)
	case KindExists:
		body := f.Kids[0]
		if f.Loop != loop { // an inner loop of the same name hides this one
			body = body.element(loop, v)
		}
		list, ok := put(f.A)
		switch {
		case !ok:
			return no
		case list.isConst():
			return anyOf(&Formula{Kind: KindExists, Loop: f.Loop, Kids: []*Formula{body}}, list.Const)
		}
		return exists(list, f.Loop, body)
	}
	return f
}
