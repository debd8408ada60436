package release

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// edit is one change to a file of the policies.
type edit struct{ file, old, new string }

// mistakes are eight that somebody can make in an edit, each with the steps that
// notice it.
var mistakes = []struct {
	name  string
	edits []edit
	check []string // steps of a check
	later []string // what else shows it, before anybody approves: properties, diff
	said  string   // in the finding of the first step
}{
	{"an inverted comparison", []edit{{"rules/grants/grants.rego", "input.context.latest < input.grant.expires_at", "input.context.latest > input.grant.expires_at"}},
		[]string{"cases"}, nil, "want allow because [client_grant]"},
	{"a forgotten expiry", []edit{{"rules/grants/grants.rego", "\tinput.context.latest < input.grant.expires_at\n", ""}},
		[]string{"cases"}, nil, "want deny because no_basis, got allow because [client_grant]"},
	{"a dropped practice check", []edit{{"lib/practice.rego", "\tinput.client.practice == input.member.practice\n", ""}},
		[]string{"cases"}, nil, "want deny because other_practice"},
	{"a misspelt role", []edit{{"lib/member.rego", `_holds("practitioner")`, `_holds("practicioner")`}},
		[]string{"words"}, nil, "`practicioner` is none of the words that `input.member.roles` can be; did you mean `practitioner`?"},
	{"a widened table row", []edit{{"tables/roles/data.yaml", "  clinical_documents:\n", "  clinical_documents:\n    - note.write\n"}},
		[]string{"cases"}, nil, "note.write"},
	{"a deleted denial", []edit{{"authz/authz.rego", "# METADATA\n# title: \"Denial: protected note\"\n# description: See rules/notes.\n# custom:\n#   id: denial_protected_note\ndenials contains \"protected_note\" if rules.notes.protected_note\n\n", ""}},
		[]string{"words", "reachable"}, nil, "no rule gives the answer `protected_note`"},
	{"a duplicated id", []edit{{"rules/grants/grants.rego", "id: grant_collaborate\n", "id: grant_view\n"}},
		[]string{"metadata"}, nil, "id grant_view is taken by rules/grants/grants.rego:"},
	{"not on an unknown", []edit{{"rules/archived/archived.rego", `_open if input.client.status == "active"`, `_open if not input.client.status == "archived"`}},
		[]string{"unknowns", "cases"}, nil, "where `input.client.status` is not known, appointment.manage (and "},
	{"a deleted denial, with all that belonged to it", []edit{
		{"authz/authz.rego", "# METADATA\n# title: \"Denial: protected note\"\n# description: See rules/notes.\n# custom:\n#   id: denial_protected_note\ndenials contains \"protected_note\" if rules.notes.protected_note\n\n", ""},
		{"rules/notes/notes.rego", "", ""},
		{"lib/notes.rego", "# METADATA\n# title: An ordinary note\n# description: Its kind is one that tables/notes calls ordinary.\n# custom:\n#   id: ordinary_note\nopen_to_read if input.resource.properties.kind in data.tables.notes.ordinary\n\n# METADATA\n# title: A note that he wrote himself\n# description: Protected notes are open to their author alone, if he has a basis on the client.\n# custom:\n#   id: own_protected_note\nopen_to_read if own\n", ""},
		{"tables/order/data.yaml", "  - protected_note\n", ""},
		{"tables/reasons/data.yaml", "protected_note:\n  admin: Denied because a protected note is open to its author alone.\n  user: Only its author may open this note.\n", ""},
	}, []string{"cases"}, nil, "want deny because protected_note"},
}

// TestEightMistakes makes each mistake in a copy of the shipped policy: it is
// caught, by the steps that are named, at the place where it was made.
func TestEightMistakes(t *testing.T) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			report, err := inspect(t.Context(), mistaken(t, m.edits), nil, stepsFor(m.check...))
			if err != nil {
				t.Fatal(err)
			}
			if report.OK {
				t.Fatal("it is not caught")
			}
			found := map[string][]Finding{}
			for _, s := range report.Steps {
				if len(s.Findings) > 0 {
					found[s.Name] = s.Findings
				}
			}
			for name := range found {
				if !slices.Contains(m.check, name) && name != "format" {
					t.Errorf("%s finds it, too: %s", name, found[name][0])
				}
			}
			for i, name := range m.check {
				if len(found[name]) == 0 {
					t.Errorf("%s does not find it", name)
					continue
				}
				t.Logf("%s: %s", name, found[name][0])
				if i == 0 && !slices.ContainsFunc(found[name], func(f Finding) bool { return strings.Contains(f.String(), m.said) }) {
					t.Errorf("want %q", m.said)
				}
			}
		})
	}
}

// mistaken is a copy of the policies with edits; one that replaces nothing takes
// the file away.
func mistaken(t *testing.T, edits []edit) fstest.MapFS {
	t.Helper()
	folder := edited(t, edits[0].file, edits[0].old, edits[0].new)
	for _, e := range edits[1:] {
		if e.old == "" {
			delete(folder, e.file)
			continue
		}
		file, ok := folder[e.file]
		if !ok || !strings.Contains(string(file.Data), e.old) {
			t.Fatalf("there is no %q in %s", e.old, e.file)
		}
		file.Data = []byte(strings.Replace(string(file.Data), e.old, e.new, 1))
	}
	return folder
}

// stepsFor returns the steps of these names, and those that they need.
func stepsFor(names ...string) []step {
	needed := map[string]bool{}
	for _, name := range names {
		needed[name] = true
	}
	var out []step
	for _, s := range slices.Backward(steps) {
		if needed[s.name] {
			for _, need := range s.needs {
				needed[need] = true
			}
			out = append([]step{s}, out...)
		}
	}
	return out
}
