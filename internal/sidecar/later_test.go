package sidecar

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/web"
	"chartgate/internal/wire"
)

// slow is a fact source that has nothing at hand, and waits to be let go.
type slow struct {
	*store
	let     chan struct{}
	largest atomic.Int64 // how many were asked for together
	asked   atomic.Int64
}

func (s *slow) AtHand() func(*authz.Request) (authz.Facts, bool) { return nil }

func (s *slow) Together(ctx context.Context, list []authz.Lookup) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		<-s.let
		s.asked.Add(int64(len(list)))
		if n := int64(len(list)); n > s.largest.Load() {
			s.largest.Store(n)
		}
		for i := range list {
			list[i].Facts, list[i].Err = s.Facts(ctx, *list[i].Request)
			if !yield([]int{i}) {
				return
			}
		}
	}
}

// What comes while the hands are busy is decided together by the next that is
// free, and each gets its own answer.
func TestWhatWaitsIsDecidedTogether(t *testing.T) {
	source := &slow{store: &store{}, let: make(chan struct{})}
	b := benchWith(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true}, source, source.store)
	a := b.plainAnswers(nil)
	var all []wire.Call
	ask := func(n int) {
		calls := make([]wire.Call, n)
		for i := range calls {
			user, client := []string{"practitioner-1", "admin-1", "nobody"}[len(all)%3], []string{"client-1", "client-2"}[len(all)%2]
			if len(all) == 7 {
				user = "panics"
			}
			calls[i] = wire.Call{Token: []byte(testKey), RequestID: fmt.Appendf(nil, "r-%d", len(all)), Body: []byte(questionText(user, "chart.open", client))}
			all = append(all, calls[i])
		}
		answerAll(a, calls)
		copy(all[len(all)-n:], calls)
	}
	source.down = func(r authz.Request) error {
		if r.Subject.ID == "panics" {
			panic("the fact source is broken")
		}
		return nil
	}
	const many = 300
	for range b.later.most {
		ask(1)
	}
	ask(many)
	close(source.let)
	for i := range all {
		out := string(all[i].Answered())
		want := "HTTP/1.1 200 "
		if i == 7 {
			want = "HTTP/1.1 500 "
		}
		if !strings.HasPrefix(out, want) || !strings.Contains(out, fmt.Sprintf(": r-%d\r\n", i)) {
			t.Errorf("answer %d: %s", i, out)
			continue
		}
		if allow := i%3 == 0 && i%2 == 0; i != 7 && strings.Contains(out, `"decision":true`) != allow && i%3 != 1 {
			t.Errorf("answer %d: %s", i, out)
		}
	}
	if n := source.largest.Load(); n != mostTogether {
		t.Errorf("at most %d were asked for together, want %d", n, mostTogether)
	}
	if n := b.work.checks.Load(); n != 0 {
		t.Errorf("%d are under way still", n)
	}
	if n := len(source.taken()); n < len(all)-1 {
		t.Errorf("%d answers, %d on record", len(all)-1, n)
	}
}

// No question is left waiting, however they come in as hands become free.
func TestNobodyWaitsForEver(t *testing.T) {
	for name, c := range map[string]struct{ hands, askers, questions int }{
		"one hand, one asker":    {1, 1, 3000},
		"one hand, many askers":  {1, 8, 500},
		"more askers than hands": {4, 8, 500},
	} {
		t.Run(name, func(t *testing.T) {
			b := benchWith(t, compiledEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true}, unready{&store{}}, &store{})
			b.later.most = c.hands
			var all sync.WaitGroup
			for range c.askers {
				all.Go(func() {
					a, calls := b.plainAnswers(nil), make([]wire.Call, 1)
					for range c.questions {
						calls[0] = wire.Call{Token: []byte(testKey), Body: []byte(questionText("practitioner-1", "chart.open", "client-1"))}
						answerAll(a, calls)
						if out := string(calls[0].Answered()); !strings.Contains(out, `"decision":true`) {
							t.Error(out)
						}
						for until := time.Now().Add(rand.N(10 * time.Microsecond)); time.Now().Before(until); { // as the hand becomes free
						}
					}
				})
			}
			ended := make(chan struct{})
			go func() { all.Wait(); close(ended) }()
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Fatal("somebody waits for an answer still")
			}
			for until := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				b.later.mu.Lock()
				busy := b.later.busy
				b.later.mu.Unlock()
				if busy == 0 {
					break
				}
				if time.Now().After(until) {
					t.Fatalf("%d hands are busy still", busy)
				}
			}
		})
	}
}

// answerAll is what a loop does: what has to wait, it leaves to others.
func answerAll(a *plainAnswers, calls []wire.Call) {
	if rest := a.Answer(calls); rest != nil {
		go rest()
	}
}

// unready is a fact source that has nothing at hand.
type unready struct{ *store }

func (unready) AtHand() func(*authz.Request) (authz.Facts, bool) { return nil }
