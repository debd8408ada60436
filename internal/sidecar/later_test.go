package sidecar

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

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
	b := benchWith(t, shippedEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true}, source, source.store)
	a := b.plainAnswers()
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
		a.Answer(calls)
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
