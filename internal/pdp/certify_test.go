package pdp_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
)

func shipped(t *testing.T) *pdp.Engine {
	t.Helper()
	b, err := pdp.LoadBundle("../../policies")
	if err != nil {
		t.Fatal(err)
	}
	e, err := pdp.NewEngine(t.Context(), b, pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func programOf(t *testing.T, e *pdp.Engine) *compile.Program {
	t.Helper()
	policy, err := compile.Compile(t.Context(), e.Source())
	if err != nil {
		t.Fatal(err)
	}
	return compile.Assemble(policy)
}

func assignedFacts(t *testing.T) authz.Facts {
	t.Helper()
	f := factsOf("practitioner-1", "active")
	settings, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Settings = settings
	return f
}

func TestTheProgramDecidesAndOPAWhereItCannot(t *testing.T) {
	e := shipped(t)
	if _, err := e.Lists(); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("lists without a program: %v", err)
	}
	before, err := e.Evaluate(t.Context(), ask("chart.open"), assignedFacts(t))
	if err != nil || !before.Allow || e.Counts().OPA.Load() != 1 {
		t.Fatalf("%+v, %v, %d by OPA", before, err, e.Counts().OPA.Load())
	}
	e.Attach(programOf(t, e))
	after, err := e.Evaluate(t.Context(), ask("chart.open"), assignedFacts(t))
	if err != nil || !compile.Same(before, after) || e.Counts().Program.Load() != 1 {
		t.Errorf("%+v, %v, %d by the program", after, err, e.Counts().Program.Load())
	}
	unknown, err := e.Evaluate(t.Context(), ask("no.such.action"), assignedFacts(t))
	if err != nil || unknown.Code != authz.CodeUnknownAction || e.Counts().OPA.Load() != 2 {
		t.Errorf("%+v, %v, %d by OPA", unknown, err, e.Counts().OPA.Load())
	}
	odd := assignedFacts(t)
	odd.Now = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) // the facts document cannot say it
	if _, err := e.Evaluate(t.Context(), ask("chart.open"), odd); err != nil || e.Counts().OPA.Load() != 3 {
		t.Errorf("%v, %d by OPA", err, e.Counts().OPA.Load())
	}
}

// TestADifferenceSwitchesTheProgramOff gives an engine the program of another
// policy, as a mistake in the compiler would.
func TestADifferenceSwitchesTheProgramOff(t *testing.T) {
	e := shipped(t)
	b, err := pdp.LoadBundle("../../policies")
	if err != nil {
		t.Fatal(err)
	}
	roles := b.Data["tables"].(map[string]any)["roles"].(map[string]any)
	roles["assigned"].(map[string]any)["always"] = []any{}
	other, err := pdp.NewEngine(t.Context(), b, pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	shadow, done := pdp.NewShadow(1, 0), make(chan error)
	go func() { done <- shadow.Run(ctx) }()
	defer func() { stop(); <-done }()
	e.Watch(shadow)
	e.Attach(programOf(t, other))
	for {
		d, err := e.Evaluate(ctx, ask("chart.open"), assignedFacts(t))
		if err != nil {
			t.Fatal(err)
		}
		if d.Allow { // OPA decides again
			break
		}
	}
	if e.Counts().Differs.Load() == 0 {
		t.Error("no difference was counted")
	}
	if _, err := e.Lists(); err == nil {
		t.Error("lists are still made")
	}
}

func TestAPolicyWithoutOurEntryPointStaysOnOPA(t *testing.T) {
	e := engineOf(t, policy, pdp.DecisionPath)
	if _, err := e.Certify(t.Context()); err == nil {
		t.Error("it was certified")
	}
	if d, err := e.Evaluate(t.Context(), ask("chart.open"), factsOf("practitioner-1", "active")); err != nil || !d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
}
