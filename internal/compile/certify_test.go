package compile_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
)

func TestTheShippedPolicyIsCertified(t *testing.T) {
	s := theShipped(t)
	report, err := compile.Certify(ctx, s.engine.Source(), s.program, pdp.DecisionPath, s.engine.Evaluate)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	for proof, n := range report.Impossible {
		t.Log("impossible", n, proof)
	}
	for _, d := range report.Disagreements {
		t.Errorf("%s: %s\n%v", d.Action, d.What, d.Document)
	}
	for name, err := range report.Uncertified {
		t.Errorf("%s: %v", name, err)
	}
	if !report.Certified() {
		t.Error("not certified")
	}
}

// TestWhatCannotBeCompiledStaysOnOPA adds two rules to the policy: one that
// cannot be translated, one of which the points cannot be listed. Their actions
// are OPA's, and no list is made of them; all others are certified.
func TestWhatCannotBeCompiledStaysOnOPA(t *testing.T) {
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("../../policies")); err != nil {
		t.Fatal(err)
	}
	add(t, filepath.Join(folder, "rules/scheduler/scheduler.rego"), `
permit if {
	member.scheduler
	count(input.member.roles) > 1
	input.action.name == "client.merge"
}

permit if {
	member.scheduler
	input.context.now < "2027"
	input.action.name == "client.reassign"
}
`)
	b, err := pdp.LoadBundle(folder)
	if err != nil {
		t.Fatal(err)
	}
	actions := b.Data["tables"].(map[string]any)["actions"].(map[string]any)
	maps.DeleteFunc(actions, func(name string, _ any) bool {
		return !slices.Contains([]string{"client.list", "chart.open", "client.merge", "client.reassign"}, name)
	})
	s, err := setupOf(b)
	if err != nil {
		t.Fatal(err)
	}
	report, err := compile.Certify(ctx, s.engine.Source(), s.program, pdp.DecisionPath, s.engine.Evaluate)
	if err != nil || !report.Certified() || report.Actions != 2 {
		t.Fatalf("%v, %v", report, err)
	}
	for action, want := range map[string]string{
		"client.merge":    "scheduler.rego:" + lineOf(t, filepath.Join(folder, "rules/scheduler/scheduler.rego"), "count("),
		"client.reassign": "time",
	} {
		if s.program.Covers(action) {
			t.Errorf("the program decides %s", action)
		}
		_, err := s.policy.Clients(listingFor(t, action))
		var u *compile.Untranslatable
		if !errors.As(err, &u) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", action, err, want)
		}
		if _, err := s.policy.Clients(listingFor(t, "chart.open")); err != nil {
			t.Error(err)
		}
	}
}

// TestACertificateFindsAWrongProgram compares the program of one policy with
// another, which differs in one line.
func TestACertificateFindsAWrongProgram(t *testing.T) {
	few := func() *pdp.Bundle {
		b, err := pdp.LoadBundle("../../policies")
		if err != nil {
			t.Fatal(err)
		}
		actions := b.Data["tables"].(map[string]any)["actions"].(map[string]any)
		maps.DeleteFunc(actions, func(name string, _ any) bool { return name != "billing.read" && name != "chart.open" })
		return b
	}
	s, err := setupOf(few())
	if err != nil {
		t.Fatal(err)
	}
	b := few()
	roles := b.Data["tables"].(map[string]any)["roles"].(map[string]any)
	billing := roles["client_grant"].(map[string]any)
	billing["view"] = append(billing["view"].([]any), "billing.read")
	other, err := setupOf(b)
	if err != nil {
		t.Fatal(err)
	}
	report, err := compile.Certify(ctx, other.engine.Source(), s.program, pdp.DecisionPath, other.engine.Evaluate)
	if err != nil || report.Certified() || len(report.Disagreements) == 0 {
		t.Fatalf("%v, %v", report, err)
	}
	for _, d := range report.Disagreements {
		if d.Action != "billing.read" {
			t.Errorf("%s: %s", d.Action, d.What)
		}
	}
}

func add(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func lineOf(t *testing.T, name, text string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(raw), "\n") {
		if strings.Contains(line, text) {
			return strconv.Itoa(i + 1)
		}
	}
	t.Fatalf("%s: no %q", name, text)
	return ""
}

func listingFor(t *testing.T, action string) compile.Listing {
	t.Helper()
	settings, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		t.Fatal(err)
	}
	return compile.Listing{Request: askAbout(action, "client", "practitioner-1", "", nil), Limit: 1,
		Facts: authz.Facts{Now: day0, Latest: day0, Practice: "practice-1", Settings: settings}}
}
