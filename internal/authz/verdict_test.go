package authz_test

import (
	"testing"

	"chartgate/internal/authz"
)

// Questions that arrive together have ids that differ, in their order, before
// those of later ones.
func TestIDsOfQuestionsThatArriveTogether(t *testing.T) {
	a, last := authz.Arrive(), ""
	for range 2000 {
		var v authz.Verdict
		a.Begin(&v, authz.Request{}, "")
		if v.ID.Version() != 7 || v.ID.Variant() != 1 || v.ID.String() <= last {
			t.Fatalf("%s after %s", v.ID, last)
		}
		last = v.ID.String()
	}
	if later := authz.NewVerdict(authz.Request{}, "", ""); later.ID.String() <= last {
		t.Errorf("%s, later than %s", later.ID, last)
	}
}
