package record

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// What is filled again and again is each time what is made anew.
func TestFilledAgainIsMadeAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Rebuilt
		for range rapid.IntRange(1, 4).Draw(t, "times") {
			v := anyVerdict.Draw(t, "verdict")
			body, err := appendBody(nil, &v)
			if err != nil {
				t.Fatal(err)
			}
			var view View
			if err := view.Read(body); err != nil {
				t.Fatal(err)
			}
			r.Fill(&view)
			if diff := cmp.Diff(view.Request(), r.Request); diff != "" {
				t.Fatalf("the request (-anew +again)\n%s", diff)
			}
			if diff := cmp.Diff(view.Facts(), r.Facts, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("the facts (-anew +again)\n%s", diff)
			}
		}
	})
}
