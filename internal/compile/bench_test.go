package compile_test

import (
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// benchCases are questions of everyday: allowed by assignment, allowed by a
// grant with an end, refused.
func benchCases(t testing.TB) []struct {
	name string
	r    authz.Request
	f    authz.Facts
} {
	settings, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		t.Fatal(err)
	}
	facts := authz.Facts{Now: day0, Latest: day0.Add(time.Second), Practice: "practice-1", Settings: settings,
		Member: &authz.Member{ID: "m-1", User: "practitioner-1", Practice: "practice-1", Roles: []string{"practitioner"}, Status: "active", BillingEnabled: true},
		Client: &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: "active"}}
	granted, refused := facts, facts
	granted.Client = &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-2", Status: "active"}
	granted.Grant = &authz.Grant{Scope: "collaborate", NotBefore: day0.Add(-time.Hour), ExpiresAt: day0.Add(time.Hour)}
	refused.Client = granted.Client
	r := authz.Request{Subject: authz.Subject{Type: "user", ID: "practitioner-1"}, Action: "chart.open",
		Resource: authz.Resource{Type: "client", ID: "client-1"}}
	return []struct {
		name string
		r    authz.Request
		f    authz.Facts
	}{{"assigned", r, facts}, {"granted", r, granted}, {"refused", r, refused}}
}

// BenchmarkDecision prints what a whole decision costs by OPA's evaluator, by
// OPA's evaluator on a partially evaluated policy, and by the program.
func BenchmarkDecision(b *testing.B) {
	s := theShipped(b)
	partial, err := rego.New(rego.Query("data.authz.decision"), rego.Compiler(s.engine.Source().Compiler), rego.Store(s.engine.Source().Store),
		rego.ShallowInlining(true)). // deeply inlined, partial evaluation of a whole decision does not end
		PrepareForEval(ctx, rego.WithPartialEval())
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range benchCases(b) {
		document, err := ast.InterfaceToValue(authz.Document(c.r, c.f))
		if err != nil {
			b.Fatal(err)
		}
		b.Run("topdown/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.engine.Evaluate(ctx, c.r, c.f); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("partial/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := partial.Eval(ctx, rego.EvalParsedInput(document)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("program/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.program.Decide(&c.r, &c.f); !ok {
					b.Fatal("left to OPA")
				}
			}
		})
	}
}
