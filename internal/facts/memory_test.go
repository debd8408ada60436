package facts

import (
	"context"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"pgregory.net/rapid"
)

func theMemory(t interface{ Fatal(...any) }) *memory {
	m, err := newMemory(DefaultMemory)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Schedule 4: a fill reads, the poll hears and evicts, the fill inserts.
func TestAFillThatWasOvertakenIsNotKept(t *testing.T) {
	key, other := clientKey("c1"), clientKey("c2")
	for what, news := range map[string]feed.News{
		"its key":    {Number: 5, Touches: []feed.Touch{{Key: key}}},
		"a flush":    {Number: 5, All: true},
		"a bulk row": {Number: 5, Touches: []feed.Touch{{Key: feed.Key{Kind: feed.KindAll}}}},
	} {
		m := theMemory(t)
		began := uint64(4) // the last complete poll when the read began
		if err := m.apply(t.Context(), news); err != nil {
			t.Fatal(err)
		}
		m.keep([]fact{{key, &remembered{}}}, began, 6)
		if _, ok := m.get(key); ok {
			t.Errorf("%s was heard of, and an older read was kept", what)
		}
		m.keep([]fact{{key, &remembered{}}}, 5, 6)
		if _, ok := m.get(key); !ok {
			t.Errorf("after %s: a read that began later was not kept", what)
		}
	}
	m := theMemory(t)
	m.keep([]fact{{key, &remembered{}}, {other, &remembered{}}}, 4, 6)
	_ = m.apply(t.Context(), feed.News{Number: 5, Touches: []feed.Touch{{Key: key}}})
	if _, ok := m.get(key); ok {
		t.Error("a touched fact stayed")
	}
	if _, ok := m.get(other); !ok {
		t.Error("an untouched fact went")
	}
}

func TestWhereTouchHistoryWasDroppedNothingIsKept(t *testing.T) {
	m := theMemory(t)
	for n := uint64(1); n <= 4*heardFor; n++ {
		_ = m.apply(t.Context(), feed.News{Number: n, Touches: []feed.Touch{{Key: clientKey("busy")}}})
	}
	m.keep([]fact{{clientKey("c1"), &remembered{}}}, 2, 3)
	if _, ok := m.get(clientKey("c1")); ok {
		t.Error("a read from before the history was kept")
	}
	for i := range m.shards {
		if n := len(m.shards[i].touched); n > 1 {
			t.Errorf("a shard remembers %d touches", n)
		}
	}
}

// Schedule 16: facts of different reads stand beside each other only where the
// poll covers them.
func TestTornFactsAreNotPutTogether(t *testing.T) {
	one, two := &remembered{fill: 1, ready: 3}, &remembered{fill: 2, ready: 7}
	for _, c := range []struct {
		used []*remembered
		poll uint64
		ok   bool
	}{
		{[]*remembered{one, two}, 7, true},
		{[]*remembered{one, two}, 6, false},
		{[]*remembered{two, one}, 6, false},
		{[]*remembered{two, two}, 6, true}, // one read: one snapshot
		{[]*remembered{one, one}, 2, true},
		{[]*remembered{one, two}, 2, false},
	} {
		if together(c.used, c.poll) != c.ok {
			t.Errorf("%+v at poll %d: %v", c.used, c.poll, !c.ok)
		}
	}
}

// A store whose truth changes, a follower that hears of it, and fills that may
// be slow, in any order: what memory holds at a poll was true at some moment
// from that poll on.
func TestMemoryNeverHoldsWhatWasHeardToBeGone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := theMemory(t)
		key := clientKey("c1")
		type fill struct {
			began  uint64
			status string
		}
		var (
			truth   = "v0"
			changes int
			news    []feed.Touch
			poll    uint64 = 1
			started uint64 = 1
			fills   []fill
			heard   = map[string]bool{} // values that a complete poll has told to be gone
			gone    []string
		)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // a change commits
				gone = append(gone, truth)
				changes++
				truth = "v" + string(rune('0'+changes%10)) + string(rune('a'+changes/10))
				news = append(news, feed.Touch{Key: key})
			case 1: // a read begins, and sees the truth of now
				fills = append(fills, fill{poll, truth})
			case 2: // a read ends, in any order
				if len(fills) > 0 {
					i := rapid.IntRange(0, len(fills)-1).Draw(t, "which")
					m.keep([]fact{{key, &remembered{client: &authz.Client{ID: "c1", Status: fills[i].status}}}}, fills[i].began, started+1)
					fills = append(fills[:i], fills[i+1:]...)
				}
			case 3: // a poll
				started++
				_ = m.apply(context.Background(), feed.News{Number: started, Touches: news})
				poll, news = started, nil
				for _, v := range gone {
					heard[v] = true
				}
				gone = nil
			}
			if r, ok := m.get(key); ok && heard[r.client.Status] {
				t.Fatalf("memory holds %s, which is heard to be gone", r.client.Status)
			}
		}
	})
}

func TestTimeNeverGoesBack(t *testing.T) {
	var c steadyClock
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	c.atLeast(noon, noon.Add(time.Second))
	lower, upper := c.atLeast(noon.Add(-time.Hour), noon.Add(-time.Hour)) // the primary's clock was set back
	if lower.Before(noon) || upper.Before(noon.Add(time.Second)) {
		t.Errorf("time went back to %v, %v", lower, upper)
	}
}

func TestMemoryIsBoundedByBytes(t *testing.T) {
	m, err := newMemory(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 20000 {
				id := string(rune('a'+g)) + time.Duration(i).String()
				m.keep([]fact{{clientKey(id), &remembered{client: &authz.Client{ID: id}}}}, 1, 1)
			}
		})
	}
	wait.Wait()
	m.cache.CleanUp()
	if w := m.cache.WeightedSize(); w > 1<<20 {
		t.Errorf("memory weighs %d bytes", w)
	}
}
