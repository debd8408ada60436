package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"go.yaml.in/yaml/v3"
)

// maxPolicies is the size of the largest folder of policies that is checked, in
// bytes.
const maxPolicies = 16 << 20

// read reads the files, and the tables and schemas among them.
func (in *inspection) read(context.Context) ([]Finding, string, error) {
	in.files, in.nodes = map[string][]byte{}, map[string]*yaml.Node{}
	size := 0
	err := fs.WalkDir(in.policies, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && name != ".":
			return fs.SkipDir
		case entry.IsDir() || !slices.Contains([]string{".rego", ".yaml", ".yml", ".json"}, path.Ext(name)):
			return nil
		}
		if in.files[name], err = fs.ReadFile(in.policies, name); err != nil {
			return err
		}
		if size += len(in.files[name]); size > maxPolicies {
			return fmt.Errorf("the policies are more than %d bytes", maxPolicies)
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.files)) {
		base := path.Base(name)
		switch isSchema, _ := path.Match("schemas/*.json", name); {
		case isSchema:
			all = append(all, in.readSchema(name)...)
		case base == "data.yaml":
			all = append(all, in.readTable(name)...)
		case base == "data.json", base == "data.yml":
			all = append(all, Finding{File: name, Text: "a bundle would leave this table out", Hint: "name it data.yaml"})
		}
	}
	for _, name := range []string{"schemas/input.json", "schemas/tables.json"} {
		if in.files[name] == nil {
			all = append(all, Finding{File: name, Text: "the schema is missing: no rule could be checked against it"})
		}
	}
	return all, fmt.Sprintf("%d files", len(in.files)), nil
}

func (in *inspection) readSchema(name string) []Finding {
	var schema map[string]any
	err := json.Unmarshal(in.files[name], &schema)
	if err == nil {
		return nil
	}
	line := 0
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line = 1 + bytes.Count(in.files[name][:min(int(syntax.Offset), len(in.files[name]))], []byte("\n"))
	}
	return []Finding{in.onLine(name, line, 0, "it is no JSON: "+err.Error(), "")}
}

func (in *inspection) readTable(name string) []Finding {
	var node yaml.Node
	var table map[string]any
	err := yaml.Unmarshal(in.files[name], &node)
	if err == nil {
		err = node.Decode(&table)
	}
	if err != nil {
		return []Finding{in.yamlFault(name, err)}
	}
	in.nodes[name] = &node
	return nil
}

var (
	yamlLine   = regexp.MustCompile(`line (\d+): `)
	duplicate  = regexp.MustCompile(`mapping key "(.*)" already defined at line (\d+)`)
	notAField  = regexp.MustCompile(`field (\S+) not found in type \S+`)
	wrongValue = regexp.MustCompile("cannot unmarshal !!(\\w+)(?: `(.*)`)? into (.*)")
)

// yamlFault says what is wrong with a YAML file, at the first place.
func (in *inspection) yamlFault(name string, err error) Finding {
	line := 0
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	text, hint := yamlText(err.Error())
	return in.onLine(name, line, 0, text, hint)
}

// yamlText puts an error of the YAML library into words that need no knowledge
// of the program.
func yamlText(said string) (text, hint string) {
	said = strings.TrimPrefix(said, "yaml: ")
	said = strings.TrimSpace(strings.TrimPrefix(said, "unmarshal errors:"))
	said, _, _ = strings.Cut(said, "\n")
	said = yamlLine.ReplaceAllString(said, "")
	if m := duplicate.FindStringSubmatch(said); m != nil {
		return fmt.Sprintf("`%s` stands here a second time; the first is in line %s", m[1], m[2]), "put the two together"
	}
	if m := notAField.FindStringSubmatch(said); m != nil {
		return fmt.Sprintf("there is no `%s` here", m[1]), didYouMean(m[1], caseWords)
	}
	if m := wrongValue.FindStringSubmatch(said); m != nil {
		return "it is not written as this place wants it", "README.md of the policies shows how a case is written"
	}
	if strings.Contains(said, "mapping values are not allowed") {
		return said, "often the line before has no colon at its end, or a text with a colon in it has no quotes"
	}
	return said, ""
}

