package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// compiles compiles the policies as the engine that answers requests does:
// strictly, with the schema of the facts document at the root and without any
// builtin that could make two evaluations differ. What is about types is told by
// the next step.
func (in *inspection) compiles(ctx context.Context) ([]Finding, string, error) {
	var err error
	in.engine, err = pdp.NewEngine(ctx, in.bundle, pdp.DecisionPath)
	if err != nil && !errors.As(err, &in.faults) {
		return []Finding{{File: ".", Text: plain(strings.TrimPrefix(err.Error(), "bundle: "))}}, "", nil
	}
	var all []Finding
	for _, fault := range in.faults {
		if fault.Code != ast.TypeErr && fault.Location != nil {
			all = append(all, in.compileFault(fault))
		}
	}
	return firstOfEach(all), "", nil
}

// types tells what does not fit the schemas, and whether any rule evades them.
func (in *inspection) types(context.Context) ([]Finding, string, error) {
	var all []Finding
	for _, fault := range in.faults {
		if fault.Location != nil {
			all = append(all, in.typeFault(fault))
		}
	}
	return firstOfEach(append(all, in.evades()...)), "", nil
}

// firstOfEach keeps the first of the findings that say the same: one cause that
// shows in many places is told once.
func firstOfEach(findings []Finding) []Finding {
	seen := map[string]bool{}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		was := seen[f.File+f.Text]
		seen[f.File+f.Text] = true
		return was
	})
}

// evades finds packages that the schemas do not reach: the tables are typed only
// where a package says so, in one of its files, and an annotation could replace
// the schema of input.
func (in *inspection) evades() []Finding {
	var all []Finding
	typed := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(in.modules)) {
		for _, a := range in.modules[name].Annotations {
			for _, s := range a.Schemas {
				path, schema := s.Path.String(), s.Schema.String()
				if path == "data.tables" && a.Scope == "package" {
					typed[in.modules[name].Package.Path.String()] = true
				}
				switch known := in.bundle.Schemas[strings.TrimPrefix(schema, "schema.")] != nil; {
				case path == "data.tables" && schema == "schema.tables", path == "input" && schema == "schema.input":
				case s.Definition == nil && !known: // the compiler has told of it
				default:
					all = append(all, in.at(a.Location, fmt.Sprintf("a schema for %s takes the place of the one that all rules are held to", path),
						"take it out; `- data.tables: schema.tables` is the only one that is needed"))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.modules)) {
		module := in.modules[name]
		imported := importsOf(module)
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if path := module.Package.Path.String(); imported.expand(ref).HasPrefix(tablesRef) && !typed[path] {
				typed[path] = true // told once
				all = append(all, in.at(ref[0].Location, "the tables are read, and nothing checks that what is read of them is there",
					"write `# schemas:` and `#   - data.tables: schema.tables` into the METADATA of the package"))
			}
			return false
		})
	}
	return all
}

var tablesRef = ast.MustParseRef("data.tables")

func (in *inspection) parseFault(fault *ast.Error) Finding {
	text, hint := plain(fault.Message), ""
	switch {
	case strings.HasPrefix(text, "yaml: "):
		text = "the METADATA cannot be read: " + strings.TrimPrefix(text, "yaml: ")
		hint = "a text with a colon in it needs quotes: `# title: \"Basis: a grant\"`"
	case strings.Contains(text, "`if` keyword is required"):
		hint = "write `if` before the opening brace"
	case strings.Contains(text, "`contains` keyword is required"):
		hint = "write `name contains value if { … }`"
	case strings.HasPrefix(text, "unexpected"):
		hint = "often a bracket, a quote or an operator is missing in this line or the one before"
	}
	if first, rest, found := strings.Cut(text, ": expected "); found && len(rest) > 120 {
		text = first // a list of everything that the grammar knows helps nobody
	}
	return in.at(fault.Location, text, hint)
}

var (
	unsafeVar  = regexp.MustCompile(`^var (\S+) is unsafe`)
	unused     = regexp.MustCompile(`^(import|assigned var|declared var|unused argument) (\S+)`)
	recursive  = regexp.MustCompile(`^rule \S+ is recursive: (.*)$`)
	undefinedF = regexp.MustCompile(`^undefined function (\S+)`)
	generated  = regexp.MustCompile(`\[?__[a-z]\w*__\]?`)
)

// plain takes out of a message the names that only the compiler knows.
func plain(said string) string {
	said = strings.ReplaceAll(said, "data.partial.", "data.")
	return generated.ReplaceAllStringFunc(said, func(name string) string {
		if strings.HasPrefix(name, "[") {
			return "[_]"
		}
		return "it"
	})
}

