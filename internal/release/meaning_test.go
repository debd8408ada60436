package release

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCheckFindsWhatIsMeantWrong breaks what the policies mean: the step that is
// to notice does, in the file where it was done.
func TestCheckFindsWhatIsMeantWrong(t *testing.T) {
	const archived, grants, portal, billing = "rules/archived/archived.rego", "rules/grants/grants.rego", "rules/portal/portal.rego", "rules/assigned/assigned.rego"
	for _, test := range []struct {
		what, step string
		edit       edit
		file, want string
	}{
		{"two words at once", "dead", edit{archived, "\tinput.client.status == \"archived\"\n", "\tinput.client.status == \"archived\"\n\tinput.client.status == \"active\"\n"}, archived, "rules.archived._open can never hold"},
		{"times that cannot be", "dead", edit{grants, "input.grant.not_before <= input.context.now", "input.grant.not_before > input.context.latest\n\tinput.grant.not_before < input.context.now"}, grants, "rules.grants._in_force can never hold"},
		{"an action of another list", "dead", edit{billing, "\tmember.billing_enabled\n", "\tmember.billing_enabled\n\tinput.action.name == \"chart.open\"\n"}, billing, "rules.assigned.permit can never hold"},
		{"an empty table", "dead", edit{"tables/roles/data.yaml", "if_billing_is_on:\n    - billing.read\n    - billing.manage\n", "if_billing_is_on: []\n"}, billing, "rules.assigned.permit can never hold"},
		{"not archived", "unknowns", edit{archived, `_open if input.client.status == "active"`, `_open if input.client.status != "archived"`}, archived, "where `input.client.status` is a word that nobody knows"},
		{"a denial of what is known to be wrong", "unknowns", edit{archived, "archived if not _open", "archived if {\n\tinput.client.status == \"archived\"\n\tnot _open\n}"}, archived, "where `input.client.status` is not known"},
		{"a setting that is not switched off", "unknowns", edit{"rules/biller/biller.rego", "input.settings.biller_sees_diagnoses == true", "not input.settings.biller_sees_diagnoses == false"}, "rules/biller/biller.rego", "the basis biller holds then"},
		{"a switch that is not known to be off", "unknowns", edit{portal, "_switched_on if input.portal.enabled == true", "_switched_on if not input.portal.enabled == false"}, portal, "the denial portal_off does not hold then"},
		{"an end that is not known to have come", "unknowns", edit{grants, "\tinput.context.latest < input.grant.expires_at\n\tinput.grant.expires_at <= \"9999-12-31T23:59:59.999999Z\"\n", "\tnot _over\n"}, grants, "where `input.grant.expires_at` is not known"},
		{"a case that is gone", "situations", edit{"cases/ends.yaml", "  - {rule: 97, who: practitioner-1, does: note.cosign, to: psychotherapy-note, answer: deny, because: [protected_note]}\n", ""}, "cases", "no case shows note.cosign answered with protected_note"},
		{"cases without an end", "situations", edit{"cases/ends.yaml", "  - {rule: 49, who: practitioner-2, does: contact.manage, to: client-1, answer: allow, because: [client_grant], until: +2h}\n", ""}, "cases", "no case shows contact.manage answered with client_grant and an end"},
		{"an action without cases", "situations", edit{"tables/actions/data.yaml", "client.list: {on: client}\n", "client.list: {on: client}\nclient.print: {on: client}\n"}, "cases", "no case shows client.print answered with no_basis"},
		{"a case with a word that is not there", "cases", edit{"cases/time.yaml", "does: chart.open", "dose: chart.open"}, "cases/time.yaml", "there is no `dose` here; did you mean `does`?"},
		{"a case about nobody", "cases", edit{"cases/time.yaml", "who: practitioner-2", "who: practitioner-9"}, "cases/time.yaml", `who: nobody in this file is called "practitioner-9"`},
	} {
		t.Run(test.what, func(t *testing.T) {
			folder := mistaken(t, []edit{test.edit})
			if strings.Contains(test.edit.new, "_over") {
				folder[grants].Data = append(folder[grants].Data, "\n# METADATA\n# title: It is over\n# description: Its end has come.\n# custom:\n#   id: over\n_over if input.grant.expires_at <= input.context.latest\n"...)
			}
			report, err := inspect(t.Context(), folder, nil, stepsFor(test.step))
			if err != nil {
				t.Fatal(err)
			}
			found := report.Steps[len(report.Steps)-1]
			if found.Name != test.step || !slices.ContainsFunc(found.Findings, func(f Finding) bool {
				return strings.Contains(f.String(), test.want) && f.File == test.file
			}) {
				t.Errorf("want %q in %s, got %v", test.want, test.file, report.Findings())
			}
		})
	}
}

