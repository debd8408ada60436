package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/compile"

	"github.com/open-policy-agent/opa/v1/ast"
)

// metadata asks for a title and a description on every package and rule, and on
// rules for an id of their own, since compliance staff read these and refer to
// them. Titles and ids are unique; rules that an answer
// rests on say why.
func (in *inspection) metadata(context.Context) ([]Finding, string, error) {
	var all []Finding
	ids, titles := map[string]string{}, map[string]string{}
	rules := 0
	all = append(all, in.because()...)
	written := maps.Clone(in.modules)
	maps.Copy(written, in.beside)
	for _, name := range slices.Sorted(maps.Keys(written)) {
		module := written[name]
		for _, a := range module.Annotations {
			if a.Scope == "package" && (a.Title == "" || a.Description == "") {
				all = append(all, in.at(a.Location, "the package needs a title and a description", ""))
			}
		}
		for _, rule := range module.Rules {
			rules++
			all = append(all, in.metadataOf(rule, ids, titles)...)
		}
	}
	return all, fmt.Sprintf("%d rules", rules), nil
}

const metadataHint = "above every rule stand `# METADATA`, `# title: …`, `# description: …`, `# custom:`, `#   id: …`"

func (in *inspection) metadataOf(rule *ast.Rule, ids, titles map[string]string) []Finding {
	here := strings.TrimPrefix(fmt.Sprintf("%s:%d", rule.Location.File, rule.Location.Row), "/")
	own := ownAnnotation(rule)
	if own == nil || own.Title == "" || own.Description == "" {
		return []Finding{in.at(rule.Location, fmt.Sprintf("rule %s needs METADATA with a title and a description", rule.Head.Name), metadataHint)}
	}
	id, _ := own.Custom["id"].(string)
	var all []Finding
	switch {
	case id == "":
		all = append(all, in.at(rule.Location, fmt.Sprintf("rule %s needs METADATA with custom.id", rule.Head.Name), metadataHint))
	case ids[id] != "":
		all = append(all, in.at(rule.Location, fmt.Sprintf("id %s is taken by %s", id, ids[id]), "cases, records and people refer to a rule by its id: give this one another").of(rule))
	default:
		ids[id] = here
	}
	if first := titles[own.Title]; first != "" {
		all = append(all, in.at(rule.Location, fmt.Sprintf("title %q is that of %s", own.Title, first), "say what is different here").of(rule))
	} else {
		titles[own.Title] = here
	}
	return all
}

// ownAnnotation is the METADATA above this very rule; one with an entry point is
// on all rules of its name.
func ownAnnotation(rule *ast.Rule) *ast.Annotations {
	var own *ast.Annotations
	for _, a := range rule.Annotations {
		if own == nil || a.Loc().Row > own.Loc().Row {
			own = a
		}
	}
	return own
}

// imports are the names by which a module calls what it imports.
type imports map[string]ast.Ref

func importsOf(module *ast.Module) imports {
	out := imports{}
	for _, i := range module.Imports {
		if path, ok := i.Path.Value.(ast.Ref); ok {
			out[string(i.Name())] = path
		}
	}
	return out
}

// expand writes a reference out.
func (i imports) expand(ref ast.Ref) ast.Ref {
	head, ok := ref[0].Value.(ast.Var)
	if path := i[string(head)]; ok && path != nil {
		return append(slices.Clone(path), ref[1:]...)
	}
	return ref
}

// references finds names under data that lead nowhere: OPA takes them for data
// that may come later, and the rule would never hold.
func (in *inspection) references(context.Context) ([]Finding, string, error) {
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.modules)) {
		module := in.modules[name]
		lost := map[string]bool{}
		for _, i := range module.Imports {
			if path, ok := i.Path.Value.(ast.Ref); ok && in.leadsNowhere(path) > 0 {
				lost[string(i.Name())] = true
				all = append(all, in.nowhere(path, i.Path.Location))
			}
		}
		imported := importsOf(module)
		for _, rule := range module.Rules {
			ast.WalkRefs(rule, func(ref ast.Ref) bool {
				if head, ok := ref[0].Value.(ast.Var); ok && lost[string(head)] {
					return false // told already, of the import
				}
				if full := imported.expand(ref); in.leadsNowhere(full) > 0 {
					all = append(all, in.nowhere(full, ref[len(ref)-1].Location).of(rule))
				}
				return false
			})
		}
	}
	return all, "", nil
}

