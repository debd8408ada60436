package facts

import (
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
)

// joined keeps the facts of whole questions as fromMemory put them together,
// so that a question that is asked again needs one look instead of five. It is
// a shadow of memory and holds nothing that memory did not hold: what it keeps
// was good at some poll, and is used only while no poll after that one has
// touched any of its keys. Where it does not know, it forgets.
type joined struct {
	seed   maphash.Seed
	table  [1 << joinedBits]place
	heards [1 << heardBits]atomic.Uint64 // the last poll that touched a key of this place
	floor  atomic.Uint64                 // the last poll that dropped everything
}

const (
	joinedBits = 13 // places for questions
	heardBits  = 12 // several keys share a place: they are taken for touched together
	ways       = 4  // questions at a place
	wholeBytes = 1 << 10
)

// place holds a few questions. Their tags stand beside each other, so that no
// other question's facts are looked at.
type place struct {
	tags   [ways]atomic.Uint32 // some bits of the question's hash; a hint
	wholes [ways]atomic.Pointer[whole]
	_      [16]byte // a line of memory each
}

// whole is the facts of one question. What is of this question alone stands
// together, since a decision waits for memory more than it computes.
type whole struct {
	ask    ask
	poll   uint64 // at which they were good
	heards [4]uint16
	keys   uint8
	known  known
	client authz.Client
	grants [1]authz.Grant

	precedents authz.Precedents
}

func newJoined() *joined { return &joined{seed: maphash.MakeSeed()} }

// get returns the facts of a, if they are known to be good still. The state of
// the lease must have been taken before.
func (j *joined) get(a *ask) (*known, bool) {
	place, tag := j.questions(a)
	for i := range place.tags {
		if place.tags[i].Load() != tag {
			continue
		}
		if w := place.wholes[i].Load(); w != nil && w.ask == *a && j.good(w) {
			return &w.known, true
		}
	}
	return nil, false
}

func (j *joined) good(w *whole) bool {
	if j.floor.Load() > w.poll {
		return false
	}
	for _, place := range w.heards[:w.keys] {
		if j.heards[place].Load() > w.poll {
			return false
		}
	}
	return true
}

func (j *joined) questions(a *ask) (p *place, tag uint32) {
	h := maphash.Comparable(j.seed, *a)
	return &j.table[h>>(64-joinedBits)], uint32(h)
}

// put keeps the facts of a, which were good at a poll.
func (j *joined) put(a ask, k known, keys []feed.Key, poll uint64) {
	w := gather(a, k)
	w.poll, w.keys = poll, uint8(len(keys))
	for i, key := range keys {
		w.heards[i] = j.place(key)
	}
	p, tag := j.questions(&w.ask)
	i := j.room(p, tag)
	p.wholes[i].Store(w)
	p.tags[i].Store(tag)
}

// room picks where at p a question is put: where it stands already, else where
// nothing of use stands, else anywhere.
func (j *joined) room(p *place, tag uint32) int {
	spare := rand.IntN(len(p.tags))
	for i := range p.tags {
		switch w := p.wholes[i].Load(); {
		case w == nil || !j.good(w):
			spare = i
		case p.tags[i].Load() == tag:
			return i
		}
	}
	return spare
}

// gather copies a and what of k is not shared with many questions to one place.
// The texts of a may be parts of a whole request, and are not held on to.
func gather(a ask, k known) *whole {
	assigned := ""
	if k.Client != nil && k.Client.Assigned != a.user {
		assigned = k.Client.Assigned
	}
	texts := a.client + a.practice + a.user + a.login + assigned
	next := func(s string) string {
		own := texts[:len(s)]
		texts = texts[len(s):]
		return own
	}
	w := &whole{known: k, ask: ask{client: next(a.client), practice: next(a.practice), user: next(a.user), login: next(a.login)}}
	if k.Client != nil {
		w.client = *k.Client
		w.client.ID = w.ask.client
		if w.client.Assigned = next(assigned); assigned == "" && k.Client.Assigned != "" {
			w.client.Assigned = w.ask.user
		}
		w.known.Client = &w.client
	}
	w.known.precedents = &w.precedents
	if len(k.Grants) == 1 {
		w.grants[0] = k.Grants[0]
		w.known.Grants = w.grants[:]
	}
	return w
}

func (j *joined) place(key feed.Key) uint16 {
	return uint16(maphash.Comparable(j.seed, key) >> (64 - heardBits))
}

// touched hears that a poll touched key, before that poll's state is published.
func (j *joined) touched(key feed.Key, poll uint64) { j.heards[j.place(key)].Store(poll) }

// dropped hears that a poll dropped everything.
func (j *joined) dropped(poll uint64) {
	j.floor.Store(poll)
	for i := range j.table {
		for k := range j.table[i].wholes {
			j.table[i].wholes[k].Store(nil)
		}
	}
}

// clone makes the texts of a its own: they may be parts of a whole request.
func (a ask) clone() ask {
	return ask{client: strings.Clone(a.client), practice: strings.Clone(a.practice), user: strings.Clone(a.user), login: strings.Clone(a.login)}
}
