package compile_test

import (
	"testing"

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
