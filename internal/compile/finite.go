package compile

import (
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Infinite says that not all values of a place can be listed which a test tells
// apart, so that nothing can be said of all situations.
type Infinite struct {
	Atom *Formula // the test at fault
	Why  string
}

func (i *Infinite) Error() string { return fmt.Sprintf("%s: %s", i.Atom, i.Why) }

// finite reports that the values which the abstract space lists for the places
// of an atom are all that the atom can tell apart.
func finite(a *Formula) error {
	fails := func(why string) error { return &Infinite{Atom: a, Why: why} }
	var paths []string
	listed := true // every value that the places can have is listed
	a.places(func(o Operand) {
		_, setting := settingOf(o.Path)
		paths = append(paths, o.Path)
		listed = listed && (shape[o.Path].form == formBool || setting && shape[o.Path].form != formNumber)
	})
	if slices.ContainsFunc(paths, func(path string) bool { _, known := formOf(path); return !known }) {
		return fails("there is no such place")
	}
	form := shape[paths[0]].form
	texts := form == formText || form == formAny
	switch {
	case a.Kind == KindExists:
		return finiteLoop(a, paths, fails)
	case unary(a.Op), len(paths) == 1 && listed:
		return nil
	case form == formObject && a.Op == OpEqual && len(paths) == 1:
		return nil // a table is an object and so no constant; what is none is never equal
	case len(paths) == 2:
		return finitePair(a, paths, fails)
	case form == formTime && a.Op <= OpLessEqual:
		return nil // that the constant is a time is seen where it is ordered
	case form == formNumber && a.Op <= OpLessEqual:
		return finiteConstants(a, fails)
	case a.Op == OpIn && a.A.isConst() && form == formTexts:
		return finiteConstants(a, fails)
	case texts && (a.Op == OpEqual || a.Op == OpIn && !a.A.isConst()):
		return finiteConstants(a, fails)
	}
	return fails("there is no end of values that it tells apart; compare with == or `in`")
}

// finiteConstants refuses constants that are not among the values of a place
// beside what stands for all others.
func finiteConstants(a *Formula, fails func(string) error) error {
	for _, c := range constantsOf(a) {
		switch c := c.(type) {
		case ast.Null, ast.Boolean:
		case ast.String:
			if string(c) == unknownWord || slices.Contains(ids, string(c)) {
				return fails(fmt.Sprintf("%s stands for every other text here", c))
			}
		case ast.Number:
			if _, whole := c.Int64(); !whole {
				return fails(fmt.Sprintf("%s is no whole number", c))
			}
		default:
			return fails("it compares with a list or an object")
		}
	}
	return nil
}

// finitePair allows what group.partitions and group.orders list: which texts are
// equal, and in what order times stand.
func finitePair(a *Formula, paths []string, fails func(string) error) error {
	times, texts := 0, 0
	for _, path := range paths {
		if _, setting := settingOf(path); setting {
			return fails("a setting is compared with something else that is not known")
		}
		switch shape[path].form {
		case formTime:
			times++
		case formText, formAny:
			texts++
		}
	}
	if a.Op <= OpLessEqual && times == 2 || a.Op == OpEqual && texts == 2 {
		return nil
	}
	return fails("only texts can be compared for being equal, and times for their order")
}

// finiteLoop allows loops over lists of texts that compare each with constants.
func finiteLoop(a *Formula, paths []string, fails func(string) error) error {
	if len(paths) != 1 || shape[paths[0]].form != formTexts {
		return fails("the loop is not over one list of words")
	}
	var failed error
	a.Kids[0].atoms(func(inner *Formula) {
		plain := inner.Kind == KindAtom && inner.A.Loop == a.Loop && inner.A.Path == "" && (unary(inner.Op) || inner.B.isConst()) ||
			inner.Kind == KindAtom && !unary(inner.Op) && inner.A.isConst() && inner.B.Loop == a.Loop && inner.B.Path == ""
		switch {
		case !plain || !unary(inner.Op) && inner.Op != OpEqual && (inner.Op != OpIn || inner.A.isConst()):
			failed = fails("the loop does more than compare each word with == or `in`")
		case !unary(inner.Op):
			if err := finiteConstants(inner, fails); err != nil {
				failed = err
			}
		}
	})
	return failed
}
