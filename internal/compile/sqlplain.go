package compile

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

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

// sure replaces what the table's CHECKs make certain: one of all its words.
func (w *writer) sure(f *Formula) *Formula {
	kids := f.each(w.sure)
	if f.Kind == KindOr {
		left := map[string]int{}
		for _, k := range kids {
			if s, ok := k.B.Const.(ast.String); ok && k.Kind == KindAtom && k.Op == OpEqual && k.A.Loop == 0 {
				c := w.columns[k.A.Path]
				if left[k.A.Path]++; slices.Contains(c.words, string(s)) && !c.null && c.row == "" && left[k.A.Path] == len(c.words) {
					return yes
				}
			}
		}
	}
	return f.over(kids)
}

// inward turns "not (a or b)" into "not a and not b".
func inward(f *Formula) *Formula {
	kids := f.each(inward)
	if f.Kind == KindNot && kids[0].Kind == KindOr {
		return and(kids[0].each(not)...)
	}
	return f.over(kids)
}
