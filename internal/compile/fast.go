package compile

import (
	"slices"

	"chartgate/internal/authz"
)

// fast is a test that is asked so often that it has a way of its own, which
// gives what comparison.test gives.
type fast uint8

const (
	fastNone  fast = iota
	fastWord       // a text place equals a constant
	fastWords      // a text place is one of some constants
	fastSame       // two text places are equal
	fastHas        // a list of texts holds a constant
	fastFlag       // a boolean place equals a constant
)

// fastOf says which way a test has.
func fastOf(f *Formula) fast {
	if f.Kind != KindAtom || f.A.Loop > 0 || f.B.Loop > 0 {
		return fastNone
	}
	a, b := shape[f.A.Path].form, shape[f.B.Path].form
	left, right := constantOf(f.A), constantOf(f.B)
	switch {
	case f.Op == OpEqual && a == formText && right == text:
		return fastWord
	case f.Op == OpEqual && a == formText && b == formText:
		return fastSame
	case f.Op == OpEqual && a == formBool && right == boolean:
		return fastFlag
	case f.Op == OpIn && left == text && b == formTexts:
		return fastHas
	case f.Op == OpIn && a == formText && f.B.isConst():
		if _, ok := textsOf(f.B.Const); ok {
			return fastWords
		}
	}
	return fastNone
}

func constantOf(o Operand) sort {
	if !o.isConst() {
		return undefined
	}
	return constantValue(o.Const).sort
}

// quick is two operands as a fast test reads them: small, since a decision waits
// for memory more than it computes.
type quick struct {
	place, other place
	name, same   string   // of the two places
	text         string   // the constant, on whichever side it stands
	texts        []string // constants
	num          int64
}

func quickOf(a, b *operand) quick {
	q := quick{place: a.place, other: b.place, name: a.name, same: b.name, text: b.value.text, texts: b.texts, num: b.value.num}
	if a.value.sort == text {
		q.text = a.value.text
	}
	return q
}

// quickly answers a fast test on a request and its facts.
func (n *comparison) quickly(fr *frame) bool {
	q := &n.quick
	switch n.fast {
	case fastWord:
		s, ok := readText(fr.request, fr.facts, q.place, q.name)
		return ok && s == q.text
	case fastWords:
		s, ok := readText(fr.request, fr.facts, q.place, q.name)
		return ok && slices.Contains(q.texts, s)
	case fastSame:
		x, ok := readText(fr.request, fr.facts, q.place, q.name)
		if !ok {
			return false
		}
		y, ok := readText(fr.request, fr.facts, q.other, q.same)
		return ok && x == y
	case fastHas:
		return slices.Contains(readTexts(fr.request, fr.facts, q.other, q.same), q.text)
	}
	v := read(fr.request, fr.facts, q.place, q.name)
	return v.sort == boolean && v.num == q.num
}

// readText is read for the texts that are asked most.
func readText(r *authz.Request, f *authz.Facts, p place, name string) (string, bool) {
	switch p {
	case placeSubjectType:
		return r.Subject.Type, true
	case placeSubjectID:
		return r.Subject.ID, true
	case placeResourceType:
		return r.Resource.Type, true
	case placeResourceID:
		return r.Resource.ID, true
	case placeMemberUser, placeMemberPractice, placeMemberStatus:
		if f.Member == nil {
			return "", false
		}
		switch p {
		case placeMemberUser:
			return f.Member.User, true
		case placeMemberPractice:
			return f.Member.Practice, true
		}
		return f.Member.Status, true
	case placeClientID, placeClientPractice, placeClientStatus:
		if f.Client == nil {
			return "", false
		}
		switch p {
		case placeClientID:
			return f.Client.ID, true
		case placeClientPractice:
			return f.Client.Practice, true
		}
		return f.Client.Status, true
	}
	v := read(r, f, p, name)
	return v.text, v.sort == text
}

func readTexts(r *authz.Request, f *authz.Facts, p place, name string) []string {
	if p == placeMemberRoles {
		if f.Member == nil {
			return nil
		}
		return f.Member.Roles
	}
	return read(r, f, p, name).list
}
