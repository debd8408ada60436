package feed

import (
	"math"
	"sync"
)

// windowRows bounds the changes that a window remembers. Past that it forgets
// all and begins anew: entries in Redis from before are not taken any more.
const windowRows = 200_000

// window remembers which transactions touched which keys lately, so that an
// entry which was read at a snapshot can be judged without asking Postgres.
type window struct {
	mu      sync.RWMutex
	low     uint64 // every change by a transaction from here on is in it
	rows    int
	touches map[Key][]uint64
}

func newWindow() *window { return &window{low: math.MaxUint64, touches: map[Key][]uint64{}} }

// restart forgets all but touches: every change by a transaction from low on is
// among them or will be heard of.
func (w *window) restart(low uint64, touches []Touch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.touches)
	w.rows, w.low = 0, low
	w.append(touches)
}

// add takes in what a poll heard, with the xmax of its snapshot.
func (w *window) add(xmax uint64, touches []Touch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rows+len(touches) > windowRows {
		// A transaction from xmax on is not in the snapshot: it is still to be heard of.
		clear(w.touches)
		w.rows, w.low = 0, xmax
		return
	}
	w.append(touches)
}

func (w *window) append(touches []Touch) {
	for _, touch := range touches {
		w.touches[touch.Key] = append(w.touches[touch.Key], touch.Xid)
	}
	w.rows += len(touches)
}

// unchanged reports whether nothing under keys was written by a transaction
// that read did not see, as far as the window can tell: false where it cannot.
func (w *window) unchanged(read Snapshot, keys []Key) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if read.xmin < w.low {
		return false
	}
	for _, key := range keys {
		for _, xid := range w.touches[key] {
			if !read.Sees(xid) {
				return false
			}
		}
	}
	for _, xid := range w.touches[Key{Kind: KindAll}] {
		if !read.Sees(xid) {
			return false
		}
	}
	return true
}

// Unchanged reports whether an entry that was read at snapshot read, and rests
// on keys, still holds as of state: the position lies inside the window of
// changes that this follower knows, and nothing later touched a key.
func (f *Follower) Unchanged(state *State, read Snapshot, keys []Key) bool {
	return state.Snapshot.AtLeast(read) && f.window.unchanged(read, keys)
}
