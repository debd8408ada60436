package release

import (
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestPoliciesAreInOrder(t *testing.T) {
	findings, err := Check(t.Context(), os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}

// edited is a copy of the policies in which one file has new in the place of old.
func edited(t *testing.T, name, old, new string) fstest.MapFS {
	t.Helper()
	folder := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS(policies), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(policies + "/" + name)
		folder[name] = &fstest.MapFile{Data: raw}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	file, ok := folder[name]
	if !ok || !strings.Contains(string(file.Data), old) {
		t.Fatalf("there is no %q in %s", old, name)
	}
	file.Data = []byte(strings.Replace(string(file.Data), old, new, 1))
	return folder
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	const assigned, grants = "rules/assigned/assigned.rego", "rules/grants/grants.rego"
	for _, test := range []struct{ what, file, old, new, finding string }{
		{"spaces", assigned, "permit if {", "permit  if {", "is not formatted"},
		{"no title", assigned, "# title: The assigned practitioner writes notes\n", "", "rule permit needs METADATA with a title"},
		{"no id", assigned, "#   id: assigned_notes\n", "", "rule permit needs METADATA with custom.id"},
		{"an id twice", assigned, "id: assigned_notes", "id: assigned_billing", "id assigned_billing is taken by"},
		{"no description of a package", assigned, "# title: The assigned practitioner\n", "", "the package needs a title"},
		{"no reason in words", "rules/archived/archived.rego", "because:", "said:", "rule archived needs METADATA with custom.because"},
		{"a reason with a misspelt fact", grants, "{grant.granted_by}", "{grant.given_by}", "there is no fact {grant.given_by}"},
		{"a reason with half a part", grants, "[, given by", ", given by", "neither of them inside"},
		{"a misspelt fact", assigned, "input.client.assigned ==", "input.client.asigned ==", "undefined ref: input.client.asigned"},
		{"a misspelt setting", assigned, "input.settings.access_managers", "input.settings.acces_managers", "undefined ref: input.settings.acces_managers"},
		{"a misspelt fact through a helper", "lib/notes.rego", "input.resource.properties.author", "input.resource.properties.autor", "undefined ref: input.resource.properties.autor"},
		{"a misspelt list", assigned, "roles.assigned.always", "roles.assigned.allways", "undefined ref: data.tables.roles.assigned.allways"},
		{"a misspelt rule", "authz/authz.rego", "rules.grants.permit", "rules.grants.permitt", "data.rules.grants.permitt leads nowhere"},
		{"a misspelt topic", "authz/authz.rego", "rules.grants.permit", "rules.grant.permit", "data.rules.grant.permit leads nowhere"},
		{"a flag compared with a word", "lib/member.rego", "billing_enabled == true", `billing_enabled == "true"`, "match error"},
		{"an unused import", assigned, "import data.lib.notes", "import data.lib.notes\nimport data.lib.request", "import data.lib.request unused"},
		{"else", grants, "_scope_collaborates if input.grant.scope == \"collaborate\"", "_scope_collaborates if input.grant.scope == \"collaborate\"\n\nelse := false", "else cannot be translated"},
		{"with", grants, "\t_in_force\n\t_scope_views\n", "\t_in_force with input.action.name as \"x\"\n\t_scope_views\n", "with cannot be translated"},
		{"count", assigned, "\tmember.practitioner\n", "\tcount(input.member.roles) > 0\n", "count cannot be translated"},
		{"the clock", grants, "input.grant.not_before <= input.context.now", "time.now_ns() > 0", "undefined function time.now_ns"},
		{"a list that no rule reads", "tables/roles/data.yaml", "  own_or_unsigned_notes:", "  own_or_unsigned_note:", "own_or_unsigned_note"},
		{"an unknown type of resource", "tables/actions/data.yaml", "chart.open: {on: client}", "chart.open: {on: chart}", "on must be one of"},
		{"a sentence that is missing", "tables/reasons/data.yaml", "  user: You do not have access.\n", "", "user is required"},
	} {
		t.Run(test.what, func(t *testing.T) {
			findings, err := Check(t.Context(), edited(t, test.file, test.old, test.new))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if strings.Contains(f.String(), test.finding) {
					return
				}
			}
			t.Errorf("want %q, got %v", test.finding, findings)
		})
	}
}
