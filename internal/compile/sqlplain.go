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
