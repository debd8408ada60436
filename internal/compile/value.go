package compile

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// sort is the type of a value, in Rego's order of types. Times are text in the
// one form of the facts document, kept as a number.
type sort uint8

const (
	undefined sort = iota
	null
	boolean
	number
	text
	instant
	list  // of texts
	other // any JSON value that the ones above do not hold
)

// value is one value of the facts document, or undefined.
type value struct {
	sort sort
	num  int64  // a boolean (0, 1), a whole number, or microseconds since 1970
	text string // a text
	list []string
	any  any // of sort other
}

func textValue(s string) value     { return value{sort: text, text: s} }
func listValue(all []string) value { return value{sort: list, list: all} }

func boolValue(b bool) value {
	if b {
		return value{sort: boolean, num: 1}
	}
	return value{sort: boolean}
}

func timeValue(t time.Time) value { return value{sort: instant, num: t.UnixMicro()} }

// anyValue reads a JSON value.
func anyValue(v any) value {
	switch v := v.(type) {
	case nil:
		return value{sort: null}
	case bool:
		return boolValue(v)
	case string:
		return textValue(v)
	case int64:
		return value{sort: number, num: v}
	case int:
		return value{sort: number, num: int64(v)}
	}
	return value{sort: other, any: v}
}

// constantValue reads a constant of the policy.
func constantValue(v ast.Value) value {
	switch v := v.(type) {
	case ast.Null:
		return value{sort: null}
	case ast.Boolean:
		return boolValue(bool(v))
	case ast.String:
		return textValue(string(v))
	case ast.Number:
		if n, ok := v.Int64(); ok {
			return value{sort: number, num: n}
		}
	}
	return value{sort: other, any: v}
}

// asInstant returns the time that a text is, if it is in the one form.
func asInstant(s string) (time.Time, bool) {
	t, err := time.Parse(authz.TimeLayout, s)
	return t, err == nil && authz.FormatTime(t) == s
}

// elements returns what Rego finds in a collection: the elements of a list or
// set, the values of an object, nothing in anything else.
func elements(v ast.Value) []ast.Value {
	var out []ast.Value
	add := func(t *ast.Term) { out = append(out, t.Value) }
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(_, t *ast.Term) { add(t) })
	}
	return out
}

// textsOf returns the elements of a collection of texts; false of any other.
func textsOf(v ast.Value) ([]string, bool) {
	var out []string
	for _, e := range elements(v) {
		s, ok := e.(ast.String)
		if !ok {
			return nil, false
		}
		out = append(out, string(s))
	}
	return out, true
}

// asAST writes the value as OPA has it; nil of an undefined one, or of a Go
// value that is no JSON.
func (v value) asAST() ast.Value {
	switch v.sort {
	case null:
		return ast.NullValue
	case boolean:
		return ast.Boolean(v.num != 0)
	case number:
		return ast.Number(json.Number(strconv.FormatInt(v.num, 10)))
	case text:
		return ast.String(v.text)
	case instant:
		return ast.String(v.formatted())
	case list:
		terms := make([]*ast.Term, len(v.list))
		for i, s := range v.list {
			terms[i] = ast.StringTerm(s)
		}
		return ast.NewArray(terms...)
	case other:
		out, err := ast.InterfaceToValue(v.any)
		if err != nil {
			return nil
		}
		return out
	}
	return nil
}

func (v value) formatted() string { return authz.FormatTime(time.UnixMicro(v.num)) }

// asText is v with a time written out.
func (v value) asText() value {
	if v.sort == instant {
		return textValue(v.formatted())
	}
	return v
}

// compare orders two values as Rego does; false where one is undefined. Texts,
// times and what fits a word are compared at once, the rest by OPA itself.
func compare(a, b value) (int, bool) {
	switch {
	case a.sort == undefined || b.sort == undefined:
		return 0, false
	case a.sort == text && b.sort == text:
		return strings.Compare(a.text, b.text), true
	case a.sort == instant && b.sort == text, a.sort == text && b.sort == instant:
		return strings.Compare(a.asText().text, b.asText().text), true
	case a.sort == b.sort && a.sort <= instant:
		return order(a.num, b.num), true
	case a.sort <= instant && b.sort <= instant:
		return order(int64(a.sort), int64(b.sort)), true
	}
	x, y := a.asAST(), b.asAST()
	if x == nil || y == nil {
		return 0, false
	}
	return ast.Compare(x, y), true
}

func order(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// isIn reports whether a is an element of the collection b.
func isIn(a, b value) bool {
	if a.sort == undefined {
		return false
	}
	switch b.sort {
	case list:
		a = a.asText()
		return a.sort == text && slices.Contains(b.list, a.text)
	case other:
		x, y := a.asAST(), b.asAST()
		return x != nil && y != nil && slices.ContainsFunc(elements(y), func(e ast.Value) bool { return ast.Compare(x, e) == 0 })
	}
	return false
}

// hasType answers the is_… tests.
func hasType(op Op, v value) bool {
	switch v.sort {
	case null:
		return op == OpIsNull
	case boolean:
		return op == OpIsBool
	case number:
		return op == OpIsNumber
	case text, instant:
		return op == OpIsText
	case list:
		return op == OpIsArray
	case other:
		switch v.asAST().(type) {
		case ast.Number:
			return op == OpIsNumber
		case *ast.Array:
			return op == OpIsArray
		case ast.Object:
			return op == OpIsObject
		}
	}
	return false
}

// onTexts answers the tests of two texts.
func onTexts(op Op, a, b value) bool {
	a, b = a.asText(), b.asText()
	if a.sort != text || b.sort != text {
		return false
	}
	switch op {
	case OpStartsWith:
		return strings.HasPrefix(a.text, b.text)
	case OpEndsWith:
		return strings.HasSuffix(a.text, b.text)
	}
	return strings.Contains(a.text, b.text)
}

// test applies op to two values.
func test(op Op, a, b value) bool {
	switch {
	case op == OpDefined:
		return a.sort != undefined
	case op == OpIn:
		return isIn(a, b)
	case unary(op):
		return hasType(op, a)
	case op >= OpStartsWith:
		return onTexts(op, a, b)
	}
	c, ok := compare(a, b)
	switch op {
	case OpEqual:
		return ok && c == 0
	case OpLess:
		return ok && c < 0
	}
	return ok && c <= 0
}

// testConstants applies op to two constants of the policy.
func testConstants(op Op, a, b ast.Value) bool {
	x, y := constantValue(a), value{}
	if !unary(op) {
		y = constantValue(b)
	}
	return test(op, x, y)
}
