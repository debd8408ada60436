package compile

import "chartgate/internal/authz"

// clock reports whether o is what the clock shows.
func (o *operand) clock() bool { return o.place == placeNow || o.place == placeLatest }

// span says at which times n, one of whose operands is the clock, has the answer
// that it has for a and b: of two times that depends on nothing but which of them
// is earlier.
func (n *comparison) span(a, b value) authz.Span {
	place, clock, other := n.a.place, a, b
	if n.b.clock() {
		place, clock, other = n.b.place, b, a
	}
	span := authz.Always
	switch {
	case other.sort == undefined, n.knownOfClocks(): // whatever the clock shows
		return span
	case n.a.clock() && n.b.clock(), clock.sort != instant, other.sort != instant:
		return authz.Never
	}
	at := &span.Now
	if place == placeLatest {
		at = &span.Latest
	}
	switch {
	case clock.num < other.num:
		at.To = other.num - 1
	case clock.num > other.num:
		at.From = other.num + 1
	default:
		at.From, at.To = other.num, other.num
	}
	return span
}

// knownOfClocks reports whether n asks what is so at any time: the latest that it
// may be is never before now (see latest).
func (n *comparison) knownOfClocks() bool {
	return n.op == OpLessEqual && n.a.place == placeNow && n.b.place == placeLatest ||
		n.op == OpLess && n.a.place == placeLatest && n.b.place == placeNow
}
