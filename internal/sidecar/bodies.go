package sidecar

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"

	"chartgate/internal/authz"
)

// bodies keeps the text of answers: of the shipped policy there are some
// hundreds, and all that changes in one is valid_until, which stands last.
// The zero value is ready.
type bodies struct {
	texts atomic.Pointer[map[shape][]byte]
	mu    sync.Mutex // whoever holds it makes a new map
}

// shape is a decision without its time.
type shape struct {
	allow             bool
	bases             uint16 // a bit for each of authz.BasisOrder, in that order
	code, admin, user string
}

// maxShapes bounds the texts that are kept.
const maxShapes = 4096

// body returns the body of an answer. It is shared, and must not be changed.
func (b *bodies) body(d *authz.Decision) []byte {
	s, ok := shapeOfDecision(d)
	if !ok {
		return encode(*d)
	}
	text := b.text(s, d)
	if d.ValidUntil == nil {
		return text
	}
	const end = "}}"
	out := make([]byte, 0, len(text)+48)
	out = append(append(out, text[:len(text)-len(end)]...), `,"valid_until":"`...)
	return append(append(out, authz.FormatTime(*d.ValidUntil)...), `"}}`...)
}

func (b *bodies) text(s shape, d *authz.Decision) []byte {
	old := b.texts.Load()
	if old != nil {
		if text, ok := (*old)[s]; ok {
			return text
		}
	}
	timeless := *d
	timeless.ValidUntil = nil
	text := encode(timeless)
	b.mu.Lock()
	defer b.mu.Unlock()
	next := map[shape][]byte{s: text}
	if old = b.texts.Load(); old != nil && len(*old) < maxShapes {
		for s, text := range *old {
			next[s] = text
		}
	}
	b.texts.Store(&next)
	return text
}

// shapeOfDecision reports false for bases that are not those of authz.BasisOrder, once
// each and in that order.
func shapeOfDecision(d *authz.Decision) (shape, bool) {
	s := shape{allow: d.Allow, code: d.Code, admin: d.ReasonAdmin, user: d.ReasonUser}
	last := -1
	for _, basis := range d.Bases {
		i := slices.Index(authz.BasisOrder, basis)
		if i <= last {
			return s, false
		}
		s.bases |= 1 << i
		last = i
	}
	return s, true
}

func encode(d authz.Decision) []byte {
	// A decision is texts, lists of texts and booleans: that cannot fail.
	text, _ := json.Marshal(answer{Decision: d.Allow, Context: reasonsOf(d)})
	return text
}
