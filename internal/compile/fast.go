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

// quickly answers a fast test on a request and its facts.
func (n *comparison) quickly(fr *frame) bool {
	switch n.fast {
	case fastWord:
		s, ok := readText(fr.request, fr.facts, n.a.place, n.a.name)
		return ok && s == n.b.value.text
	case fastWords:
		s, ok := readText(fr.request, fr.facts, n.a.place, n.a.name)
		return ok && slices.Contains(n.b.texts, s)
	case fastSame:
		x, ok := readText(fr.request, fr.facts, n.a.place, n.a.name)
		if !ok {
			return false
		}
		y, ok := readText(fr.request, fr.facts, n.b.place, n.b.name)
		return ok && x == y
	case fastHas:
		return slices.Contains(readTexts(fr.request, fr.facts, n.b.place, n.b.name), n.a.value.text)
	}
	v := read(fr.request, fr.facts, n.a.place, n.a.name)
	return v.sort == boolean && v.num == n.b.value.num
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
