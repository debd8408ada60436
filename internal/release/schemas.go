package release

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
)

// Schemas returns the schemas of a folder of policies as one JSON document, by
// name: what a rule can read, and what a table can hold. It depends on no
// language and no editor.
func Schemas(policies fs.FS) ([]byte, error) {
	names, err := fs.Glob(policies, "schemas/*.json")
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("schemas: there is no schemas/*.json (%v)", err)
	}
	all := map[string]json.RawMessage{}
	for _, name := range names {
		raw, err := fs.ReadFile(policies, name)
		if err != nil {
			return nil, fmt.Errorf("schemas: %w", err)
		}
		all[strings.TrimSuffix(strings.TrimPrefix(name, "schemas/"), ".json")] = raw
	}
	out, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schemas: %w", err)
	}
	return append(out, '\n'), nil
}

// Example returns a facts document that holds every fact there is, made of the
// schema: what editors complete facts from, and evaluate rules on. It is one
// that no request has, since staff and a portal login stand in it together.
func Example(policies fs.FS) ([]byte, error) {
	raw, err := fs.ReadFile(policies, "schemas/input.json")
	if err != nil {
		return nil, fmt.Errorf("example: %w", err)
	}
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, fmt.Errorf("example: schemas/input.json: %w", err)
	}
	out, err := json.MarshalIndent(exampleOf(schema, ""), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("example: %w", err)
	}
	return append(out, '\n'), nil
}

// said are the values of the example that make sense together.
var said = map[string]any{
	"subject.id": "practitioner-1", "member.id": "membership-1", "member.user": "practitioner-1", "member.practice": "practice-1",
	"member.roles": []string{"practitioner"}, "member.status": "active", "member.billing_enabled": true,
	"action.name": "chart.open", "resource.id": "client-1",
	"resource.properties.client": "client-1", "resource.properties.author": "practitioner-1", "resource.properties.kind": "progress",
	"resource.properties.recipient": "client", "resource.properties.practice": "practice-1",
	"client.id": "client-1", "client.practice": "practice-1", "client.assigned": "practitioner-1",
	"grant.not_before": "2026-03-01T10:00:00.000000Z", "grant.expires_at": "9999-12-31T23:59:59.999999Z",
	"portal.contact": "contact-1", "portal.enabled": true,
	"context.purpose": "treatment", "context.portal_profile": "client-1",
}

func exampleOf(schema map[string]any, at string) any {
	if v, ok := said[at]; ok {
		return v
	}
	if words := wordsOf(schema); len(words) > 0 {
		return words[0]
	}
	switch schema["type"] {
	case "object":
		out := map[string]any{}
		for name, inner := range asMap(schema["properties"]) {
			out[name] = exampleOf(asMap(inner), strings.TrimPrefix(at+"."+name, "."))
		}
		return out
	case "array":
		return []any{exampleOf(asMap(schema["items"]), at+"."+element)}
	case "boolean":
		return false
	case "integer", "number":
		return 0
	}
	if schema["pattern"] != nil {
		return "2026-03-02T10:00:00.000000Z"
	}
	return at[strings.LastIndexByte(at, '.')+1:] + "-1"
}