// leadsNowhere is the place of the first part of a reference that is not there;
// 0 where all of it is.
func (in *inspection) leadsNowhere(ref ast.Ref) int {
	if !ref.HasPrefix(ast.DefaultRootRef) {
		return 0
	}
	ground := named(ref)
	for n := 2; n <= len(ground); n++ {
		if !hasRule(in.bundle, ground[:n]) && !hasData(in.bundle.Data, ground[1:n]) {
			return n - 1
		}
	}
	return 0
}

func (in *inspection) nowhere(ref ast.Ref, loc *ast.Location) Finding {
	at := in.leadsNowhere(ref)
	var words []string
	for _, module := range in.bundle.Modules {
		path := module.Package.Path
		if len(path) > at && path.HasPrefix(ref[:at]) {
			words = append(words, strings.Trim(path[at].String(), `"`))
		}
		if path.Equal(ref[:at]) {
			for _, rule := range module.Rules {
				words = append(words, rule.Head.Name.String())
			}
		}
	}
	if data, ok := dataAt(in.bundle.Data, ref[1:at]).(map[string]any); ok {
		words = append(words, slices.Collect(maps.Keys(data))...)
	}
	word, _ := ref[at].Value.(ast.String)
	return in.at(loc, fmt.Sprintf("%s leads nowhere", named(ref)), didYouMean(string(word), words))
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

// translation finds what the compiled form cannot hold: first by how a rule is
// written, then by compiling.
func (in *inspection) translation(ctx context.Context) ([]Finding, string, error) {
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.modules)) {
		all = append(all, in.style(name)...)
	}
	if len(all) > 0 {
		return all, "", nil
	}
	var err error
	if in.formulas, err = compile.Compile(ctx, in.engine.Source()); err != nil {
		var u *compile.Untranslatable
		if errors.As(err, &u) {
			return []Finding{in.untranslatable(u)}, "", nil
		}
		return []Finding{{File: ".", Text: plain(err.Error())}}, "", ctx.Err()
	}
	for _, u := range in.formulas.Problems() {
		all = append(all, in.untranslatable(u))
	}
	in.finder = compile.NewFinder(in.engine.Source(), in.formulas)
	return all, fmt.Sprintf("%d actions", len(in.formulas.Actions)), nil
}

func (in *inspection) untranslatable(u *compile.Untranslatable) Finding {
	text := plain(fmt.Sprintf("%s cannot be translated: %s", u.Rule, u.What))
	if u.File == "" {
		return Finding{File: ".", Text: text, Hint: u.Hint}
	}
	return in.onLine(strings.TrimPrefix(u.File, "/"), u.Line, 0, text, u.Hint)
}

// translatable are the builtins that a rule on the way to an allowance may use:
// comparisons, membership, and the type of what a request says.
var translatable = []string{
	"eq", "assign", "equal", "neq", "lt", "lte", "gt", "gte", "internal.member_2", "is_string", "is_boolean", "is_object",
}

// style keeps rules/ and lib/ to what can be translated into a formula and into
// SQL. The entry point only puts answers together and may do more.
func (in *inspection) style(name string) []Finding {
	module := in.modules[name]
	var all []Finding
	find := func(loc *ast.Location, what, hint string) {
		all = append(all, in.at(loc, what+" cannot be translated", hint))
	}
	ast.WalkRules(module, func(rule *ast.Rule) bool {
		if rule.Else != nil {
			find(rule.Else.Location, "else", "write the alternatives as rules of their own that exclude each other")
		}
		return false
	})
	ast.WalkExprs(module, func(e *ast.Expr) bool {
		if len(e.With) > 0 {
			find(e.Location, "with", "pass what differs as an argument of a function")
		}
		return false
	})
	if root, _, _ := strings.Cut(name, "/"); root != "authz" {
		calls(module, func(loc *ast.Location, called string) {
			if ast.BuiltinMap[called] != nil && !slices.Contains(translatable, called) {
				find(loc, called, "compare with ==, !=, <, <=, >, >=, in, is_string, is_boolean or is_object")
			}
		})
	}
	return all
}
