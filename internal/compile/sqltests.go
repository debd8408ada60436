package compile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// column is where a place of the facts document is kept.
type column struct {
	sql  string
	form form
	null bool // NULL stands for "undefined"
	// What a CHECK of the table promises: no empty text, or only these words.
	filled bool
	words  []string
	row    string // the optional row that it lies in (see writer.rows); "" for one that is there
}

// never is false for a test that the table's CHECKs exclude, else nil.
func (c column) never(a *Formula) *Formula {
	s, ok := a.B.Const.(ast.String)
	if a.Op == OpEqual && ok && (c.filled && s == "" || c.words != nil && !slices.Contains(c.words, string(s))) {
		return no
	}
	return nil
}

// atom writes one test.
func (w *writer) atom(f *Formula, negated bool) (string, error) {
	var sides [2]column
	nullable := false
	for i, o := range []Operand{f.A, f.B} {
		if o.isConst() || (i == 1 && unary(f.Op)) {
			continue
		}
		var err error
		if sides[i], err = w.column(o); err != nil {
			return "", err
		}
		nullable = nullable || sides[i].null
	}
	sql, err := w.test(f, sides[0], sides[1])
	if err != nil {
		return "", fmt.Errorf("%s: %w", f, err)
	}
	if nullable && negated && f.Op != OpDefined {
		return "COALESCE(" + sql + ", FALSE)", nil
	}
	return sql, nil
}

func (w *writer) test(f *Formula, a, b column) (string, error) {
	switch {
	case f.Op == OpDefined:
		return a.defined(), nil
	case unary(f.Op):
		if a.form == formObject {
			return truthSQL(f.Op == OpIsObject), nil
		}
		return a.definedIf(f.Op == typeTest[a.form]), nil
	case f.Op == OpIn:
		return w.in(f, a, b)
	case f.Op >= OpStartsWith:
		return w.texts(f, a, b)
	}
	return w.compare(f, a, b)
}

var typeTest = map[form]Op{formText: OpIsText, formTime: OpIsText, formBool: OpIsBool, formNumber: OpIsNumber, formTexts: OpIsArray}

func truthSQL(b bool) string {
	if b {
		return "TRUE"
	}
	return "FALSE"
}

func (c column) defined() string {
	if c.null {
		return "(" + c.sql + " IS NOT NULL)"
	}
	return "TRUE"
}

// definedIf is "has a value, and the test holds", of a test that every value of
// the column passes, or none.
func (c column) definedIf(holds bool) string {
	if !holds {
		return "FALSE"
	}
	return c.defined()
}

// asText is the column as the facts document writes it.
func (c column) asText() string {
	if c.form == formTime {
		return `to_char(` + c.sql + ` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
	}
	return c.sql
}

// rank is a type's place in Rego's order of types.
var rank = map[form]sort{formBool: boolean, formNumber: number, formText: text, formTime: text, formTexts: list}

// constant writes a constant as a column of a form that a column can be
// compared with; false where its type differs from the column's.
func (w *writer) constant(v ast.Value, beside form) (column, sort, bool) {
	switch v := v.(type) {
	case ast.String:
		if t, isTime := asInstant(string(v)); isTime && beside == formTime {
			return column{sql: w.arg(t, "timestamptz"), form: formTime}, text, true
		}
		return column{sql: w.arg(string(v), "text"), form: formText}, text, beside == formText || beside == formTime
	case ast.Boolean:
		return column{sql: truthSQL(bool(v)), form: formBool}, boolean, beside == formBool
	case ast.Number:
		n, ok := v.Int64()
		if !ok {
			return column{}, number, false
		}
		return column{sql: w.arg(n, "bigint"), form: formNumber}, number, beside == formNumber
	case ast.Null:
		return column{}, null, false
	}
	return column{}, other, false
}

func (w *writer) compare(f *Formula, a, b column) (string, error) {
	ra, rb := rank[a.form], rank[b.form]
	same := ra == rb && ra != undefined
	if f.A.isConst() {
		a, ra, same = w.constant(f.A.Const, b.form)
	}
	if f.B.isConst() {
		b, rb, same = w.constant(f.B.Const, a.form)
	}
	if a.form == formTexts && b.form == formTexts || (ra == list && rb == other) || (ra == other && rb == list) {
		return "", fmt.Errorf("whole lists are compared")
	}
	if ra == number && rb == number && !same {
		return "", fmt.Errorf("a number that is not whole")
	}
	if !same { // of different types: never equal, and ordered by type
		holds := f.Op != OpEqual && ra < rb
		known := a
		if f.A.isConst() {
			known = b
		}
		if !f.A.isConst() && !f.B.isConst() {
			return "(" + a.definedIf(holds) + " AND " + b.defined() + ")", nil
		}
		return known.definedIf(holds), nil
	}
	left, right := a.sql, b.sql
	if a.form != b.form { // a time and a text that is none
		left, right = a.asText(), b.asText()
	}
	if ra == text && (a.form == formText || b.form == formText) {
		right += ` COLLATE "C"`
	}
	operator := map[Op]string{OpEqual: " = ", OpLess: " < ", OpLessEqual: " <= "}[f.Op]
	return "(" + left + operator + right + ")", nil
}

func (w *writer) in(f *Formula, a, b column) (string, error) {
	if !f.B.isConst() {
		if b.form != formTexts {
			return "FALSE", nil // no collection
		}
		if f.A.isConst() {
			s, ok := f.A.Const.(ast.String)
			if !ok {
				return "FALSE", nil // a list of texts has no other elements
			}
			return "(" + w.arg(string(s), "text") + ` COLLATE "C" = ANY (` + b.sql + "))", nil
		}
		if rank[a.form] != text {
			return "FALSE", nil
		}
		return "(" + a.asText() + ` COLLATE "C" = ANY (` + b.sql + "))", nil
	}
	if texts, ok := textsOf(f.B.Const); ok && a.form == formText {
		w.args = append(w.args, texts)
		return "(" + a.sql + ` COLLATE "C" = ANY ($` + strconv.Itoa(len(w.args)) + "::text[]))", nil
	}
	var out []string
	for _, v := range elements(f.B.Const) {
		one := atom(OpEqual, f.A, Operand{Const: v})
		sql, err := w.test(one, a, column{})
		if err != nil {
			return "", err
		}
		out = append(out, sql)
	}
	return "(" + strings.Join(out, " OR ") + ")", nil
}

func (w *writer) texts(f *Formula, a, b column) (string, error) {
	side := func(o Operand, c column) (string, bool) {
		if !o.isConst() {
			return c.asText(), rank[c.form] == text
		}
		s, ok := o.Const.(ast.String)
		return w.arg(string(s), "text"), ok
	}
	left, ok1 := side(f.A, a)
	right, ok2 := side(f.B, b)
	if !ok1 || !ok2 {
		return "FALSE", nil
	}
	switch f.Op {
	case OpStartsWith:
		return "starts_with(" + left + ", " + right + ")", nil
	case OpEndsWith:
		return "(right(" + left + ", length(" + right + ")) = " + right + ` COLLATE "C")`, nil
	}
	return "(strpos(" + left + ` COLLATE "C", ` + right + ") > 0)", nil
}
