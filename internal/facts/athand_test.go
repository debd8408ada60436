package facts_test

import (
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What is at hand is what Facts says, only while the lease is live, and never
// what was heard to be gone (promise P2).
func TestWhatIsAtHandIsWhatFactsSays(t *testing.T) {
	b := setup(t, "")
	r := chartOpen("b1", "c1")
	atHand := func() (authz.Facts, bool) {
		look := b.source.AtHand()
		if look == nil {
			return authz.Facts{}, false
		}
		return look(&r)
	}
	if _, ok := atHand(); ok {
		t.Fatal("what was never read is at hand")
	}
	want := b.ask(t, "b1", "c1")
	got, ok := atHand()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(authz.Facts{}, "Now", "Latest", "Precedents"), cmp.AllowUnexported(authz.Settings{})); !ok || diff != "" {
		t.Errorf("at hand: %t\n%s", ok, diff)
	}
	r.Context.MinRevision = want.Revision
	if _, ok := atHand(); ok {
		t.Error("a question that wants facts of its own freshness was answered at hand")
	}
	r.Context.MinRevision = ""
	b.exec(t, `DELETE FROM grants WHERE user_id = 'b1'`)
	look := b.source.AtHand() // of questions that arrived before the poll below
	b.poll(t)
	if f, ok := look(&r); ok && f.Grant != nil {
		t.Error("a grant that was heard to be gone is at hand")
	}
	if _, ok := atHand(); ok {
		t.Error("facts that were heard to be gone are at hand")
	}
	if f := b.ask(t, "b1", "c1"); f.Grant != nil {
		t.Fatal("the grant is there still")
	}
	if f, ok := atHand(); !ok || f.Grant != nil {
		t.Errorf("after it was read again: %t, %+v", ok, f.Grant)
	}
	b.clock.advance(feed.MaxLease + time.Millisecond)
	if _, ok := atHand(); ok {
		t.Error("facts are at hand without a lease")
	}
}
