package compile_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/compile"
	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"
)

// TestOutcomesAreReal: every outcome that is said to be possible has an example
// which OPA decides so; every outcome of a random request is said to be possible
// (found by drawing, with no knowledge of the formulas).
func TestOutcomesAreReal(t *testing.T) {
	s := theShipped(t)
	finder := compile.NewFinder(s.engine.Source(), s.policy)
	possible := map[string]bool{}
	ends := 0
	for _, action := range slices.Sorted(maps.Keys(s.policy.Actions)) {
		for _, o := range s.policy.Outcomes() {
			document, err := finder.Outcome(action, o)
			if err != nil {
				t.Fatal(err)
			}
			if document == nil {
				continue
			}
			possible[fmt.Sprint(action, o)] = true
			if o.Ends {
				ends++
			}
			got, err := s.engine.EvaluateDocument(t.Context(), document)
			if err != nil || got.Code != o.Code || (got.ValidUntil != nil) != o.Ends {
				t.Errorf("%s, %v: OPA says %+v, %v on %v", action, o, got, err, document)
			}
		}
	}
	if len(possible) < 300 || ends < 10 {
		t.Errorf("only %d outcomes, %d with an end", len(possible), ends)
	}
	actions := slices.Sorted(maps.Keys(s.policy.Actions))
	rapid.Check(t, func(t *rapid.T) {
		r, f := drawFacts(t, actions)
		got, err := s.engine.Evaluate(ctx, r, f)
		if err != nil {
			t.Fatal(err)
		}
		if o := (compile.Outcome{Code: got.Code, Ends: got.ValidUntil != nil}); !possible[fmt.Sprint(r.Action, o)] {
			t.Errorf("%s, %v is said to be impossible", r.Action, o)
		}
	})
}

// changed is the shipped policy with something else in one of its files.
func changed(t *testing.T, file, old, new string) setup {
	t.Helper()
	b, err := pdp.LoadBundle("../../policies")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../../policies/" + file)
	if err != nil || !strings.Contains(string(source), old) {
		t.Fatalf("there is no %q in %s (%v)", old, file, err)
	}
	b.Modules[file], err = ast.ParseModuleWithOpts(file, strings.Replace(string(source), old, new, 1), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		t.Fatal(err)
	}
	made, err := setupOf(b)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestDoubtsAreReal: each doubt has an example that OPA refuses, and allows once
// the fact is taken away; the shipped policy has none.
func TestDoubtsAreReal(t *testing.T) {
	const archived, portal = "rules/archived/archived.rego", "rules/portal/portal.rego"
	for _, test := range []struct {
		file, old, new string
		fact, part     string
		odd            bool
	}{
		{archived, "archived if not _open", "archived if not _open", "", "", false},
		{archived, `_open if input.client.status == "active"`, `_open if not input.client.status == "archived"`, "client.status", "archived", false},
		{archived, `_open if input.client.status == "active"`, `_open if input.client.status != "archived"`, "client.status", "archived", true},
		{portal, "_switched_on if input.portal.enabled == true", "_switched_on if not input.portal.enabled == false", "portal.enabled", "portal_off", false},
		{"lib/member.rego", "billing_enabled if input.member.billing_enabled == true", "billing_enabled if not input.member.billing_enabled == false", "member.billing_enabled", "assigned", false},
	} {
		s := changed(t, test.file, test.old, test.new)
		finder := compile.NewFinder(s.engine.Source(), s.policy)
		found := false
		for _, action := range slices.Sorted(maps.Keys(s.policy.Actions)) {
			doubts, err := finder.Doubts(action, []string{"resource.properties", "resource.properties.practice"}, []string{"client.status", "member.roles"})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range doubts {
				if d.Fact == test.fact && d.Odd == test.odd && d.Basis+d.Denial == test.part {
					found = true
				}
				if d.Fact == "" || test.fact == "" {
					t.Errorf("%s: %+v", test.new, d)
				}
				before, errBefore := s.engine.EvaluateDocument(t.Context(), d.Document)
				after, errAfter := s.engine.EvaluateDocument(t.Context(), without(d))
				if errBefore != nil || errAfter != nil || before.Allow || !after.Allow {
					t.Errorf("%s: %s, %s: OPA says %v before and %v after (%v, %v)", test.new, action, d.Fact, before.Allow, after.Allow, errBefore, errAfter)
				}
			}
		}
		if test.fact != "" && !found {
			t.Errorf("%s: nothing is found", test.new)
		}
	}
}

// without is the document of a doubt with its fact unknown.
func without(d compile.Doubt) map[string]any {
	document := maps.Clone(d.Document)
	table, name, nested := strings.Cut(d.Fact, ".")
	if !nested {
		delete(document, table)
		return document
	}
	inner := maps.Clone(document[table].(map[string]any))
	document[table] = inner
	switch _, list := inner[name].([]any); {
	case d.Odd && list:
		inner[name] = []any{"?"}
	case d.Odd:
		inner[name] = "?"
	default:
		delete(inner, name)
	}
	return document
}

// TestDeadRulesNeverHold: a rule whose conditions exclude each other is found,
// and so is no rule of the shipped policy.
func TestDeadRulesNeverHold(t *testing.T) {
	const grants = "rules/grants/grants.rego"
	for new, want := range map[string]string{
		"\tinput.grant.not_before <= input.context.now\n":                                               "",
		"\tinput.context.now < input.grant.not_before\n\tinput.grant.not_before <= input.context.now\n": "data.rules.grants._in_force",
		"\tinput.grant.scope == \"view\"\n\tinput.grant.scope == \"collaborate\"\n":                     "data.rules.grants._in_force",
		"\tnot input.grant\n":                         "data.rules.grants._in_force",
		"\t\"practitioner\" in input.member.roles\n":  "",
		"\tinput.action.name == \"no.such.action\"\n": "data.rules.grants._in_force",
	} {
		s := changed(t, grants, "\tinput.grant.not_before <= input.context.now\n", new)
		var rules []*ast.Rule
		for _, m := range s.engine.Source().Compiler.Modules {
			rules = append(rules, m.Rules...)
		}
		dead, err := compile.NewFinder(s.engine.Source(), s.policy).Dead(t.Context(), rules)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, rule := range dead {
			names = append(names, rule.Ref().String())
		}
		if want == "" && len(dead) > 0 || want != "" && !slices.Contains(names, want) {
			t.Errorf("%q: %v can never hold", new, names)
		}
	}
}
