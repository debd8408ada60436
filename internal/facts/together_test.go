package facts_test

import (
	"errors"
	"slices"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/facts"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// Facts of many questions are those of each alone, wherever they come from, and
// each question gets them once.
func TestTogetherIsWhatFactsSays(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	alone := b.another(t)
	if err := alone.Follower().Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	token := b.ask(t, "a1", "c1").Revision
	question := rapid.Custom(func(t *rapid.T) authz.Request {
		r := chartOpen(rapid.SampledFrom([]string{"a1", "b1", "x1", "nobody", "\x00"}).Draw(t, "user"),
			rapid.SampledFrom([]string{"c1", "c2", "c9", "c7", ""}).Draw(t, "client"))
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			r.Subject.Type = authz.SubjectPortal
		case 1:
			r.Resource = authz.Resource{Type: authz.ResourcePractice, ID: rapid.SampledFrom([]string{"p1", "p7"}).Draw(t, "practice")}
		case 2:
			r.Context.MinRevision = rapid.SampledFrom([]string{token, "no token"}).Draw(t, "revision")
		}
		return r
	})
	same := cmp.Options{cmpopts.IgnoreFields(authz.Facts{}, "Now", "Latest", "Revision", "Precedents"), cmp.AllowUnexported(authz.Settings{})}
	counted := map[string]uint64{}
	rapid.Check(t, func(rt *rapid.T) {
		requests := rapid.SliceOfN(question, 1, 40).Draw(rt, "questions")
		source := b.another(t) // of which memory is empty
		if rapid.Bool().Draw(rt, "lease") {
			if err := source.Follower().Poll(t.Context()); err != nil {
				rt.Fatal(err)
			}
		}
		if rapid.Bool().Draw(rt, "flush") {
			b.redis.FlushAll(t.Context())
		}
		for _, r := range requests[:rapid.IntRange(0, len(requests)).Draw(rt, "known")] {
			_, _ = source.Facts(t.Context(), r)
		}
		list, got := make([]authz.Lookup, len(requests)), make([]int, 0, len(requests))
		for i := range requests {
			list[i].Request = &requests[i]
		}
		for places := range source.Together(t.Context(), list) {
			got = append(got, places...)
		}
		source.Wait()
		slices.Sort(got)
		for i, place := range got {
			if i != place || len(got) != len(list) {
				rt.Fatalf("%d questions, answered: %v", len(list), got)
			}
		}
		for i, l := range list {
			want, err := alone.Facts(t.Context(), requests[i])
			var problem, known *authz.Problem
			if errors.As(err, &problem) != errors.As(l.Err, &known) || (err == nil) != (l.Err == nil) {
				rt.Fatalf("%+v: %v, alone %v", requests[i], l.Err, err)
			}
			if want.Degraded = l.Facts.Degraded; err == nil && l.Facts.Revision == "" {
				rt.Error("facts without a revision")
			}
			want.Activation = l.Facts.Activation // of who has a lease, the lease vouches for it
			if diff := cmp.Diff(want, l.Facts, same); diff != "" {
				rt.Fatalf("%+v:\n%s", requests[i], diff)
			}
		}
		for layer, n := range layers(source.Counts()) {
			counted[layer] += n
		}
	})
	for layer := range layers(&facts.Counts{}) {
		if counted[layer] == 0 {
			t.Errorf("nothing came from %s", layer)
		}
	}
}

func layers(c *facts.Counts) map[string]uint64 {
	return map[string]uint64{"memory": c.Memory.Load(), "redis": c.Redis.Load(), "postgres": c.Postgres.Load(), "a shared read": c.Shared.Load()}
}

// What many ask is one command to Redis.
func TestRedisIsAskedOnceForMany(t *testing.T) {
	server := miniredis.RunT(t)
	b := setup(t, "redis://"+server.Addr())
	requests := []authz.Request{chartOpen("a1", "c1"), chartOpen("b1", "c1"), chartOpen("a1", "c2"), chartOpen("x1", "c9")}
	ask := func(source *facts.Source) (rounds int) {
		list := make([]authz.Lookup, len(requests))
		for i := range requests {
			list[i].Request = &requests[i]
		}
		for range source.Together(t.Context(), list) {
			rounds++
		}
		source.Wait()
		return rounds
	}
	ask(b.source)
	b.source = b.another(t)
	b.poll(t)
	before := server.CommandCount()
	if rounds := ask(b.source); rounds != 1 || b.source.Counts().Redis.Load() != uint64(len(requests)) {
		t.Errorf("%d of %d questions were answered by Redis, in %d rounds", b.source.Counts().Redis.Load(), len(requests), rounds)
	}
	if n := server.CommandCount() - before; n != 1 {
		t.Errorf("Redis was given %d commands", n)
	}
}
