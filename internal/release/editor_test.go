package release

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/loader"
)

// TestNewRuleIsWellFormed: what is begun passes everything but that it holds for
// nobody yet, and where the topic is new, that no answer rests on it yet.
func TestNewRuleIsWellFormed(t *testing.T) {
	for _, test := range []struct {
		topic, name string
		denial      bool
		found       []string
		next        string
	}{
		{"assigned", "weekend_cover", false, []string{"dead"}, "rules/assigned/weekend_cover.rego:10: write the conditions"},
		{"care_team", "member_of_it", false, []string{"reachable", "dead"}, `bases contains "care_team" if rules.care_team.permit`},
		{"blocks", "blocked", true, []string{"reachable", "dead"}, `denials contains "blocked" if rules.blocks.blocked`},
	} {
		t.Run(test.topic, func(t *testing.T) {
			folder := mistaken(t, []edit{{"lib/notes.rego", "package", "package"}})
			draft, err := NewRule(folder, test.topic, test.name, test.denial)
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range draft.Files {
				if folder[name] != nil {
					t.Errorf("%s was there", name)
				}
				folder[name] = &fstest.MapFile{Data: text}
			}
			report, err := inspect(t.Context(), folder, nil, stepsFor("format", "metadata", "reachable", "dead", "unknowns", "cases"))
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, s := range report.Steps {
				if !s.OK {
					found = append(found, s.Name)
				}
				for _, f := range s.Findings {
					if path.Base(f.File) != test.name+".rego" || s.Skipped != "" {
						t.Errorf("%s: %s", s.Name, f)
					}
				}
			}
			if !slices.Equal(found, test.found) || !strings.Contains(strings.Join(draft.Next, "\n"), test.next) {
				t.Errorf("it is found by %v, and left to do is %q", found, draft.Next)
			}
			rule, _, _ := strings.Cut(strings.TrimPrefix(draft.Next[0], "rules/"+test.topic+"/"+test.name+".rego:"), ":")
			lines := strings.Split(string(draft.Files["rules/"+test.topic+"/"+test.name+".rego"]), "\n")
			if n, err := strconv.Atoi(rule); err != nil || strings.TrimSpace(lines[n-1]) != neverHolds {
				t.Errorf("%q does not name the line of the condition", draft.Next[0])
			}
			if _, err := NewRule(folder, test.topic, test.name, test.denial); err == nil {
				t.Error("it would be written over")
			}
		})
	}
	for _, name := range []string{"", "A", "a-b", "../a", "a/b", "1a"} {
		if _, err := NewRule(os.DirFS(policies), "assigned", name, false); err == nil {
			t.Errorf("a rule may be called %q", name)
		}
	}
}

