package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// parts are the formulas of which the rest of a decision is put together: every
// basis, every refusal of its own, and what else the rest reads of the input.
type parts struct {
	own   []part          // to be certified on their whole product
	rest  []part          // put together of own ones; certified with them
	reads map[string]bool // places that the rest reads besides
}

type part struct {
	name string
	f    *Formula
}

// partsOf splits the formulas of an action into those that stand for
// themselves and those that are put together of them.
func partsOf(a *Action, p *Policy) parts {
	out := parts{reads: map[string]bool{}}
	a.formulas(p, func(name string, f *Formula) {
		switch {
		case f.Kind == KindTrue || f.Kind == KindFalse:
		case strings.HasPrefix(name, "basis "):
			out.own = append(out.own, part{name, f})
		case strings.HasPrefix(name, "refusal "):
			left := map[string]bool{}
			if out.derived(f, left); len(left) > 0 {
				out.own = append(out.own, part{name, f})
			} else {
				out.rest = append(out.rest, part{name, f})
			}
		}
	})
	a.formulas(p, func(name string, f *Formula) {
		if name == "allow" || strings.HasPrefix(name, "end ") {
			out.derived(f, out.reads)
			out.rest = append(out.rest, part{name, f})
		}
	})
	return out
}

// derived notes in left the places that f reads other than through out.own.
func (out *parts) derived(f *Formula, left map[string]bool) {
	if out.stands(f) {
		return
	}
	kids := f.Kids
	switch f.Kind {
	case KindTrue, KindFalse:
		return
	case KindNot:
	case KindAnd, KindOr:
		kids = out.uncovered(f)
	default:
		f.places(func(o Operand) { left[o.Path] = true })
		return
	}
	for _, k := range kids {
		out.derived(k, left)
	}
}

func (out *parts) stands(f *Formula) bool {
	return slices.ContainsFunc(out.own, func(p part) bool { return p.f.key == f.key || not(p.f).key == f.key })
}

// uncovered is the kids of f without those that are, together, an own part
// which was flattened into f.
func (out *parts) uncovered(f *Formula) []*Formula {
	keys := map[string]bool{}
	for _, k := range f.Kids {
		keys[k.key] = true
	}
	covered := map[string]bool{}
	for _, p := range out.own {
		for _, g := range []*Formula{p.f, not(p.f)} {
			if g.Kind == f.Kind && !slices.ContainsFunc(g.Kids, func(k *Formula) bool { return !keys[k.key] }) {
				for _, k := range g.Kids {
					covered[k.key] = true
				}
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(f.Kids), func(k *Formula) bool { return covered[k.key] })
}

// closed rules are those at which the rest of a decision begins: what they say
// is certified by itself.
var closedRules = []string{basesRule, "data.authz.denials", refusalsRule}

// checkAssembly proves that OPA, too, puts a decision together of the closed
// rules, the tables, and the places in reads: it walks the rules from the
// decision on and looks at everything that they refer to.
func checkAssembly(source Source, decision string, reads map[string]bool) error {
	seen := map[string]bool{}
	todo := []string{decision}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if seen[name] || slices.Contains(closedRules, name) {
			continue
		}
		seen[name] = true
		for _, rule := range source.Compiler.GetRulesExact(ast.MustParseRef(name)) {
			for r := rule; r != nil; r = r.Else {
				more, err := refersTo(source, r, reads)
				if err != nil {
					return &Untranslatable{File: r.Location.File, Line: r.Location.Row, Rule: name, What: err.Error(),
						Hint: "put it into a basis or a denial, outside the package of the decision"}
				}
				todo = append(todo, more...)
			}
		}
	}
	return nil
}

// refersTo returns the rules that a rule refers to.
func refersTo(source Source, rule *ast.Rule, reads map[string]bool) ([]string, error) {
	var rules []string
	var failed error
	ast.WalkRefs(rule, func(ref ast.Ref) bool {
		switch path := ref.GroundPrefix(); {
		case ref[0].Equal(ast.InputRootDocument):
			name := strings.TrimPrefix(path.String(), "input.")
			if name != "action.name" && !reads[name] {
				failed = fmt.Errorf("the decision itself reads %s", path)
			}
		case ref[0].Equal(ast.DefaultRootDocument):
			for n := 2; n <= len(path); n++ {
				if len(source.Compiler.GetRulesExact(path[:n])) > 0 {
					rules = append(rules, path[:n].String())
					return false
				}
			}
			if source.Compiler.RuleTree.Find(path) != nil {
				failed = fmt.Errorf("the decision reads the whole package %s", path)
			}
		}
		return false
	})
	return rules, failed
}

// placesRead lists the places that the policy reads by OPA's own account
// (dependencies), so also those that no formula mentions.
func placesRead(refs []ast.Ref) []string {
	read := map[string]bool{}
	for _, ref := range refs {
		if !ref[0].Equal(ast.InputRootDocument) {
			continue
		}
		path := strings.TrimPrefix(strings.TrimPrefix(ref.GroundPrefix().String(), "input"), ".")
		for known, d := range shape {
			whole := path == "" || known == path || strings.HasPrefix(known, path+".")
			if whole && d.form != formObject && known != "action.name" {
				read[known] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(read))
}
