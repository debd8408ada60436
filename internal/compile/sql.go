package compile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
