package control

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/web"

	"github.com/getkin/kin-openapi/openapi3"
)

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsOpenAPI31(t *testing.T) {
	doc := loadDocument(t)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version %s", doc.OpenAPI)
	}
	if err := doc.Validate(context.Background(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Error(err)
	}
}

// Every route is described, and every description has a route.
func TestDocumentDescribesEveryRoute(t *testing.T) {
	d := setup(t)
	served, described := map[string]bool{}, map[string]bool{}
	for _, route := range d.App.GetRoutes(true) {
		if route.Method == "HEAD" {
			continue
		}
		var parts []string
		for part := range strings.SplitSeq(route.Path, "/") {
			if name, isParam := strings.CutPrefix(part, ":"); isParam {
				part = "{" + name + "}"
			}
			parts = append(parts, part)
		}
		served[route.Method+" "+strings.Join(parts, "/")] = true
	}
	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	if !maps.Equal(served, described) {
		t.Errorf("served    %v\ndescribed %v", slices.Sorted(maps.Keys(served)), slices.Sorted(maps.Keys(described)))
	}
}

func TestDocumentKnowsEverySetting(t *testing.T) {
	schemas := loadDocument(t).Components.Schemas
	var names []string
	for _, s := range authz.Catalogue {
		names = append(names, s.Name)
	}
	for where, properties := range map[string]openapi3.Schemas{
		"Settings":        schemas["Settings"].Value.Properties["settings"].Value.Properties,
		"SettingsRequest": schemas["SettingsRequest"].Value.Properties["overrides"].Value.Properties,
	} {
		if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, names) {
			t.Errorf("%s: %v, want %v", where, got, names)
		}
	}
	if got := schemas["Settings"].Value.Properties["preset"].Value.Enum; len(got) != len(authz.Presets) {
		t.Errorf("presets: %v", got)
	}
}

func TestOpenRoutes(t *testing.T) {
	d := setup(t, func(o *Options) {
		o.Checks = []web.Check{{Name: "database", Hint: "the database does not answer", Probe: func(context.Context) error { return errors.New("down") }}}
	})
	stranger := &desk{Server: d.Server, t: t}
	if a := d.ok(stranger.call("GET", "/openapi.json", ""), 200); string(a.text) != string(openAPI) {
		t.Error("another document is served")
	}
	d.ok(stranger.call("GET", "/livez", ""), 200)
	if a := stranger.call("GET", "/readyz", ""); a.StatusCode != 503 || a.body["ready"] != false {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	d.refused(stranger.call("GET", "/metrics", ""), 401, "no-caller")
	if a := d.ok(d.call("GET", "/metrics", ""), 200); !strings.Contains(string(a.text), "http_request_duration_seconds") {
		t.Errorf("%.200s", a.text)
	}
}
