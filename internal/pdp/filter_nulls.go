package pdp

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// hints are what a rule's METADATA says about filters made of it, the rule's
// own and its package's.
type hints struct {
	unknowns []ast.Ref // compile.unknowns
	mask     ast.Ref   // compile.mask_rule
	notNull  []string  // custom.not_null: columns that are never NULL, after joins too
}

func (e *Engine) hintsOf(rule *ast.Rule) (hints, error) {
	var h hints
	set := e.compiler.GetAnnotationSet()
	if set == nil {
		return h, nil
	}
	for _, link := range set.Chain(rule) {
		a := link.Annotations
		if a == nil {
			continue
		}
		if a.Compile != nil {
			h.unknowns = append(h.unknowns, a.Compile.Unknowns...)
			if a.Compile.MaskRule != nil && h.mask == nil {
				mask, err := maskRef(a.Compile.MaskRule.String(), rule)
				if err != nil {
					return h, err
				}
				h.mask = mask
			}
		}
		list, _ := a.Custom["not_null"].([]any)
		for _, one := range list {
			if s, ok := one.(string); ok {
				h.notNull = append(h.notNull, s)
			}
		}
	}
	return h, nil
}

// maskRef reads the name of a mask rule: a path under data, or a rule beside.
func maskRef(name string, beside *ast.Rule) (ast.Ref, error) {
	if !strings.HasPrefix(name, "data.") {
		name = beside.Module.Package.Path.String() + "." + name
	}
	ref, err := ast.ParseRef(name)
	if err != nil {
		return nil, unreadable("options.maskRule", err)
	}
	return ref, nil
}

// unknownsOf reads what is left open: the request's own list wins over the
// METADATA's.
func unknownsOf(asked []string, h hints) ([]*ast.Term, error) {
	refs := h.unknowns
	if len(asked) > 0 {
		refs = nil
		for _, s := range asked {
			ref, err := ast.ParseRef(s)
			if err != nil {
				return nil, unreadable("unknowns", err)
			}
			refs = append(refs, ref)
		}
	}
	if len(refs) == 0 {
		return nil, unreadable("unknowns", fmt.Errorf("name what is not known, such as \"input.fruits\", in the request or as METADATA compile.unknowns of the rule"))
	}
	var out []*ast.Term
	for _, ref := range refs {
		if !ref.HasPrefix(ast.InputRootRef) && !ref.HasPrefix(ast.DefaultRootRef) {
			return nil, unreadable("unknowns", fmt.Errorf("%s is under neither input nor data", ref))
		}
		out = append(out, ast.NewTerm(ref))
	}
	return out, nil
}

// checkNulls refuses a document that OPA's translator would get wrong about
// NULL. In Rego a column that has no value is undefined, and `not` of what is
// undefined holds; in SQL it is NULL, and NOT NULL is NULL: rows that the policy
// allows would be missing, and with a LEFT JOIN a refusal would miss its row.
// With `== null` it is the other way round. So a column may stand below a
// negation, in != and beside null only if the policy says that it always has a
// value (METADATA custom.not_null).
func (e *Engine) checkNulls(ctx context.Context, query ast.Body, input ast.Value, unknowns []*ast.Term, notNull []string, options []func(*rego.Rego)) error {
	prepared, err := rego.New(append(slices.Clone(options), rego.ParsedQuery(query), rego.NondeterministicBuiltins(true))...).PrepareForPartial(ctx)
	if err != nil {
		return filterFailure(err)
	}
	left, err := prepared.Partial(ctx, rego.EvalParsedInput(input), rego.EvalParsedUnknowns(unknowns),
		rego.EvalRuleIndexing(false), rego.EvalNondeterministicBuiltins(true))
	if err != nil {
		return filterFailure(err)
	}
	u := &Unfilterable{}
	for _, body := range left.Queries {
		for _, expr := range body {
			u.Faults = append(u.Faults, nullFaults(expr, notNull)...)
		}
	}
	if len(u.Faults) > 0 {
		return u
	}
	return nil
}

// nullFaults says which columns of an expression would be wrong if they were
// NULL.
func nullFaults(expr *ast.Expr, notNull []string) []Fault {
	what := ""
	switch {
	case expr.Negated:
		what = "stands below `not`"
	case expr.IsCall() && expr.Operator().String() == ast.NotEqual.Name:
		what = "is compared with !="
	case holdsNull(expr):
		what = "is compared with null"
	default:
		return nil
	}
	var out []Fault
	seen := map[string]bool{}
	ast.WalkRefs(expr, func(ref ast.Ref) bool {
		name := ref.String()
		if !ref.HasPrefix(ast.InputRootRef) || seen[name] || slices.Contains(notNull, name) {
			return false
		}
		seen[name] = true
		fault := Fault{Code: codeFragment, Message: fmt.Sprintf("%s %s, and may be NULL, where the filter would differ from the policy: "+
			"if it never is, in a LEFT JOIN neither, say so above the rule: `# custom: {not_null: [%s]}`", name, what, name)}
		if loc := expr.Loc(); loc != nil && loc.File != "" {
			fault.Location = &Location{File: loc.File, Row: loc.Row, Col: loc.Col}
		}
		out = append(out, fault)
		return false
	})
	return out
}

// holdsNull reports whether an expression compares with null.
func holdsNull(expr *ast.Expr) bool {
	found := false
	ast.WalkTerms(expr, func(t *ast.Term) bool {
		_, null := t.Value.(ast.Null)
		found = found || null
		return found
	})
	return found
}
