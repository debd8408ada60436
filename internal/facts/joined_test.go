package facts

import (
	"context"
	"fmt"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A client and its practice's settings change, a follower hears of it, reads
// and readers may be slow, in any order: whole facts that a reader under some
// poll's lease gets hold nothing that a poll up to that one has told to be gone.
func TestWholeFactsHoldNothingThatWasHeardToBeGone(t *testing.T) {
	used := 0
	rapid.Check(t, func(t *rapid.T) {
		m := theMemory(t)
		s := &Source{memory: m}
		a := ask{client: "c1", user: ""}
		type fill struct {
			began            uint64
			status, settings string
		}
		type reader struct {
			state *feed.State
			known known
			keys  []feed.Key
		}
		var (
			n       int
			status  = "s0"
			offered = "o0"
			news    []feed.Touch
			poll    = uint64(1)
			started = uint64(1)
			fills   []fill
			readers []reader
			gone    []string
			heard   = map[string]uint64{} // by which poll a value is told to be gone
		)
		check := func(k *known, state *feed.State) {
			for _, v := range []string{k.Client.Status, k.Offered[0]} {
				if at, is := heard[v]; is && at <= state.Number {
					t.Fatalf("under poll %d %s is answered, which poll %d told to be gone", state.Number, v, at)
				}
			}
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			state := &feed.State{Number: poll}
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0:
				n++
				gone, status = append(gone, status), fmt.Sprint("s", n)
				news = append(news, feed.Touch{Key: clientKey("c1")})
			case 1:
				n++
				gone, offered = append(gone, offered), fmt.Sprint("o", n)
				news = append(news, feed.Touch{Key: settingsKey("p1")})
			case 2: // a read begins, and sees the truth of now
				fills = append(fills, fill{poll, status, offered})
			case 3: // a read ends
				if len(fills) > 0 {
					i := rapid.IntRange(0, len(fills)-1).Draw(t, "which read")
					f := fills[i]
					fills = append(fills[:i], fills[i+1:]...)
					m.keep([]fact{
						{clientKey("c1"), &remembered{client: &authz.Client{ID: "c1", Practice: "p1", Status: f.status}}},
						{settingsKey("p1"), &remembered{practice: &practice{id: "p1", offered: []string{f.settings}}}},
					}, f.began, started+1)
				}
			case 4: // a poll
				started++
				if rapid.IntRange(0, 9).Draw(t, "flush") == 0 {
					_ = m.apply(context.Background(), feed.News{Number: started, All: true})
				} else {
					_ = m.apply(context.Background(), feed.News{Number: started, Touches: news})
				}
				poll, news = started, nil
				for _, v := range gone {
					heard[v] = poll
				}
				gone = nil
			case 5: // a reader puts facts together, and stalls before it keeps them
				var keys [4]feed.Key
				if k, n, ok := s.fromMemory(a, state, &keys); ok {
					readers = append(readers, reader{state, k, keys[:n]})
				}
			case 6: // it goes on
				if len(readers) > 0 {
					r := readers[0]
					readers = readers[1:]
					m.joined.put(a, r.known, r.keys, r.state.Number)
				}
			case 7: // a reader
				if _, ok := m.joined.get(&a); ok {
					used++
				}
				if k, ok := s.remembered(&a, state); ok {
					check(k, state)
				}
			}
		}
	})
	if used == 0 {
		t.Error("no reader found whole facts: nothing was tested")
	}
}

// Gathering facts changes none of them.
func TestGatheredFactsAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom([]string{"", "a", "practitioner-1", "client-1"})
		a := ask{client: id.Draw(t, "client"), practice: id.Draw(t, "practice"), user: id.Draw(t, "user"), login: id.Draw(t, "login")}
		k := known{Practice: "p1"}
		if a.client != "" {
			k.Client = &authz.Client{ID: a.client, Practice: "p1", Assigned: id.Draw(t, "assigned"), Status: "active"}
		}
		for range rapid.IntRange(0, 2).Draw(t, "grants") {
			k.Grants = append(k.Grants, authz.Grant{Scope: id.Draw(t, "scope")})
		}
		w := gather(a, k)
		if w.known.precedents != &w.precedents {
			t.Fatal("precedents have no room beside the facts")
		}
		w.known.precedents = nil
		if diff := cmp.Diff(k, w.known, cmp.AllowUnexported(known{})); diff != "" || w.ask != a {
			t.Fatalf("%+v became %+v: %s", a, w.ask, diff)
		}
	})
}

// The newest questions are found, and nobody else's.
func TestWholeFactsAreFoundAgainAndBounded(t *testing.T) {
	j := newJoined()
	for i := range 100_000 {
		a := ask{client: fmt.Sprint("c", i), user: "u"}
		j.put(a, known{Practice: a.client}, []feed.Key{clientKey(a.client)}, 1)
		if k, ok := j.get(&a); !ok || k.Practice != a.client {
			t.Fatalf("%+v is not found: %v", a, k)
		}
	}
	if _, ok := j.get(&ask{client: "c99999", user: "v"}); ok {
		t.Error("another's facts are found")
	}
	kept := 0
	for i := range j.table {
		for k := range j.table[i].wholes {
			if j.table[i].wholes[k].Load() != nil {
				kept++
			}
		}
	}
	if kept < 2<<joinedBits || kept > 4<<joinedBits {
		t.Errorf("%d are kept", kept)
	}
}