// TestRegoTestsRun: a test beside the rules is run; one that fails, or that
// cannot be compiled, is told with its place.
func TestRegoTestsRun(t *testing.T) {
	run := func(text string) Step {
		folder := mistaken(t, []edit{{"lib/notes.rego", "package", "package"}})
		file := *folder["lib/notes.rego"]
		file.Data = []byte("package lib.notes_test\n\nimport data.lib.notes\n\n" + text)
		folder["lib/notes_test.rego"] = &file
		report, err := inspect(t.Context(), folder, nil, stepsFor("tests"))
		if err != nil {
			t.Fatal(err)
		}
		return report.Steps[len(report.Steps)-1]
	}
	const good = "test_own if notes.own with input as {\"subject\": {\"id\": \"a\"}, \"resource\": {\"properties\": {\"author\": \"a\"}}}\n"
	if s := run(good); !s.OK || s.Detail != "1 tests" {
		t.Errorf("a good test: %+v", s)
	}
	bad := strings.Replace(good, `"author": "a"`, `"author": "b"`, 1)
	if s := run(good + "\n" + strings.Replace(bad, "test_own", "test_other", 1)); s.OK || !strings.Contains(s.Findings[0].String(), "lib/notes_test.rego:7:1: test_other fails") {
		t.Errorf("a bad test: %+v", s)
	}
	if s := run(strings.Replace(good, "notes.own", "notes.own(1)", 1)); s.OK || s.Findings[0].Line != 5 {
		t.Errorf("a test that does not compile: %+v", s)
	}
}

// TestTheSameReport: it is evidence, so it must not depend on when, or in which
// order, something was looked at.
func TestTheSameReport(t *testing.T) {
	folder := mistaken(t, []edit{{"lib/member.rego", "role in input.member.roles", "not role in input.member.roles"}})
	var first string
	for range 2 {
		report, err := inspect(t.Context(), folder, nil, stepsFor("cases", "dead", "unknowns"))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(report)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(raw)
		}
		if string(raw) != first {
			t.Errorf("got\n%s\nwant\n%s", raw, first)
		}
	}
	if !strings.Contains(first, `"ok":false`) || strings.Contains(first, `"findings":null`) {
		t.Error(first)
	}
}

// TestWhatIsFoundKeepsStepsFromRunning: a step that would only find the same in
// other words is not done, and says why.
func TestWhatIsFoundKeepsStepsFromRunning(t *testing.T) {
	report, err := Check(t.Context(), mistaken(t, []edit{{"lib/member.rego", "package", "pakcage"}}), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Steps {
		switch s.Name {
		case "read":
			if !s.OK {
				t.Errorf("%+v", s)
			}
		case "parse":
			if s.OK || len(s.Findings) != 1 {
				t.Errorf("%+v", s)
			}
		default:
			if s.OK || s.Skipped != "parse" || len(s.Findings) > 0 {
				t.Errorf("%+v", s)
			}
		}
	}
	if report.OK || report.Count() != 1 {
		t.Errorf("ok %v, %d findings", report.OK, report.Count())
	}
	if _, err := Check(t.Context(), os.DirFS("nowhere"), nil); err == nil {
		t.Error("a folder that is not there is found to be in order")
	}
}

// TestStepsComeAfterWhatTheyNeed: a step that stood before one that it needs
// would not wait for it.
func TestStepsComeAfterWhatTheyNeed(t *testing.T) {
	before := map[string]bool{}
	for _, s := range steps {
		for _, need := range s.needs {
			if !before[need] {
				t.Errorf("%s needs %s, which does not come before it", s.name, need)
			}
		}
		before[s.name] = true
	}
}
