package compile

import (
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func place_(path string) Operand { return Operand{Path: path} }
func word(s string) Operand      { return Operand{Const: ast.String(s)} }

func TestSimplification(t *testing.T) {
	a, b := atom(OpEqual, place_("c.a"), word("x")), atom(OpEqual, place_("c.b"), word("y"))
	defined := atom(OpDefined, place_("c.a"), Operand{})
	for _, c := range []struct{ got, want *Formula }{
		{and(a, not(a)), no},
		{or(a, not(a)), yes},
		{and(a, or(a, b)), a},
		{or(a, and(a, b)), a},
		{and(a, defined), a},
		{and(not(a), defined), and(defined, not(a))},
		{not(not(a)), a},
		{and(a, b), and(b, a)},
		{and(or(a, b), defined), and(defined, or(a, b))},
		{atom(OpEqual, word("x"), place_("c.a")), a},
		{atom(OpEqual, place_("c.a"), place_("c.a")), defined},
		{atom(OpIn, word("x"), Operand{Const: ast.NewSet(ast.StringTerm("x"))}), yes},
		{atom(OpIn, place_("c.a"), Operand{Const: ast.NewSet()}), no},
		{atom(OpLess, word("x"), Operand{Const: ast.Number("1")}), no},
		{exists(place_("c.roles"), 1, atom(OpEqual, Operand{Loop: 1}, word("x"))), atom(OpIn, word("x"), place_("c.roles"))},
		{exists(place_("c.roles"), 1, and(a, atom(OpEqual, Operand{Loop: 1}, word("x")))), and(a, atom(OpIn, word("x"), place_("c.roles")))},
	} {
		if c.got.key != c.want.key {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

// TestALoopAsksAnewForEachElement has a test of the element in it twice, whose
// first answer must not be kept for the next element.
func TestALoopAsksAnewForEachElement(t *testing.T) {
	element := Operand{Loop: 1}
	is := atom(OpEqual, element, word("a"))
	f := exists(place_("c.roles"), 1, and(or(is, atom(OpLess, element, word("0"))), or(is, atom(OpLess, word("z"), element))))
	c := newCode()
	i, err := c.add(f)
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[*[]any]bool{{"b", "a"}: true, {"a", "b"}: true, {"b"}: false, {}: false} {
		fr := frame{document: map[string]any{"c": map[string]any{"roles": *list}}}
		if c.eval(&fr, i) != want {
			t.Errorf("%v: not %v", *list, want)
		}
	}
}
