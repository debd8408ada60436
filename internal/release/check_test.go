package release

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestPoliciesAreInOrder checks the shipped policies, as CI does.
func TestPoliciesAreInOrder(t *testing.T) {
	report, err := Check(t.Context(), os.DirFS(policies), func(step string, took time.Duration) {
		if took > 0 {
			t.Log(step, took.Round(time.Millisecond))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Steps {
		t.Logf("%-13s %s", s.Name, s.Detail)
		for _, f := range s.Findings {
			t.Errorf("%s: %s", s.Name, f)
		}
	}
	if !report.OK || report.Revision == "" {
		t.Errorf("ok %v, revision %q", report.OK, report.Revision)
	}
}

// edited is a copy of the policies in which one file has new in the place of old.
func edited(t testing.TB, name, old, new string) fstest.MapFS {
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

// TestCheckFindsWhatIsWrong breaks the form of the policies in many ways: the
// step that is to notice does, at the place, with a hint, and no other says the
// same again.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	const assigned, grants, member, entry = "rules/assigned/assigned.rego", "rules/grants/grants.rego", "lib/member.rego", "authz/authz.rego"
	const begins = "input.grant.not_before <= input.context.now"
	for _, test := range []struct{ what, file, old, new, step, finding, hint string }{
		{"no brace", grants, "permit if {", "permit {", "parse", ":1: `if` keyword is required", "write `if`"},
		{"half a rule", grants, "permit if {", "permit if", "parse", ":1: unexpected } token", "often a bracket"},
		{"nothing at all", "rules/notes/notes.rego", "", "", "parse", "empty module", "begins with `package`"},
		{"a colon in the metadata", grants, "title: Access to one client", "title: Access: to one client", "parse", ":1: the METADATA cannot be read", "needs quotes"},
		{"a colon that is missing", "tables/roles/data.yaml", "assigned:\n", "assigned\n", "read", "data.yaml: mapping values", "no colon"},
		{"a heading twice", "tables/roles/data.yaml", "biller:\n", "scheduler:\n", "read", "data.yaml: `scheduler` stands here a second time", "put the two together"},
		{"no schema", "schemas/input.json", "{", "[", "read", "it is no JSON", ""},
		{"spaces", assigned, "permit if {", "permit  if {", "format", "is not formatted as opa fmt does", "policy format"},
		{"no title", assigned, "# title: The assigned practitioner writes notes\n", "", "metadata", "rule permit needs METADATA with a title", "# METADATA"},
		{"no id", assigned, "#   id: assigned_notes\n", "", "metadata", "rule permit needs METADATA with custom.id", "#   id:"},
		{"an id twice", assigned, "id: assigned_notes", "id: assigned_billing", "metadata", "id assigned_billing is taken by rules/assigned/assigned.rego:", "another"},
		{"no reason in words", "rules/archived/archived.rego", "because:", "said:", "metadata", "rule archived needs METADATA with custom.because", "what explanations say"},
		{"a reason with a misspelt fact", grants, "{grant.granted_by}", "{grant.given_by}", "metadata", "there is no fact {grant.given_by}", "did you mean `grant.granted_by`?"},
		{"a reason with half a part", grants, "[, given by", ", given by", "metadata", "neither of them inside", ""},
		{"a title twice", assigned, "title: The assigned practitioner writes notes", "title: The assigned practitioner works with his clients", "metadata", "title \"The assigned practitioner works with his clients\" is that of rules/assigned/assigned.rego:", "different"},
		{"no description of a package", assigned, "# title: The assigned practitioner\n", "", "metadata", "the package needs a title", ""},
		{"a misspelt fact", assigned, "input.client.assigned ==", "input.client.asigned ==", "types", ":15: there is no `asigned` in `input.client`", "did you mean `assigned`?"},
		{"a misspelt setting", assigned, "input.settings.access_managers", "input.settings.acces_managers", "types", "there is no `acces_managers`", "did you mean `access_managers`?"},
		{"a misspelt fact through a helper", "lib/notes.rego", "input.resource.properties.author", "input.resource.properties.autor", "types", "there is no `autor`", "did you mean `author`?"},
		{"a member of a text", grants, begins, "some r in input.member.roles\n\tr.name == \"x\"", "types", ":2: `r` has no members: it is a text", ""},
		{"a misspelt list", assigned, "roles.assigned.always", "roles.assigned.allways", "types", "there is no `allways` in `data.tables.roles.assigned`", "did you mean `always`?"},
		{"a schema that is not there", grants, "schema.tables", "schema.tabels", "types", "there is no `schema.tabels` in schemas/", "did you mean `schema.tables`?"},
		{"another schema for input", member, "# title: What the member is", "# schemas:\n#   - input: {}\n# title: What the member is", "types", "a schema for input takes the place", "take it out"},
		{"a package that forgets its schema", grants, "# schemas:\n#   - data.tables: schema.tables\n", "", "types", "the tables are read, and nothing checks", "data.tables: schema.tables"},
		{"a flag compared with a word", member, "billing_enabled == true", `billing_enabled == "true"`, "types", ":20: these can never be equal: true or false and a text", "without quotes"},
		{"a function of something else", grants, begins, "startswith(input.member.roles, 1)", "types", "`startswith` does not take a list and a number", "it wants"},
		{"a misspelt function", member, `if _holds("biller")`, `if _hold("biller")`, "types", "there is no function `_hold`", "did you mean `_holds`?"},
		{"an unused import", assigned, "import data.lib.notes", "import data.lib.notes\nimport data.lib.request", "compile", "`data.lib.request` is imported and is not used", "take it out"},
		{"a missing import", assigned, "import data.lib.notes\n", "", "compile", "nothing gives `notes` a value", "import it"},
		{"an unused name", grants, begins, "x := 1", "compile", "`x` gets a value and is not used", ""},
		{"a name from nowhere", grants, begins, "_scope_view", "compile", "nothing gives `_scope_view` a value", "did you mean `_scope_views`?"},
		{"a circle", grants, begins, "permit", "compile", "rules need each other in a circle: data.rules.grants._in_force, data.rules.grants.permit", "may not rest on itself"},
		{"the clock", grants, begins, "time.now_ns() > 0", "capabilities", ":2: `time.now_ns` is not possible", "input.context.now"},
		{"the network", grants, begins, `http.send({"method": "get", "url": "http://localhost"}).status_code == 200`, "capabilities", "`http.send` is not possible", "loaded before"},
		{"randomness", grants, begins, `rand.intn("x", 2) == 1`, "capabilities", "`rand.intn` is not possible", "the same answer"},
		{"a misspelt rule", entry, "rules.grants.permit", "rules.grants.permitt", "references", "data.rules.grants.permitt leads nowhere", "did you mean `permit`?"},
		{"a misspelt helper", grants, begins, "member.practitoner", "references", "data.lib.member.practitoner leads nowhere", "did you mean `practitioner`?"},
		{"a misspelt topic", entry, "rules.grants.permit", "rules.grant.permit", "references", "data.rules.grant.permit leads nowhere", "did you mean `grants`?"},
		{"a misspelt import", assigned, "import data.lib.notes", "import data.lib.note as notes", "references", ":8: data.lib.note leads nowhere", "did you mean `notes`?"},
		{"a misspelt status", "rules/practice/practice.rego", `input.member.status == "active"`, `input.member.status == "actve"`, "words", "`actve` is none of the words that `input.member.status` can be", "did you mean `active`?"},
		{"a misspelt role, as an argument", member, `_holds("biller")`, `_holds("billr")`, "words", ":18: `billr` is none of the words that `input.member.roles` can be", "did you mean `biller`?"},
		{"a misspelt word in a set", "rules/administrator/administrator.rego", `{"full", "non_clinical"}`, `{"full", "nonclinical"}`, "words", "`nonclinical` is none", "did you mean `non_clinical`?"},
		{"a misspelt word in a list", assigned, `"assigned_practitioner" in input.settings.access_managers`, `"assigned" in input.settings.access_managers`, "words", "`assigned` is none of the words that `input.settings.access_managers` can be", "assigned_practitioner"},
		{"a misspelt word, unequal", grants, `input.grant.scope == "view"`, `input.grant.scope != "colaborate"`, "words", "`colaborate` is none", "did you mean `collaborate`?"},
		{"a misspelt word through a name", grants, `input.grant.scope == "view"`, "s := input.grant.scope\n\ts == \"veiw\"", "words", "`veiw` is none of the words that `input.grant.scope` can be", "did you mean `view`?"},
		{"a misspelt type through a rule", "lib/practice.rego", `request.type == "practice"`, `request.type == "pratice"`, "words", "`pratice` is none of the words that `lib.request.type` can be", "did you mean `practice`?"},
		{"a time in another form", grants, `"0001-01-01T00:00:00.000000Z"`, `"0001-01-01T00:00:00Z"`, "words", "is not how `input.grant.not_before` is written", "2026-"},
		{"a misspelt action in a table", "tables/archived/data.yaml", "- chart.open", "- chart.opne", "words", "data.yaml:5: `chart.opne` is none of the words that `input.action.name` can be", "did you mean `chart.open`?"},
		{"a misspelt action in a rule", "rules/portal/portal.rego", `"portal.profile.enter"`, `"portal.profil.enter"`, "words", "`portal.profil.enter` is none", "did you mean `portal.profile.enter`?"},
		{"a misspelt basis", entry, `bases contains "biller"`, `bases contains "billing"`, "words", "`billing` is not in tables/order under bases", "biller"},
		{"a misspelt denial in the table", "tables/order/data.yaml", "- archived", "- archive", "tables", "data.yaml:5: `archive` has no sentences", "tables/reasons"},
		{"a basis in the table that no rule gives", entry, "bases contains \"biller\" if rules.biller.permit", "bases contains \"scheduler\" if rules.biller.permit", "words", "order/data.yaml:5: no rule gives the answer `biller`", "authz/authz.rego"},
		{"a rule that is not reached", entry, "\n# METADATA\n# title: \"Denial: archived client\"\n# description: See rules/archived.\n# custom:\n#   id: denial_archived\ndenials contains \"archived\" if rules.archived.archived\n", "", "words reachable", "", "authz/authz.rego"},
		{"else", grants, "_scope_collaborates if input.grant.scope == \"collaborate\"", "_scope_collaborates if input.grant.scope == \"collaborate\"\n\nelse := false", "translation", "else cannot be translated", "rules of their own"},
		{"with", grants, "\t_in_force\n\t_scope_views\n", "\t_in_force with input.action.name as \"chart.open\"\n\t_scope_views\n", "translation", "with cannot be translated", "argument"},
		{"count", assigned, "\tmember.practitioner\n", "\tcount(input.member.roles) > 0\n", "translation", "count cannot be translated", "compare with"},
		{"the place in a list", grants, begins, "some i\n\tinput.member.roles[i] == \"practitioner\"\n\ti > 0", "translation", ": data.rules.grants._in_force cannot be translated", ""},
		{"a list that no rule reads", "tables/roles/data.yaml", "  own_or_unsigned_notes:", "  own_or_unsigned_note:", "tables", "data.yaml:3: there is no `own_or_unsigned_note` here", "did you mean `own_or_unsigned_notes`?"},
		{"an unknown type of resource", "tables/actions/data.yaml", "chart.open: {on: client}", "chart.open: {on: chart}", "tables", "data.yaml:14: `chart` is none", "`client`"},
		{"a sentence that is missing", "tables/reasons/data.yaml", "  user: You do not have access.\n", "", "tables", "user is required", ""},
	} {
		t.Run(test.what, func(t *testing.T) {
			folder := edited(t, test.file, test.old, test.new)
			if test.what == "nothing at all" {
				folder[test.file].Data = nil
			}
			above, _, found := strings.Cut(string(folder[test.file].Data), test.new)
			within := func(line int) bool {
				first := 1 + strings.Count(above, "\n")
				return !found || test.new == "" || strings.Contains(test.new, "schema") || // of a package: told at its METADATA, or a rule
					first <= line && line <= first+strings.Count(test.new, "\n")
			}
			report, err := inspect(t.Context(), folder, nil, slices.DeleteFunc(slices.Clone(steps), func(s step) bool {
				return !s.form || (s.name == "translation" && test.step != "translation") // it takes its time
			}))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, s := range report.Steps {
				for _, f := range s.Findings {
					if s.Name == "format" && test.step != "format" {
						continue // edits here need not look nice
					}
					n++
					switch {
					case !slices.Contains(strings.Fields(test.step), s.Name):
						t.Errorf("%s finds %s", s.Name, f)
					case !strings.Contains(unnumbered(f), test.finding) || !strings.Contains(f.Hint, test.hint):
						t.Errorf("want %q, hint %q, got %s", test.finding, test.hint, f)
					case f.File == test.file && slices.Contains([]string{"capabilities", "types", "references", "words"}, s.Name) && !within(f.Line):
						t.Errorf("%s is not where the mistake was made", f)
					case f.Line > 0 && f.Excerpt == "":
						t.Errorf("%s shows no line", f)
					}
					if strings.Contains(f.String(), "__") || strings.Contains(f.String(), "partial") {
						t.Errorf("a generated name: %s", f)
					}
				}
			}
			if n == 0 {
				t.Error("nothing is found")
			}
		})
	}
}

// unnumbered is a finding without its line, which moves whenever somebody writes
// above it.
func unnumbered(f Finding) string {
	f.Line = min(f.Line, 1)
	return strings.Replace(f.String(), ":1:", ":", 1)
}
