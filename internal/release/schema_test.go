package release

import (
	"maps"
	"os"
	"slices"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

func inputSchema(t *testing.T) map[string]any {
	t.Helper()
	bundle, err := pdp.LoadBundle(policies)
	if err != nil {
		t.Fatal(err)
	}
	return bundle.Schemas["input"].(map[string]any)
}

// TestFactsFitTheirSchema: every document of a case that is about a sound
// request fits the schema that the rules are checked against.
func TestFactsFitTheirSchema(t *testing.T) {
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	var documents []any
	for _, c := range cases {
		if !c.Odd && c.Want.Code != "bad_input" && c.Want.Code != "unknown_action" {
			documents = append(documents, c.Document)
		}
	}
	faults, err := matchSchema(t.Context(), documents, map[string]any{"type": "array", "minItems": 2000, "items": inputSchema(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault.field, fault.desc)
	}
	odd := authz.Document(authz.Request{}, authz.Facts{})
	if faults, err := matchSchema(t.Context(), odd, inputSchema(t)); err != nil || len(faults) == 0 {
		t.Errorf("an empty request fits the schema: %v, %v", faults, err)
	}
}

// TestSchemaKnowsEverySetting compares the schema with the catalogue of
// settings: the same names, types and words.
func TestSchemaKnowsEverySetting(t *testing.T) {
	properties := inputSchema(t)["properties"].(map[string]any)["settings"].(map[string]any)["properties"].(map[string]any)
	var names []string
	for _, setting := range authz.Catalogue {
		names = append(names, setting.Name)
		schema, ok := properties[setting.Name].(map[string]any)
		if !ok {
			t.Errorf("the schema has no setting %s", setting.Name)
			continue
		}
		var kind string
		words := schema["enum"]
		switch setting.Default.(type) {
		case bool:
			kind = "boolean"
		case string:
			kind = "string"
		case int64:
			kind = "integer"
		default:
			kind = "array"
			words = schema["items"].(map[string]any)["enum"]
		}
		if schema["type"] != kind {
			t.Errorf("%s is of type %v, want %s", setting.Name, schema["type"], kind)
		}
		var enum []string
		list, _ := words.([]any)
		for _, word := range list {
			enum = append(enum, word.(string))
		}
		if !slices.Equal(enum, setting.Allowed) {
			t.Errorf("%s may be %v, want %v", setting.Name, enum, setting.Allowed)
		}
	}
	if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, names) {
		t.Errorf("the schema has the settings %v, want %v", got, names)
	}
}

// TestBasesAreTheVocabularys: the policy names the bases that the words do, in
// the same order.
func TestBasesAreTheVocabularys(t *testing.T) {
	bundle, err := pdp.LoadBundle(policies)
	if err != nil {
		t.Fatal(err)
	}
	var bases []string
	for _, basis := range bundle.Data["tables"].(map[string]any)["order"].(map[string]any)["bases"].([]any) {
		bases = append(bases, basis.(string))
	}
	if !slices.Equal(bases, authz.BasisOrder) {
		t.Errorf("tables/order has %v, want %v", bases, authz.BasisOrder)
	}
}