// parse reads the rules, and then the whole as a bundle is read.
func (in *inspection) parse(context.Context) ([]Finding, string, error) {
	in.modules, in.beside, in.testing = map[string]*ast.Module{}, map[string]*ast.Module{}, map[string]*ast.Module{}
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.files)) {
		if path.Ext(name) != ".rego" {
			continue
		}
		module, err := ast.ParseModuleWithOpts(name, string(in.files[name]), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		var faults ast.Errors
		var fault *ast.Error
		switch {
		case errors.As(err, &faults):
			all = append(all, in.parseFault(faults[0])) // what follows the first is often only its echo
		case errors.As(err, &fault):
			all = append(all, Finding{File: name, Text: plain(fault.Message), Hint: "a file of rules begins with `package` and its name"})
		case err != nil:
			all = append(all, Finding{File: name, Text: err.Error()})
		case strings.HasSuffix(name, "_test.rego"):
			in.testing[name] = module
		case strings.HasPrefix(name, "properties/"):
			in.beside[name] = module
		default:
			in.modules[name] = module
		}
	}
	if len(all) > 0 {
		return all, "", nil
	}
	var err error
	if in.bundle, err = pdp.ReadFolder(in.policies); err != nil {
		return []Finding{{File: ".", Text: err.Error()}}, "", nil
	}
	detail := fmt.Sprintf("%d files of rules, %d of tests", len(in.modules), len(in.testing))
	packed, err := Build(in.policies)
	if err != nil {
		if _, broken := ReadCases(in.policies); broken != nil {
			return nil, detail, nil // the step of the cases says what is wrong with them
		}
		return []Finding{{File: ".", Text: err.Error()}}, "", nil
	}
	made, err := pdp.ReadArchive(packed)
	if err != nil {
		return []Finding{{File: ".", Text: err.Error()}}, "", nil
	}
	in.revision = made.Revision
	return nil, detail, nil
}

// format compares each file with what opa fmt makes of it.
func (in *inspection) format(context.Context) ([]Finding, string, error) {
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.files)) {
		if path.Ext(name) != ".rego" {
			continue
		}
		formatted, err := Format(name, in.files[name])
		if err != nil {
			return nil, "", err
		}
		if line := firstDifference(in.files[name], formatted); line > 0 {
			all = append(all, in.onLine(name, line, 0, "is not formatted as opa fmt does", "`chartgate policy format` puts it right"))
		}
	}
	return all, "", nil
}

// Format writes a file of rules as opa fmt does.
func Format(name string, source []byte) ([]byte, error) {
	formatted, err := format.SourceWithOpts(name, source, format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, fmt.Errorf("format %s: %w", name, err)
	}
	return formatted, nil
}

// firstDifference is the first line of a that differs from b; 0 where none does.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range x {
		if i >= len(y) || !bytes.Equal(x[i], y[i]) {
			return i + 1
		}
	}
	return len(x)
}

// capabilities finds what would make two evaluations differ, or ask the world.
// The engine compiles without these builtins; here they are told by name.
func (in *inspection) capabilities(context.Context) ([]Finding, string, error) {
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.modules)) {
		calls(in.modules[name], func(loc *ast.Location, called string) {
			builtin := ast.BuiltinMap[called]
			if builtin == nil || !builtin.IsNondeterministic() && !strings.HasPrefix(called, "net.lookup") {
				return
			}
			hint := "a rule may use what stands in the facts document only; what is missing there must be loaded before"
			switch {
			case strings.HasPrefix(called, "time."):
				hint = "the time is `input.context.now`"
			case strings.HasPrefix(called, "rand.") || strings.HasPrefix(called, "uuid."):
				hint = "the same request and facts must always give the same answer"
			}
			all = append(all, in.at(loc, fmt.Sprintf("`%s` is not possible in a policy", called), hint))
		})
	}
	return all, "", nil
}

// calls calls visit for every builtin or function that is called.
func calls(in any, visit func(loc *ast.Location, called string)) {
	ast.WalkExprs(in, func(e *ast.Expr) bool {
		if e.IsCall() {
			visit(e.Location, e.Operator().String())
		}
		return false
	})
	ast.WalkTerms(in, func(t *ast.Term) bool {
		if nested, ok := t.Value.(ast.Call); ok {
			visit(t.Location, nested[0].Value.(ast.Ref).String())
		}
		return false
	})
}