// TestExampleForEditors: policies/input.json is what the schema gives now, fits
// it, and holds every fact.
func TestExampleForEditors(t *testing.T) {
	example, err := Example(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := os.ReadFile(policies + "/input.json")
	if err != nil || !bytes.Equal(shipped, example) {
		t.Errorf("policies/input.json is not up to date: chartgate policy schema --example > policies/input.json (%v)", err)
	}
	var document map[string]any
	if err := json.Unmarshal(example, &document); err != nil {
		t.Fatal(err)
	}
	faults, err := matchSchema(t.Context(), document, inputSchema(t))
	if err != nil || len(faults) > 0 {
		t.Errorf("it does not fit: %v, %v", faults, err)
	}
	var missing func(schema map[string]any, v any, at string)
	missing = func(schema map[string]any, v any, at string) {
		for name, inner := range asMap(schema["properties"]) {
			if asMap(v)[name] == nil {
				t.Errorf("it has no %s.%s", at, name)
			}
			missing(asMap(inner), asMap(v)[name], at+"."+name)
		}
	}
	missing(inputSchema(t), document, "input")
	schemas, err := Schemas(os.DirFS(policies))
	var all map[string]map[string]any
	if err != nil || json.Unmarshal(schemas, &all) != nil {
		t.Fatalf("%v: %s", err, schemas)
	}
	if names := slices.Sorted(maps.Keys(all)); !slices.Equal(names, []string{"input", "tables"}) || all["input"]["properties"] == nil {
		t.Errorf("the schemas are %v", names)
	}
}

// TestEditorsCheckOnSaving compiles the policies as an editor's "opa check
// --bundle --strict --schema policies/schemas" does: they pass, and a misspelt
// list of a table is found.
func TestEditorsCheckOnSaving(t *testing.T) {
	for name, want := range map[string]bool{"always": true, "allways": false} {
		folder := t.TempDir()
		if err := os.CopyFS(folder, mistaken(t, []edit{{"rules/assigned/assigned.rego", "roles.assigned.always", "roles.assigned." + name}})); err != nil {
			t.Fatal(err)
		}
		schemas, err := loader.Schemas(folder + "/schemas")
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := loader.NewFileLoader().WithProcessAnnotation(true).AsBundle(folder)
		if err != nil {
			t.Fatal(err)
		}
		compiler := ast.NewCompiler().WithStrict(true).WithSchemas(schemas).WithUseTypeCheckAnnotations(true)
		if compiler.Compile(bundle.ParsedModules("policies")); compiler.Failed() == want {
			t.Errorf("%s: %v", name, compiler.Errors)
		}
	}
}

// TestCasesAreExplained: a refusal is followed to the condition that fails, with
// the facts that it reads; a denial to what is not known to be right.
func TestCasesAreExplained(t *testing.T) {
	cases, err := ReadCases(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		which, want string
		lines       []string
	}{
		{"cases/time.yaml:22", "deny because no_basis", []string{"(grant_view)", "fails: _in_force  (line ", "(grant_in_force)",
			"fails: input.context.latest < input.grant.expires_at  (line ", `input.grant.expires_at is "2026-03-02T12:00:00.000000Z"`}},
		{"changes.yaml:58", "deny because archived", []string{"holds: not _open", `fails: input.client.status == "active"`, "input.client.status is not known", "(assigned)"}},
		{"portal.yaml:131", "deny because portal_off", []string{"holds: not _switched_on", "(switched_on)", "input.portal.enabled is false"}},
		{"bases.yaml:31", "allow because [assigned]", []string{"(is_assigned)", "(assigned)"}},
	} {
		t.Run(test.which, func(t *testing.T) {
			found := FindCases(cases, test.which)
			if len(found) != 1 {
				t.Fatalf("%d cases are meant", len(found))
			}
			why, err := ExplainCase(t.Context(), os.DirFS(policies), found[0])
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			why.Write(&out)
			said := out.String()
			if !strings.Contains(said, "decided: "+test.want) {
				t.Errorf("it says\n%s", said)
			}
			for _, line := range test.lines {
				if !strings.Contains(said, line) {
					t.Errorf("want %q, it says\n%s", line, said)
				}
			}
		})
	}
	if n := len(FindCases(cases, "matrix.yaml (ADM) Preset seed: chart.open")); n < 1 {
		t.Errorf("%d cases are meant by words", n)
	}
	if len(FindCases(cases, "1")) != 1 || len(FindCases(cases, "0")) != 0 || len(FindCases(cases, "nothing-like-it")) != 0 {
		t.Error("numbers, or words that are nowhere")
	}
}

// TestOnlyChangesAreTold: what was there before is not told again, wherever it
// stands now.
func TestOnlyChangesAreTold(t *testing.T) {
	report := func(all ...Finding) *Report { return &Report{Steps: []Step{{Findings: all}}} }
	a, moved := Finding{File: "a", Line: 1, Text: "x"}, Finding{File: "a", Line: 9, Text: "x"}
	b := Finding{File: "b", Text: "x"}
	for _, test := range []struct {
		before, after *Report
		added, gone   []Finding
	}{
		{nil, report(a), []Finding{a}, nil},
		{report(a), report(moved), nil, nil},
		{report(a), report(a, moved), []Finding{moved}, nil},
		{report(a, b), report(b), nil, []Finding{a}},
		{report(a), report(b), []Finding{b}, []Finding{a}},
	} {
		if added, gone := Changes(test.before, test.after); !slices.Equal(added, test.added) || !slices.Equal(gone, test.gone) {
			t.Errorf("from %v to %v: %v came, %v went", test.before, test.after, added, gone)
		}
	}
}

// TestFindingsShowThePlace: the line, and a mark under the column, tabs or not.
func TestFindingsShowThePlace(t *testing.T) {
	in := &inspection{files: map[string][]byte{"a.rego": []byte("package a\n\tx == 1\n")}}
	var out strings.Builder
	in.onLine("a.rego", 2, 2, "it is wrong", "do this").Write(&out, "")
	if want := "a.rego:2:2: it is wrong\n   2 |     x == 1\n     |     ^\n     = do this\n"; out.String() != want {
		t.Errorf("it says\n%s\nwant\n%s", out.String(), want)
	}
}
