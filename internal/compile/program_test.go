package compile_test

import (
	"context"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var ctx = context.Background()

func TestTheShippedPolicyIsCompiledWhole(t *testing.T) {
	s := theShipped(t)
	if len(s.policy.Actions) < 40 {
		t.Fatalf("only %d actions", len(s.policy.Actions))
	}
	for name, a := range s.policy.Actions {
		if a.Err != nil || !s.program.Covers(name) {
			t.Errorf("%s: %v", name, a.Err)
		}
	}
}

// TestProgramIsOPA compares whole decisions on random facts, for all actions.
func TestProgramIsOPA(t *testing.T) {
	s := theShipped(t)
	actions := slices.Sorted(maps.Keys(s.policy.Actions))
	allowed := 0
	rapid.Check(t, func(t *rapid.T) {
		r, f := drawFacts(t, actions)
		want, err := s.engine.Evaluate(ctx, r, f)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := s.program.Evaluate(&r, &f)
		if !ok || !same(got, want) {
			t.Fatalf("program %v %+v\nOPA     %+v", ok, got, want)
		}
		if got.Allow {
			allowed++
		}
	})
	if allowed < 5 {
		t.Errorf("only %d of the random decisions were allowed: they try nothing", allowed)
	}
}
