package compile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

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

// row is an optional row: at most one, found by what follows FROM and WHERE,
// of which on says whose it is.
type row struct{ from, on, where string }

// collection is a list that is a table: one row for each element.
type collection func(alias string) (from, where string, columns map[string]column)

// writer writes formulas as SQL conditions that are true exactly where the
// formula is, NULL or not. Values are parameters, always. Texts are compared
// byte by byte, as Rego does.
type writer struct {
	columns     map[string]column
	rows        map[string]row
	collections map[string]collection
	args        []any
	elements    map[int]map[string]column // of the loops around
	opened      map[string]bool           // optional rows that are there, here
}

// arg adds a parameter of an SQL type.
func (w *writer) arg(v any, sqlType string) string {
	for i, known := range w.args {
		switch k := known.(type) {
		case string, bool, int64:
			if k == v {
				return "$" + strconv.Itoa(i+1) + "::" + sqlType
			}
		case time.Time:
			if t, ok := v.(time.Time); ok && k.Equal(t) {
				return "$" + strconv.Itoa(i+1) + "::" + sqlType
			}
		}
	}
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args)) + "::" + sqlType
}

var parameter = regexp.MustCompile(`\$\d+`)

// query is the finished statement: parameters that it does not use are left
// out, since Postgres could not tell their types.
func (w *writer) query(sql string) Query {
	q := Query{}
	places := map[string]string{}
	q.SQL = parameter.ReplaceAllStringFunc(sql, func(old string) string {
		if places[old] == "" {
			n, _ := strconv.Atoi(old[1:])
			q.Args = append(q.Args, w.args[n-1])
			places[old] = "$" + strconv.Itoa(len(q.Args))
		}
		return places[old]
	})
	return q
}

// condition writes f for a place where rows are chosen.
func (w *writer) condition(f *Formula) (string, error) { return w.where(w.plain(f), false) }

// plain is f with what the columns' types and constraints decide put in, and
// NOT moved inward as far as helps the planner to see single conditions.
func (w *writer) plain(f *Formula) *Formula {
	return w.sure(inward(f.rewrite(func(a *Formula) *Formula {
		if a.Kind != KindAtom || a.A.Loop > 0 {
			return nil
		}
		c, ok := w.columns[a.A.Path]
		if !ok || c.form == formObject || c.form == formAny {
			return nil
		}
		if !unary(a.Op) {
			return c.never(a)
		}
		if a.Op != OpDefined && a.Op != typeTest[c.form] {
			return no
		}
		if c.row == "" && !c.null {
			return yes
		}
		return atom(OpDefined, a.A, Operand{})
	})))
}

// never is false for a test that the table's CHECKs exclude, else nil.
func (c column) never(a *Formula) *Formula {
	s, ok := a.B.Const.(ast.String)
	if a.Op == OpEqual && ok && (c.filled && s == "" || c.words != nil && !slices.Contains(c.words, string(s))) {
		return no
	}
	return nil
}

// sure replaces what the table's CHECKs make certain: one of all its words.
func (w *writer) sure(f *Formula) *Formula {
	kids := make([]*Formula, len(f.Kids))
	for i, k := range f.Kids {
		kids[i] = w.sure(k)
	}
	switch f.Kind {
	case KindAnd:
		return and(kids...)
	case KindNot:
		return not(kids[0])
	case KindOr:
		left := map[string]int{}
		for _, k := range kids {
			if s, ok := k.B.Const.(ast.String); ok && k.Kind == KindAtom && k.Op == OpEqual && k.A.Loop == 0 {
				c := w.columns[k.A.Path]
				if left[k.A.Path]++; slices.Contains(c.words, string(s)) && !c.null && c.row == "" && left[k.A.Path] == len(c.words) {
					return yes
				}
			}
		}
		return or(kids...)
	}
	return f
}

func inward(f *Formula) *Formula {
	kids := make([]*Formula, len(f.Kids))
	for i, k := range f.Kids {
		kids[i] = inward(k)
	}
	switch f.Kind {
	case KindAnd:
		return and(kids...)
	case KindOr:
		return or(kids...)
	case KindNot:
		if kids[0].Kind != KindOr {
			return not(kids[0])
		}
		var negated []*Formula
		for _, k := range kids[0].Kids {
			negated = append(negated, not(k))
		}
		return and(negated...)
	}
	return f
}

// where writes f. negated says that it stands below a NOT, where NULL must not
// be taken for false and has to be made it.
func (w *writer) where(f *Formula, negated bool) (string, error) {
	switch f.Kind {
	case KindTrue:
		return "TRUE", nil
	case KindFalse:
		return "FALSE", nil
	case KindNot:
		inner, err := w.where(f.Kids[0], true)
		return "NOT " + inner, err
	case KindAnd:
		return w.conjunction(f.Kids, negated)
	case KindOr:
		return w.list(f.Kids, " OR ", negated)
	case KindExists:
		return w.exists(f)
	}
	return w.inRows(f, func() (string, error) { return w.atom(f, negated) })
}

