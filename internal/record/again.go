package record

import (
	"slices"
	"sync/atomic"

	"chartgate/internal/authz"
)

// Verdicts that follow one precedent have bodies that differ in their moment and
// their origin alone: the rest is written once, and copied.

// headSize is what of a body stands before its moment.
const headSize = 4

// entriesLike returns where it is kept what the body of v has in common with the
// others of its precedent; nil where it follows none.
func entriesLike(v *authz.Verdict) *atomic.Pointer[authz.Entry] {
	if v.Precedent == nil || v.Facts.Now.IsZero() || v.Facts.Latest.IsZero() { // which the flags tell
		return nil
	}
	return &v.Precedent.Entry
}

// common copies what the body that was written from start has in common.
func (w *writer) common(start int) *authz.Entry {
	b, from := slices.Clone(w.b[start:]), w.originAt[0]-start
	return &authz.Entry{Head: b[:from:from], Tail: b[w.originAt[1]-start:], Policy: [2]int{w.policyAt[0] - start, w.policyAt[1] - start}}
}

// again writes what verdict would.
func (w *writer) again(v *authz.Verdict, like *authz.Entry) {
	w.policyAt = [2]int{len(w.b) + like.Policy[0], len(w.b) + like.Policy[1]}
	w.b = append(w.b, like.Head[:headSize]...)
	w.moment(v)
	w.b = append(w.b, like.Head[fixedSize:]...)
	w.origin(v)
	w.b = append(w.b, like.Tail...)
}
