package compile_test

import (
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"pgregory.net/rapid"
)

// benchCases are questions of everyday: allowed by assignment, allowed by a
// grant with an end, refused.
func benchCases(t rapid.TB) []struct {
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
// OPA's evaluator on a partially evaluated policy, and by the program; and what
// the allow rule alone does by OPA's evaluator, whole and after partial
// evaluation with the action known.
func BenchmarkDecision(b *testing.B) {
	s := theShipped(b)
	source := s.engine.Source()
	prepare := func(query string) rego.PreparedEvalQuery {
		q, err := rego.New(rego.Query(query), rego.Compiler(source.Compiler), rego.Store(source.Store)).PrepareForEval(ctx)
		if err != nil {
			b.Fatal(err)
		}
		return q
	}
	partial, err := rego.New(rego.Query("data.authz.decision"), rego.Compiler(source.Compiler), rego.Store(source.Store),
		rego.PartialNamespace("bench_decision"), rego.ShallowInlining(true)). // deeply inlined, partial evaluation of a whole decision does not end
		PrepareForEval(ctx, rego.WithPartialEval())
	if err != nil {
		b.Fatal(err)
	}
	whole, allow := prepare("data.authz.decision"), prepare("data.authz.allow")
	byAction := forAction(b, s, "chart.open")
	for _, c := range benchCases(b) {
		document, err := ast.InterfaceToValue(authz.Document(c.r, c.f))
		if err != nil {
			b.Fatal(err)
		}
		eval := func(q rego.PreparedEvalQuery) func(*testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := q.Eval(ctx, rego.EvalParsedInput(document)); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run("topdown/"+c.name, eval(whole))
		b.Run("partial/"+c.name, eval(partial))
		b.Run("program/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := s.program.Decide(&c.r, &c.f); !ok {
					b.Fatal("left to OPA")
				}
			}
		})
		b.Run("topdown/"+c.name+"-allow", eval(allow))
		b.Run("partial/"+c.name+"-allow", eval(byAction))
	}
}

// forAction is the allow rule after partial evaluation with this action known.
func forAction(b *testing.B, s setup, action string) rego.PreparedEvalQuery {
	source := s.engine.Source()
	input := ast.NewObject([2]*ast.Term{ast.StringTerm("action"), ast.ObjectTerm([2]*ast.Term{ast.StringTerm("name"), ast.StringTerm(action)})})
	var unknowns []string
	for _, name := range []string{"subject", "member", "resource", "client", "grant", "portal", "settings", "context"} {
		unknowns = append(unknowns, "input."+name)
	}
	partial, err := rego.New(rego.Query("data.authz.allow"), rego.Compiler(source.Compiler), rego.Store(source.Store), rego.ParsedInput(input),
		rego.Unknowns(unknowns), rego.PartialNamespace("bench_allow"), rego.ShallowInlining(true)).PartialResult(ctx)
	if err != nil {
		b.Fatal(err)
	}
	q, err := partial.Rego().PrepareForEval(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return q
}
