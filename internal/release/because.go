package release

import (
	"fmt"
	"regexp"
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

// checkBecause asks of every rule that a basis or a denial rests on that it says
// why in words for people, and of every such text that its placeholders are
// facts: one that is misspelt would read "unknown".
func checkBecause(name string, b *pdp.Bundle) []Finding {
	var all []Finding
	for _, rule := range b.Modules[name].Rules {
		text := becauseOf(rule)
		line := rule.Loc().Row
		public := strings.HasPrefix(name, "rules/") && !strings.HasPrefix(rule.Head.Name.String(), "_")
		if text == "" {
			if public {
				all = append(all, Finding{name, line, fmt.Sprintf("rule %s needs METADATA with custom.because: it is what explanations say", rule.Head.Name)})
			}
			continue
		}
		for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
			if _, shown := pdp.Displayed[found[1]]; !shown && !isFact(b.Schemas["input"], strings.Split(found[1], ".")) {
				all = append(all, Finding{name, line, fmt.Sprintf("custom.because: there is no fact {%s}", found[1])})
			}
		}
		if strings.ContainsAny(placeholder.ReplaceAllString(aside.ReplaceAllStringFunc(text, func(part string) string {
			return part[1 : len(part)-1]
		}), ""), "[]{}") {
			all = append(all, Finding{name, line, "custom.because: want {fact} and [part], neither of them inside its own kind"})
		}
	}
	return all
}

func becauseOf(rule *ast.Rule) string {
	text := ""
	for _, a := range rule.Annotations {
		if s, ok := a.Custom["because"].(string); ok {
			text = s
		}
	}
	return text
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
