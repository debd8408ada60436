package release

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A text that says why (METADATA custom.because): parts in [brackets] are left
// out where one of their {facts} is not known.
var (
	aside       = regexp.MustCompile(`\[[^\[\]]*\]`)
	placeholder = regexp.MustCompile(`\{([a-z_.]+)\}`)
)

// because asks of every rule that a basis or a denial rests on that it says why
// in words for people, and of every such text that its placeholders are facts:
// one that is misspelt would read "unknown".
func (in *inspection) because() []Finding {
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(in.modules)) {
		for _, rule := range in.modules[name].Rules {
			all = append(all, in.becauseIn(name, rule)...)
		}
	}
	return all
}

func (in *inspection) becauseIn(name string, rule *ast.Rule) []Finding {
	var all []Finding
	find := func(text, hint string) { all = append(all, in.at(rule.Location, text, hint).of(rule)) }
	text := pdp.BecauseOf(rule)
	if text == "" {
		if strings.HasPrefix(name, "rules/") && !strings.HasPrefix(rule.Head.Name.String(), "_") {
			find(fmt.Sprintf("rule %s needs METADATA with custom.because", rule.Head.Name), "it is what explanations say: write why, in a few words, such as `the client is assigned to {member.user}`")
		}
		return all
	}
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		if _, shown := pdp.Displayed[found[1]]; !shown && !isFact(in.bundle.Schemas["input"], strings.Split(found[1], ".")) {
			find(fmt.Sprintf("custom.because: there is no fact {%s}", found[1]), didYouMean(found[1], in.factNames()))
		}
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(aside.ReplaceAllStringFunc(text, func(part string) string {
		return part[1 : len(part)-1]
	}), ""), "[]{}") {
		find("custom.because: want {fact} and [part], neither of them inside its own kind", "")
	}
	return all
}

// factNames lists what a text can show: the facts, and those that are shown only.
func (in *inspection) factNames() []string {
	names := slices.Collect(maps.Keys(pdp.Displayed))
	for table, schema := range asMap(asMap(in.bundle.Schemas["input"])["properties"]) {
		for name := range asMap(asMap(schema)["properties"]) {
			names = append(names, table+"."+name)
		}
	}
	return names
}

// isFact reports whether the schema of the facts document names a place.
func isFact(schema any, path []string) bool {
	for _, name := range path {
		m, _ := schema.(map[string]any)
		properties, _ := m["properties"].(map[string]any)
		if schema = properties[name]; schema == nil {
			return false
		}
	}
	return true
}
