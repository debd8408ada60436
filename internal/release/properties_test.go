package release

import (
	"os"
	"testing"

	"chartgate/internal/pdp"
)

// TestShippedPolicyHoldsToItsProperties proves every property, of all actions
// and in all situations.
func TestShippedPolicyHoldsToItsProperties(t *testing.T) {
	b, err := pdp.ReadFolder(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	proofs, err := Prove(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proofs {
		t.Log(p.ID, p.Proved)
		for _, c := range p.Refuted {
			t.Errorf("%s: %s", p.ID, c)
		}
		for _, o := range p.Undecided {
			t.Errorf("%s: %s", p.ID, o)
		}
	}
}
