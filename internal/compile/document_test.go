package compile

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestPlacesAreTheDocument reads every place of many facts in both ways: from
// the Go values, as a program does, and from the document, as OPA does. Nothing
// stands in the document that is no place.
func TestPlacesAreTheDocument(t *testing.T) {
	c := &certifier{report: &Report{}, program: &Program{actions: map[string]*runnable{"chart.open": nil}}}
	c.fuzz(&space{}, rand.New(rand.NewPCG(3, 4)))
	for _, j := range c.jobs {
		s, err := concrete(j.action, j.p)
		if err != nil {
			t.Fatal(err)
		}
		for path, d := range shape {
			name := path[strings.LastIndexByte(path, '.')+1:]
			got := read(&s.request, &s.facts, d.place, name)
			want := inDocument(s.document, path)
			if d.form == formObject {
				if (got.sort == undefined) != (want.sort == undefined) || want.sort != undefined && !hasType(OpIsObject, got) {
					t.Fatalf("%s is %v, in the document %v", path, got, want)
				}
				continue
			}
			switch d.form {
			case formText:
				if quick, ok := readText(&s.request, &s.facts, d.place, name); ok != (got.sort == text) || quick != got.text {
					t.Fatalf("%s is quickly %q, %v", path, quick, ok)
				}
			case formTexts:
				if quick := readTexts(&s.request, &s.facts, d.place, name); !slices.Equal(quick, got.list) {
					t.Fatalf("%s is quickly %v", path, quick)
				}
			}
			x, y := got.asAST(), want.asAST()
			if (x == nil) != (y == nil) || x != nil && ast.Compare(x, y) != 0 {
				t.Fatalf("%s is %v, in the document %v", path, x, y)
			}
		}
		known(t, "", s.document)
	}
}

// known fails for a member of the document that no place describes.
func known(t *testing.T, prefix string, document map[string]any) {
	for name, v := range document {
		path := prefix + name
		d, ok := shape[path]
		inner, isTable := v.(map[string]any)
		if isTable && (!ok || d.form == formObject) {
			known(t, path+".", inner)
			continue
		}
		if !ok {
			t.Fatalf("input.%s is no place", path)
		}
	}
}

// TestTheClockHasTwoBounds is the one place that depends on another.
func TestTheClockHasTwoBounds(t *testing.T) {
	f := authz.Facts{Now: base.Add(1), Latest: base}
	if got := latest(&f); got.num != base.UnixMicro() {
		t.Errorf("latest is %v", got)
	}
	f = authz.Facts{Now: base, Latest: base.Add(5000)}
	if got := latest(&f); got.num != base.UnixMicro()+5 {
		t.Errorf("latest is %v", got)
	}
}
