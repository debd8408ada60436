package release

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/compile"
)

func sortedActions(p *compile.Policy) []string { return slices.Sorted(maps.Keys(p.Actions)) }

// brief writes a facts document in one line: who asks, and what is on file,
// without the settings.
func brief(document map[string]any) string {
	var out []string
	for _, table := range []string{"subject", "member", "resource", "client", "grant", "portal"} {
		members := asMap(document[table])
		if members == nil {
			out = append(out, "no "+table)
			continue
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if text := short(members[name]); !slices.Contains([]string{"", "false", "[]", "{}"}, text) {
				parts = append(parts, name+" "+text)
			}
		}
		out = append(out, table+" {"+strings.Join(parts, ", ")+"}")
	}
	return strings.Join(out, ", ")
}

func short(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}
