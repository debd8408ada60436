package release

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Finding is something in the policies that is to be put right.
type Finding struct {
	File string
	Line int // 0 where it is about the whole file
	Text string
}

// String writes a finding the way compilers do.
func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Check looks at the form of a folder of policies: it compiles strictly against
// its schemas, is formatted, explains every rule, keeps to the part of Rego that
// can be translated (DESIGN 7), refers to nothing that is not there, and its
// tables fit their schema. An error means that it could not look.
func Check(ctx context.Context, policies fs.FS) ([]Finding, error) {
	bundle, err := pdp.ReadFolder(policies)
	if err != nil {
		return nil, err
	}
	var all []Finding
	if _, err := pdp.NewEngine(ctx, bundle, pdp.DecisionPath); err != nil {
		all = append(all, Finding{File: "policies", Text: err.Error()})
	}
	names := slices.Sorted(maps.Keys(bundle.Modules))
	ids := map[string]string{}
	for _, name := range names {
		unformatted, err := checkFormat(policies, name)
		if err != nil {
			return nil, err
		}
		all = append(all, unformatted...)
		all = append(all, checkMetadata(name, bundle.Modules[name], ids)...)
		all = append(all, checkStyle(name, bundle.Modules[name])...)
		all = append(all, checkReferences(name, bundle)...)
		all = append(all, checkBecause(name, bundle)...)
	}
	tables, err := matchSchema(ctx, bundle.Data["tables"], bundle.Schemas["tables"])
	if err != nil {
		return nil, err
	}
	for _, text := range tables {
		all = append(all, Finding{File: "tables", Text: text})
	}
	return all, nil
}

func checkFormat(policies fs.FS, name string) ([]Finding, error) {
	source, err := fs.ReadFile(policies, name)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	formatted, err := format.SourceWithOpts(name, source, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if string(formatted) != string(source) {
		return []Finding{{File: name, Text: "is not formatted as opa fmt does"}}, nil
	}
	return nil, nil
}

// checkMetadata asks for a title and a description on every package and rule,
// and on rules for an id of their own, since compliance staff read these and
// refer to them. ids collects where each id was seen.
func checkMetadata(name string, module *ast.Module, ids map[string]string) []Finding {
	var all []Finding
	for _, a := range module.Annotations {
		if a.Scope == "package" && (a.Title == "" || a.Description == "") {
			all = append(all, Finding{name, a.Loc().Row, "the package needs a title and a description"})
		}
	}
	for _, rule := range module.Rules {
		line := rule.Loc().Row
		var own *ast.Annotations // the one above this very rule; one with an entrypoint is on all of its name
		for _, a := range rule.Annotations {
			if own == nil || a.Loc().Row > own.Loc().Row {
				own = a
			}
		}
		if own == nil || own.Title == "" || own.Description == "" {
			all = append(all, Finding{name, line, fmt.Sprintf("rule %s needs METADATA with a title and a description", rule.Head.Name)})
			continue
		}
		id, _ := own.Custom["id"].(string)
		switch {
		case id == "":
			all = append(all, Finding{name, line, fmt.Sprintf("rule %s needs METADATA with custom.id", rule.Head.Name)})
		case ids[id] != "":
			all = append(all, Finding{name, line, fmt.Sprintf("id %s is taken by %s", id, ids[id])})
		default:
			ids[id] = fmt.Sprintf("%s:%d", name, line)
		}
	}
	return all
}

// translatable are the builtins that a rule on the way to an allowance may use:
// comparisons, membership, and the type of what a request says.
var translatable = []string{
	"eq", "assign", "equal", "neq", "lt", "lte", "gt", "gte", "internal.member_2", "is_string", "is_boolean", "is_object",
}

// checkStyle keeps rules/ and lib/ to what can be translated into a formula and
// into SQL. The entry point only puts answers together and may do more.
func checkStyle(name string, module *ast.Module) []Finding {
	var all []Finding
	find := func(node ast.Node, text string) {
		all = append(all, Finding{name, node.Loc().Row, text + " cannot be translated"})
	}
	root, _, _ := strings.Cut(name, "/")
	answers := root == "authz"
	call := func(node ast.Node, called ast.Ref) {
		if name := called.String(); ast.BuiltinMap[name] != nil && !slices.Contains(translatable, name) {
			find(node, name)
		}
	}
	ast.WalkRules(module, func(rule *ast.Rule) bool {
		if rule.Else != nil {
			find(rule, "else")
		}
		return false
	})
	ast.WalkExprs(module, func(e *ast.Expr) bool {
		if len(e.With) > 0 {
			find(e, "with")
		}
		if e.IsCall() && !answers {
			call(e, e.Operator())
		}
		return false
	})
	ast.WalkTerms(module, func(t *ast.Term) bool {
		if nested, ok := t.Value.(ast.Call); ok && !answers {
			call(t, nested[0].Value.(ast.Ref))
		}
		return false
	})
	return all
}

// checkReferences finds names under data that lead nowhere: OPA takes them for
// data that may come later, and the rule would never hold.
func checkReferences(name string, b *pdp.Bundle) []Finding {
	module := b.Modules[name]
	imported := map[string]ast.Ref{}
	for _, i := range module.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok {
			imported[string(i.Name())] = path
		}
	}
	var all []Finding
	ast.WalkRefs(module, func(ref ast.Ref) bool {
		if head, ok := ref[0].Value.(ast.Var); ok && imported[string(head)] != nil {
			ref = append(slices.Clone(imported[string(head)]), ref[1:]...)
		}
		ground := named(ref)
		if ref.HasPrefix(ast.DefaultRootRef) && !hasRule(b, ground) && !hasData(b.Data, ground[1:]) {
			all = append(all, Finding{name, ref[len(ref)-1].Loc().Row, fmt.Sprintf("%s leads nowhere", ground)})
		}
		return false
	})
	return all
}

// named is the part of ref that is written out, up to the first part that only
// evaluation knows.
func named(ref ast.Ref) ast.Ref {
	for i, term := range ref[1:] {
		if _, ok := term.Value.(ast.String); !ok {
			return ref[:i+1]
		}
	}
	return ref
}

// hasRule reports whether ref names a rule, something in its value, or a package.
func hasRule(b *pdp.Bundle, ref ast.Ref) bool {
	for _, module := range b.Modules {
		if module.Package.Path.HasPrefix(ref) {
			return true
		}
		for _, rule := range module.Rules {
			if ref.HasPrefix(rule.Ref().GroundPrefix()) {
				return true
			}
		}
	}
	return false
}

func hasData(data any, ref ast.Ref) bool {
	for _, term := range ref {
		object, ok := data.(map[string]any)
		if !ok {
			return false
		}
		key, ok := term.Value.(ast.String)
		if !ok {
			return false
		}
		if data, ok = object[string(key)]; !ok {
			return false
		}
	}
	return true
}

// matchSchema says where document does not fit a JSON Schema.
func matchSchema(ctx context.Context, document, schema any) ([]string, error) {
	results, err := rego.New(rego.Query("json.match_schema(input.document, input.schema)[1][_].desc"),
		rego.Input(map[string]any{"document": document, "schema": schema}), rego.StrictBuiltinErrors(true)).Eval(ctx)
	if err != nil {
		return nil, fmt.Errorf("check schema: %w", err)
	}
	var all []string
	for _, r := range results {
		all = append(all, fmt.Sprint(r.Expressions[0].Value))
	}
	return all, nil
}