func (w *writer) list(kids []*Formula, separator string, negated bool) (string, error) {
	if len(kids) == 1 {
		return w.where(kids[0], negated)
	}
	out := make([]string, len(kids))
	for i, k := range kids {
		var err error
		if out[i], err = w.where(k, negated); err != nil {
			return "", err
		}
	}
	return "(" + strings.Join(out, separator) + ")", nil
}

// conjunction opens each optional row once for all kids that speak of it, if
// one of them holds only where the row is there.
func (w *writer) conjunction(kids []*Formula, negated bool) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(w.rows)) {
		if w.opened[name] || !slices.ContainsFunc(kids, func(k *Formula) bool { return w.needs(k, name) }) {
			continue
		}
		var inside, outside []*Formula
		for _, k := range kids {
			if w.speaks(k, name) {
				inside = append(inside, k)
			} else {
				outside = append(outside, k)
			}
		}
		in, err := w.open(name, func() (string, error) { return w.conjunction(inside, false) })
		if err != nil || len(outside) == 0 {
			return in, err
		}
		out, err := w.conjunction(outside, negated)
		return "(" + out + " AND " + in + ")", err
	}
	return w.list(kids, " AND ", negated)
}

// inRows writes what holds only where optional rows are there within them.
func (w *writer) inRows(f *Formula, write func() (string, error)) (string, error) {
	for _, name := range slices.Sorted(maps.Keys(w.rows)) {
		if !w.opened[name] && w.needs(f, name) {
			return w.open(name, func() (string, error) { return w.where(f, false) })
		}
	}
	return write()
}

// open writes a condition on an optional row, which then is there.
func (w *writer) open(name string, write func() (string, error)) (string, error) {
	w.opened[name] = true
	inner, err := write()
	delete(w.opened, name)
	r := w.rows[name]
	return "EXISTS (SELECT 1 FROM " + r.from + " WHERE " + r.on + " AND " + r.where + " AND " + inner + ")", err
}

// speaks reports whether f mentions a place in an optional row.
func (w *writer) speaks(f *Formula, name string) bool {
	found := false
	f.places(func(o Operand) { found = found || (o.Loop == 0 && w.columns[o.Path].row == name) })
	return found
}

// needs reports whether f can hold only where the optional row is there.
func (w *writer) needs(f *Formula, name string) bool {
	switch f.Kind {
	case KindAtom, KindExists:
		found := false
		(&Formula{Kind: KindAtom, Op: f.Op, A: f.A, B: f.B}).places(func(o Operand) {
			found = found || (o.Path != "" && o.Loop == 0 && w.columns[o.Path].row == name)
		})
		return found
	case KindAnd:
		return slices.ContainsFunc(f.Kids, func(k *Formula) bool { return w.needs(k, name) })
	case KindOr:
		return !slices.ContainsFunc(f.Kids, func(k *Formula) bool { return !w.needs(k, name) })
	}
	return false
}

// exists writes a loop over an array, or over a table.
func (w *writer) exists(f *Formula) (string, error) {
	return w.inRows(f, func() (string, error) {
		alias := "e" + strconv.Itoa(f.Loop)
		before := w.elements[f.Loop]
		defer func() { w.elements[f.Loop] = before }()
		if f.A.Loop == 0 && w.collections[f.A.Path] != nil {
			from, where, columns := w.collections[f.A.Path](alias)
			w.elements[f.Loop] = columns
			inner, err := w.where(f.Kids[0], false)
			return "EXISTS (SELECT 1 FROM " + from + " WHERE " + where + " AND " + inner + ")", err
		}
		list, err := w.column(f.A)
		if err != nil {
			return "", err
		}
		if list.form != formTexts {
			return "", fmt.Errorf("a loop over %s, which is no list", f.A)
		}
		w.elements[f.Loop] = map[string]column{"": {sql: alias + ".v", form: formText}}
		inner, err := w.where(f.Kids[0], false)
		return "EXISTS (SELECT 1 FROM unnest(" + list.sql + ") AS " + alias + " (v) WHERE " + inner + ")", err
	})
}

// column finds where an operand is kept. A place that no table has is an error.
func (w *writer) column(o Operand) (column, error) {
	if o.Loop > 0 {
		if c, ok := w.elements[o.Loop][o.Path]; ok {
			return c, nil
		}
		return column{}, fmt.Errorf("no table has %s", o)
	}
	if c, ok := w.columns[o.Path]; ok {
		return c, nil
	}
	return column{}, fmt.Errorf("no table has input.%s", o.Path)
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
