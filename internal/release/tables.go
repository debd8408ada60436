package release

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"go.yaml.in/yaml/v3"
)

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

func hasData(data any, ref ast.Ref) bool { return dataAt(data, ref) != nil }

// dataAt is what stands at a path of data; nil where nothing does.
func dataAt(data any, ref ast.Ref) any {
	for _, term := range ref {
		object, ok := data.(map[string]any)
		if !ok {
			return nil
		}
		key, ok := term.Value.(ast.String)
		if !ok {
			return nil
		}
		if data, ok = object[string(key)]; !ok {
			return nil
		}
	}
	return data
}

// tables holds the tables to their schema, and every code to its sentences.
func (in *inspection) tables(ctx context.Context) ([]Finding, string, error) {
	tables, _ := in.bundle.Data["tables"].(map[string]any)
	faults, err := matchSchema(ctx, tables, in.bundle.Schemas["tables"])
	if err != nil {
		return nil, "", err
	}
	var all []Finding
	misspelt := map[string]bool{} // where a name stands that is not known, one that is missing is no news
	for _, fault := range faults {
		misspelt[fault.field] = misspelt[fault.field] || fault.property != ""
	}
	for _, fault := range faults {
		if fault.kind != "required" || !misspelt[fault.field] {
			all = append(all, in.misfit(fault))
		}
	}
	if len(all) > 0 {
		return all, "", nil
	}
	reasons, _ := tables["reasons"].(map[string]any)
	ordered := map[string]bool{}
	for _, list := range []string{"bases", "denials"} {
		codes, _ := dataAt(tables, ast.MustParseRef("x.order." + list)[1:]).([]any)
		for i, code := range codes {
			ordered[fmt.Sprint(code)] = true
			if reasons[fmt.Sprint(code)] == nil {
				all = append(all, in.inTable([]string{"order", list, strconv.Itoa(i)}, fmt.Sprintf("`%s` has no sentences", code), "write them in tables/reasons/data.yaml"))
			}
		}
	}
	if len(all) > 0 {
		return all, "", nil
	}
	for _, code := range slices.Sorted(maps.Keys(reasons)) {
		if !ordered[code] {
			all = append(all, in.inTable([]string{"reasons", code}, fmt.Sprintf("`%s` is in neither list of tables/order", code), didYouMean(code, slices.Collect(maps.Keys(ordered)))))
		}
	}
	return all, fmt.Sprintf("%d tables", len(in.nodes)), nil
}

// misfit says where a table does not fit its schema, and what was meant.
func (in *inspection) misfit(fault schemaFault) Finding {
	at := in.pathOf(fault.field)
	hint := ""
	switch fault.kind {
	case "additional_property_not_allowed":
		at = append(at, fault.property)
		if schema := within(in.bundle.Schemas["tables"], at[:len(at)-1]); schema != nil {
			hint = didYouMean(fault.property, slices.Collect(maps.Keys(asMap(schema["properties"]))))
		}
	case "enum":
		if schema := within(in.bundle.Schemas["tables"], at); schema != nil {
			word := fmt.Sprint(valueAt(in.bundle.Data["tables"], at))
			fault.desc, hint = fmt.Sprintf("`%s` is none of the words that can stand here", word), didYouMean(word, wordsOf(schema))
		}
	}
	return in.inTable(at, fault.desc, hint)
}

// pathOf splits what a validator calls a field. Names of actions have dots, too,
// so it follows the tables as they are.
func (in *inspection) pathOf(field string) []string {
	if field == "(root)" {
		return nil
	}
	var at any = in.bundle.Data["tables"]
	var out []string
	for field != "" {
		found := ""
		switch v := at.(type) {
		case map[string]any:
			for key := range v {
				if (field == key || strings.HasPrefix(field, key+".")) && len(key) > len(found) {
					found = key
				}
			}
			at = v[found]
		case []any:
			found, _, _ = strings.Cut(field, ".")
			if i, err := strconv.Atoi(found); err == nil && i < len(v) {
				at = v[i]
			}
		}
		if found == "" {
			return out
		}
		out = append(out, found)
		field = strings.TrimPrefix(strings.TrimPrefix(field, found), ".")
	}
	return out
}

// valueAt is what stands at a path of the tables.
func valueAt(v any, at []string) any {
	for _, part := range at {
		switch here := v.(type) {
		case map[string]any:
			v = here[part]
		case []any:
			if i, err := strconv.Atoi(part); err == nil && i < len(here) {
				v = here[i]
			}
		}
	}
	return v
}

// inTable makes a finding about a place in the tables.
func (in *inspection) inTable(at []string, text, hint string) Finding {
	file, line, column := in.lineOf(append([]string{"tables"}, at...))
	return in.onLine(file, line, column, text, hint)
}

// lineOf finds the line at which a path of the data is written, or the nearest
// that is.
func (in *inspection) lineOf(at []string) (file string, line, column int) {
	for n := len(at); n > 0; n-- {
		name := path.Join(at[:n]...) + "/data.yaml"
		node := in.nodes[name]
		if node == nil {
			continue
		}
		here := node.Content[0]
		for _, part := range at[n:] {
			key, next := child(here, part)
			if next == nil {
				break
			}
			line, column, here = key.Line, key.Column, next
		}
		return name, line, column
	}
	return path.Join(at[:min(2, len(at))]...), 0, 0
}

// child finds a member or an element of a YAML node, and where it begins.
func child(node *yaml.Node, part string) (key, value *yaml.Node) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == part {
				return node.Content[i], node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(part); err == nil && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	}
	return nil, nil
}

// schemaFault is one place at which a document does not fit a JSON Schema.
type schemaFault struct {
	field, kind, desc string
	property          string // that is not allowed
}

// matchSchema says where document does not fit a JSON Schema.
func matchSchema(ctx context.Context, document, schema any) ([]schemaFault, error) {
	results, err := rego.New(rego.Query("fault = json.match_schema(input.document, input.schema)[1][_]"),
		rego.Input(map[string]any{"document": document, "schema": schema}), rego.StrictBuiltinErrors(true)).Eval(ctx)
	if err != nil {
		return nil, fmt.Errorf("check schema: %w", err)
	}
	var all []schemaFault
	for _, r := range results {
		told := asMap(r.Bindings["fault"])
		fault := schemaFault{field: fmt.Sprint(told["field"]), kind: fmt.Sprint(told["type"]), desc: fmt.Sprint(told["desc"])}
		if rest, ok := strings.CutPrefix(fault.desc, "Additional property "); ok {
			fault.property = strings.TrimSuffix(rest, " is not allowed")
			fault.desc = fmt.Sprintf("there is no `%s` here", fault.property)
		}
		all = append(all, fault)
	}
	return all, nil
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// within is the schema of what stands at a path under schema; nil where it says
// nothing of it. The part "[]" is any member or element.
func within(schema any, at []string) map[string]any {
	here := asMap(schema)
	for _, part := range at {
		next := asMap(asMap(here["properties"])[part])
		if next == nil {
			next = asMap(here["additionalProperties"])
		}
		if next == nil {
			next = asMap(here["items"])
		}
		if next == nil {
			return nil
		}
		here = next
	}
	return here
}

// wordsOf lists the words of an enumeration.
func wordsOf(schema map[string]any) []string {
	list, _ := schema["enum"].([]any)
	var words []string
	for _, w := range list {
		if s, ok := w.(string); ok {
			words = append(words, s)
		}
	}
	return words
}
