package compile

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Source is a compiled policy, as OPA has it.
type Source struct {
	Compiler *ast.Compiler
	Store    storage.Store
}

// Untranslatable says which rule cannot be turned into a formula, and what to
// write instead. OPA answers single checks that depend on it; lists refuse.
type Untranslatable struct {
	File string
	Line int
	Rule string // such as "data.rules.grants.permit"
	What string // what is not understood
	Hint string // what to write instead
}

func (u *Untranslatable) Error() string {
	said := u.Rule + ": " + u.What
	if u.File != "" {
		said = fmt.Sprintf("%s:%d: %s", u.File, u.Line, said)
	}
	if u.Hint != "" {
		said += "; " + u.Hint
	}
	return said
}

// residue is what OPA's partial evaluation leaves of one query when only the
// action is known. Rules are inlined shallowly: they keep the shape in which
// they were written, so that nothing is multiplied out.
type residue struct {
	source  Source
	action  string
	query   string
	queries []ast.Body             // either may hold; each binds x
	rules   map[string][]*ast.Rule // what the queries need, by "data.partial.authz.allow"
}

// partial evaluates query, which binds x, with the action known, unknowns
// unknown, and no other input.
func partial(ctx context.Context, source Source, action, query string, unknowns []string) (*residue, error) {
	refs := make([]string, len(unknowns))
	for i, name := range unknowns {
		refs[i] = "input." + name
	}
	input := ast.NewObject([2]*ast.Term{ast.StringTerm("action"),
		ast.ObjectTerm([2]*ast.Term{ast.StringTerm("name"), ast.StringTerm(action)})})
	result, err := rego.New(rego.Query(query), rego.Compiler(source.Compiler), rego.Store(source.Store),
		rego.ParsedInput(input), rego.Unknowns(refs), rego.ShallowInlining(true),
		rego.SetRegoVersion(ast.RegoV1)).Partial(ctx)
	if err != nil {
		return nil, fmt.Errorf("partial evaluation of %s for %s: %w", query, action, err)
	}
	r := &residue{source: source, action: action, query: query, queries: result.Queries, rules: map[string][]*ast.Rule{}}
	for _, m := range result.Support {
		for _, rule := range m.Rules {
			head := rule.Head.Ref().GroundPrefix()
			name := m.Package.Path.Append(ast.StringTerm(string(head[0].Value.(ast.Var)))).Concat(head[1:])
			r.rules[name.String()] = append(r.rules[name.String()], rule)
		}
	}
	return r, nil
}

// find returns the rules that a reference leads to, and how many parts of the
// reference name them: those that partial evaluation left, else those of the
// policy itself.
func (r *residue) find(ref ast.Ref) (string, []*ast.Rule, int) {
	ground := ref.GroundPrefix()
	for n := 2; n <= len(ground); n++ {
		name := ground[:n].String()
		if rules := r.rules[name]; len(rules) > 0 {
			return name, rules, n
		}
		if rules := r.source.Compiler.GetRulesExact(ground[:n]); len(rules) > 0 {
			return name, rules, n
		}
	}
	return "", nil, 0
}

// written returns the rule of the policy that the one of this name is, or was
// left of.
func (r *residue) written(name string) *ast.Rule {
	ref, err := ast.ParseRef(strings.Replace(name, "data.partial.", "data.", 1))
	if err != nil {
		return nil
	}
	if rules := r.source.Compiler.GetRulesExact(ref); len(rules) > 0 {
		return rules[0]
	}
	return nil
}

// lookup reads base data at a path; false where there is none.
func (r *residue) lookup(ctx context.Context, path storage.Path) (ast.Value, bool, error) {
	v, err := storage.ReadOne(ctx, r.source.Store, path)
	if storage.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("data %s: %w", path, err)
	}
	out, err := ast.InterfaceToValue(v)
	if err != nil {
		return nil, false, fmt.Errorf("data %s: %w", path, err)
	}
	return out, true, nil
}
