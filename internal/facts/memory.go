package facts

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"github.com/maypok86/otter/v2"
)

// memory remembers single facts: a client, a membership, a member's grants on a
// client, a login's portal access on a client, a practice's settings; also that there is none. It may be read only
// under a live lease (see Source.fromMemory).
//
// Keeping a fact and dropping it happen under one lock for each key, and a fact
// is kept only if nothing was heard about its key since it was read; so a read
// that was overtaken by a change can never be kept after the change was heard.
type memory struct {
	cache  *otter.Cache[feed.Key, *remembered]
	seed   maphash.Seed
	shards [64]shard
	joined *joined
	untidy atomic.Pointer[func()] // what the cache has to tidy, if anything
	fills  sync.Mutex
	fill   uint64
}

// shard holds when keys were last heard of, by the number of the poll.
type shard struct {
	mu      sync.Mutex
	touched map[feed.Key]uint64
	floor   uint64 // nothing that was read before this poll may be kept
}

// fact is what is remembered under a key.
type fact struct {
	key feed.Key
	*remembered
}

// remembered is one fact. Which of the values is set follows from the key.
type remembered struct {
	client   *authz.Client // nil: there is no such client
	left     []string      // portal features that the client's narrowing leaves; nil: all
	portal   *authz.Portal // nil: no access
	member   *authz.Member // nil: no membership
	grants   []authz.Grant
	practice *practice // nil: no such practice

	fill  uint64 // facts of one fill were read at one snapshot
	ready uint64 // the first poll whose snapshot is surely not older than the fact
}

type practice struct {
	id       string
	settings *authz.Settings
	offered  []string // portal features
}

// heardFor is for how many polls it is remembered when a key was touched. A
// read that takes longer than that is not kept.
const heardFor = 64

// weights of facts, in bytes: roughly what one costs with its key and the
// cache's own bookkeeping.
const (
	weightBase  = 256
	weightGrant = 96
)

func newMemory(maxBytes uint64) (*memory, error) {
	m := &memory{seed: maphash.MakeSeed(), joined: newJoined()}
	cache, err := otter.New(&otter.Options[feed.Key, *remembered]{
		MaximumWeight: maxBytes,
		// By the writer, once for all that it keeps (tidy): a goroutine for it costs
		// more than what it does.
		Executor: func(f func()) { m.untidy.Store(&f) },
		Weigher: func(key feed.Key, r *remembered) uint32 {
			w := weightBase + len(key.A) + len(key.B) + weightGrant*len(r.grants)
			if r.member != nil || r.client != nil || r.portal != nil {
				w += 2 * authz.MaxID
			}
			return uint32(w)
		},
	})
	if err != nil {
		return nil, err
	}
	m.cache = cache
	for i := range m.shards {
		m.shards[i].touched = map[feed.Key]uint64{}
	}
	return m, nil
}

func (m *memory) shard(key feed.Key) *shard {
	return &m.shards[maphash.Comparable(m.seed, key)%uint64(len(m.shards))]
}

// get returns what is remembered under key.
func (m *memory) get(key feed.Key) (*remembered, bool) { return m.cache.GetIfPresent(key) }

// tidy lets the cache drop what is too much. It is to be called after keep; until
// then, the cache holds a few facts more than it may.
func (m *memory) tidy() {
	if f := m.untidy.Swap(nil); f != nil {
		(*f)()
	}
}

// keep remembers facts that were read together, in a read that began when poll
// began was the last complete one and ended before poll ready begins.
func (m *memory) keep(facts []fact, began, ready uint64) {
	m.fills.Lock()
	m.fill++
	fill := m.fill
	m.fills.Unlock()
	for _, f := range facts {
		f.fill, f.ready = fill, ready
		s := m.shard(f.key)
		s.mu.Lock()
		if s.touched[f.key] <= began && s.floor <= began {
			m.cache.Set(f.key, f.remembered)
		}
		s.mu.Unlock()
	}
}

// apply drops what a poll heard of. It is a feed.Listener.
func (m *memory) apply(_ context.Context, news feed.News) error {
	all := news.All
	for _, touch := range news.Touches {
		if touch.Key.Kind == feed.KindAll {
			all = true
		}
	}
	if all {
		m.dropAll(news.Number)
		return nil
	}
	for _, touch := range news.Touches {
		s := m.shard(touch.Key)
		s.mu.Lock()
		s.touched[touch.Key] = news.Number
		m.cache.Invalidate(touch.Key)
		s.mu.Unlock()
		m.joined.touched(touch.Key, news.Number)
	}
	if news.Number%heardFor == 0 {
		m.forget(news.Number)
	}
	m.tidy()
	return nil
}

func (m *memory) dropAll(number uint64) {
	for i := range m.shards {
		m.shards[i].mu.Lock()
		m.shards[i].floor = number
		clear(m.shards[i].touched)
	}
	m.cache.InvalidateAll()
	m.joined.dropped(number)
	for i := range m.shards {
		m.shards[i].mu.Unlock()
	}
}

// forget drops the knowledge of touches that are long past, and with it the
// right to keep what was read before them.
func (m *memory) forget(number uint64) {
	if number <= heardFor {
		return
	}
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.floor = max(s.floor, number-heardFor)
		for key, heard := range s.touched {
			if heard <= s.floor {
				delete(s.touched, key)
			}
		}
		s.mu.Unlock()
	}
}
