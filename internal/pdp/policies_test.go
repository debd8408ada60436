package pdp

import (
	"fmt"
	"testing"

	"chartgate/internal/feed"
)

// Who decides for a practice is the same release wherever it is asked.
func TestReleaseForIsWhoDecides(t *testing.T) {
	active, candidate := &Engine{revision: "active"}, &Engine{revision: "candidate"}
	of := map[*Engine]feed.Release{active: {Content: "active"}, candidate: {Content: "candidate"}}
	counts := map[*Engine]int{}
	for _, a := range []feed.Activation{{}, {Stage: feed.StagePrepare}, {Stage: feed.StageShadow}, {Stage: feed.StageShare, Share: 1},
		{Stage: feed.StageShare, Share: 40}, {Stage: feed.StageShare, Share: 99}} {
		a.Active = of[active]
		if a.Stage != "" {
			a.Candidate = of[candidate]
		}
		policies := &Policies{activation: a, active: active, candidate: candidate}
		for i := range 200 {
			practice := fmt.Sprintf("practice-%d", i)
			if i == 0 {
				practice = ""
			}
			decides := policies.In(practice)
			counts[decides]++
			if got := ReleaseFor(a, practice); got != of[decides] {
				t.Errorf("%+v, practice %q: %s, decides %s", a, practice, got.Content, decides.revision)
			}
		}
	}
	if counts[active] == 0 || counts[candidate] == 0 {
		t.Errorf("%d and %d: that tries nothing", counts[active], counts[candidate])
	}
}