func (in *inspection) compileFault(fault *ast.Error) Finding {
	text, hint := plain(fault.Message), ""
	if m := unsafeVar.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("nothing gives `%s` a value", m[1])
		hint = didYouMean(m[1], in.namesIn(fault.Location))
		if !strings.HasPrefix(hint, "did you mean") {
			hint = "import it, or name a rule of this package; a name of one's own is made with `some` or `:=`"
		}
	}
	if m := unused.FindStringSubmatch(text); m != nil && strings.Contains(text, "unused") {
		what := map[string]string{"import": "is imported", "assigned var": "gets a value", "declared var": "is declared", "unused argument": "is an argument"}[m[1]]
		text, hint = fmt.Sprintf("`%s` %s and is not used", strings.TrimSuffix(m[2], "."), what), "take it out"
	}
	if m := recursive.FindStringSubmatch(text); m != nil {
		names := strings.Split(m[1], " -> ")
		slices.Sort(names)
		text, hint = "rules need each other in a circle: "+strings.Join(slices.Compact(names), ", "), "a rule may not rest on itself"
	}
	return in.at(fault.Location, text, hint)
}

// typeFault puts an error of the type checker into words, with what was meant
// where a name is nearly right.
func (in *inspection) typeFault(fault *ast.Error) Finding {
	text, hint := plain(fault.Message), ""
	switch d := fault.Details.(type) {
	case *ast.RefErrInvalidDetail:
		var words []string
		for _, v := range d.OneOf {
			if s, ok := v.(ast.String); ok {
				words = append(words, string(s))
			}
		}
		word := strings.Trim(d.Ref[d.Pos].String(), `"`)
		text = fmt.Sprintf("there is no `%s` in `%s`", word, plain(d.Ref[:d.Pos].String()))
		hint = didYouMean(word, words)
		if loc := d.Ref[d.Pos].Location; loc != nil && loc.Row == fault.Location.Row {
			return in.at(loc, text, hint)
		}
	case *ast.RefErrUnsupportedDetail:
		text = fmt.Sprintf("`%s` has no members: it is %s", plain(d.Ref[:d.Pos+1].String()), kindOf(d.Have))
	case *ast.UnificationErrDetail:
		text = fmt.Sprintf("these can never be equal: %s and %s", kindOf(d.Left), kindOf(d.Right))
		hint = "`true` and `false` stand without quotes, words with them"
	case *ast.ArgErrDetail:
		function, _, _ := strings.Cut(text, ":")
		text = fmt.Sprintf("`%s` does not take %s", function, kindsOf(d.Have))
		hint = "it wants " + d.Want.String()
	default:
		if m := undefinedF.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("there is no function `%s`", m[1])
			hint = didYouMean(m[1], in.functions())
		}
		if schema, ok := strings.CutPrefix(text, "undefined schema: "); ok {
			var names []string
			for name := range in.bundle.Schemas {
				names = append(names, "schema."+name)
			}
			text, hint = fmt.Sprintf("there is no `%s` in schemas/", schema), didYouMean(schema, names)
		}
	}
	return in.at(fault.Location, text, hint)
}

func kindOf(t types.Type) string {
	switch t := t.(type) {
	case types.Boolean:
		return "true or false"
	case types.String:
		return "a text"
	case types.Number:
		return "a number"
	case types.Null:
		return "null"
	case *types.Array:
		return "a list"
	case *types.Set:
		return "a set"
	case *types.Object:
		return "an object"
	case *types.Function:
		return "a function"
	case types.Any:
		return "one of several kinds"
	default:
		return types.Sprint(t)
	}
}

func kindsOf(all []types.Type) string {
	var out []string
	for _, t := range all {
		out = append(out, kindOf(t))
	}
	return strings.Join(out, " and ")
}

// namesIn lists the names that a place could have meant: the rules and imports
// of its file.
func (in *inspection) namesIn(loc *ast.Location) []string {
	module := in.modules[strings.TrimPrefix(loc.File, "/")]
	if module == nil {
		return nil
	}
	var names []string
	for _, rule := range module.Rules {
		names = append(names, rule.Head.Name.String())
	}
	for name := range importsOf(module) {
		names = append(names, name)
	}
	return names
}

// functions lists the functions of the policy and those builtins that can be
// translated.
func (in *inspection) functions() []string {
	names := slices.Clone(translatable)
	for _, module := range in.modules {
		for _, rule := range module.Rules {
			if len(rule.Head.Args) > 0 {
				names = append(names, rule.Head.Name.String(), rule.Ref().String())
			}
		}
	}
	return names
}
