package sidecar

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"chartgate/internal/authz"
)

// bodies keeps the text of answers: of the shipped policy there are some
// hundreds, and all that changes in one is valid_until, which stands last.
// The zero value is ready.
type bodies struct {
	texts atomic.Pointer[map[string][]kept] // by code
	mu    sync.Mutex                        // whoever holds it makes a new map
}

// kept is the text of a decision without its time.
type kept struct {
	allow       bool
	bases       uint16 // a bit for each of authz.BasisOrder, in that order
	admin, user string
	text        []byte
}

// Texts that are kept: of so many codes, and so many of each.
const (
	maxCodes   = 256
	maxOfACode = 64
)

// body returns the body of an answer. It is shared, and must not be changed.
func (b *bodies) body(d *authz.Decision) []byte {
	bases, ok := basesOf(d)
	if !ok {
		return encode(*d)
	}
	text := b.text(bases, d)
	if d.ValidUntil == nil {
		return text
	}
	const end = "}}"
	out := make([]byte, 0, len(text)+48)
	out = append(append(out, text[:len(text)-len(end)]...), `,"valid_until":"`...)
	return append(append(out, authz.FormatTime(*d.ValidUntil)...), `"}}`...)
}

func (b *bodies) text(bases uint16, d *authz.Decision) []byte {
	if texts := b.texts.Load(); texts != nil {
		list := (*texts)[d.Code]
		for i := range list {
			if k := &list[i]; k.bases == bases && k.allow == d.Allow && k.admin == d.ReasonAdmin && k.user == d.ReasonUser {
				return k.text
			}
		}
	}
	timeless := *d
	timeless.ValidUntil = nil
	k := kept{allow: d.Allow, bases: bases, admin: d.ReasonAdmin, user: d.ReasonUser, text: encode(timeless)}
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[string][]kept{}
	if old := b.texts.Load(); old != nil && len(*old) < maxCodes {
		maps.Copy(next, *old)
	}
	list := next[d.Code]
	if len(list) >= maxOfACode {
		list = nil
	}
	next[d.Code] = append(slices.Clip(list), k) // a new list: the old one may be read
	b.texts.Store(&next)
	return k.text
}

// basesOf reports false for bases that are not those of authz.BasisOrder, once
// each and in that order.
func basesOf(d *authz.Decision) (bits uint16, ok bool) {
	last := -1
	for _, basis := range d.Bases {
		i := slices.Index(authz.BasisOrder, basis)
		if i <= last {
			return 0, false
		}
		bits |= 1 << i
		last = i
	}
	return bits, true
}

func encode(d authz.Decision) []byte {
	// A decision is texts, lists of texts and booleans: that cannot fail.
	text, _ := json.Marshal(answer{Decision: d.Allow, Context: reasonsOf(d)})
	return text
}
