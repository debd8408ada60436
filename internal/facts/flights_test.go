package facts

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/feed"
)

// Schedule 4: a read that is on its way answers only questions that came less
// than a lease after it began; one that names a revision, only if it began after
// the question came.
func TestAReadOnItsWayIsSharedOnlyWhileItIsYoung(t *testing.T) {
	var clock atomic.Int64
	clock.Store(int64(time.Hour))
	follower, err := feed.NewFollower(nil, nil, feed.Options{Clock: func() time.Duration { return time.Duration(clock.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	f := flights{running: map[ask]*flight{}}
	release := make(chan struct{})
	defer close(release)
	shares := func(since time.Duration) bool { // whether he does is known before anything is read
		return f.board(t.Context(), follower, []missing{{ask: ask{client: "c1"}, since: since}}, func(context.Context, []*flight) {
			<-release
		}) == 1
	}
	young := func() time.Duration { return follower.Now() - follower.Lease() }
	if shares(young()) {
		t.Error("the first shares a read with nobody")
	}
	clock.Add(int64(follower.Lease()) - 1)
	if !shares(young()) {
		t.Error("a question that came within a lease began a read of its own")
	}
	if shares(follower.Now() - 1) {
		t.Error("a question that names a revision shares a read that began before it")
	}
	if !shares(follower.Now() - 1) {
		t.Error("two questions of one moment do not share a read")
	}
	clock.Add(int64(follower.Lease()))
	if shares(young()) {
		t.Error("a question shares a read that began a lease before it")
	}
}
