package facts

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
)

// Together brings the facts of several questions that have all arrived, each
// what Facts would bring. They come in rounds, from memory, from Redis, and from
// Postgres, each of which yields the places in list of those that are known by
// now, or will not be. A round asks its store once for all.
func (s *Source) Together(ctx context.Context, list []authz.Lookup) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		// The lease is taken before anything that it vouches for is read.
		now, state := s.follower.Moment()
		places := make([]int, 0, len(list))
		var rest []missing
		for i := range list {
			m, found := s.look(&list[i], now, state)
			if found {
				places = append(places, i)
				continue
			}
			if m.place = i; rest == nil {
				rest = make([]missing, 0, len(list)-i)
			}
			rest = append(rest, m)
		}
		if len(places) > 0 && !yield(places) {
			return
		}
		s.read(ctx, now, state, rest, yield)
	}
}

// read brings what memory does not hold, of questions that were looked at under
// state at the time began. It yields as Together does.
func (s *Source) read(ctx context.Context, began time.Duration, state *feed.State, rest []missing, yield func([]int) bool) {
	places := make([]int, 0, len(rest))
	if state != nil && s.cache != nil && slices.ContainsFunc(rest, func(m missing) bool { return !m.Unshared }) {
		if places, rest = s.fromRedis(ctx, began, state, rest, places); len(places) > 0 && !yield(places) {
			return
		}
	}
	if len(rest) > 0 {
		yield(s.fromPostgres(ctx, began, state, rest, places[:0]))
	}
}

// missing is a question whose facts memory does not hold.
type missing struct {
	*authz.Lookup
	place  int
	ask    ask
	wanted feed.Snapshot // at least
	since  time.Duration // only a read that began after this has seen all that the question must know
	flight *flight       // by which it is read
}

// look finds what memory holds for l, or returns what is to be read.
func (s *Source) look(l *authz.Lookup, now time.Duration, state *feed.State) (m missing, found bool) {
	a := askOf(*l.Request)
	m = missing{Lookup: l, since: now - s.follower.Lease()}
	if token := l.Request.Context.MinRevision; token != "" {
		var err error
		if m.wanted, err = s.deployment.ParseToken(token); err != nil {
			l.Err = badRevision(err)
			return m, true
		}
		m.since = now - 1 // what the token names was there when it came
	}
	if state != nil && state.Snapshot.AtLeast(m.wanted) {
		if k, ok := s.remembered(&a, state); ok {
			s.counts.Memory.Add(1)
			lower, upper := s.clock.atLeast(state.Bounds(now))
			l.Facts = k.at(lower, upper, state.Token)
			return m, true
		}
		if a.nothing() {
			s.give(l, loadedAt(known{}, state), state, now)
			return m, true
		}
	}
	m.ask = a.clone()
	return m, false
}

// fromRedis finds what entries of Redis say and still holds, and returns the
// places of those questions, and what is left to read.
func (s *Source) fromRedis(ctx context.Context, began time.Duration, state *feed.State, list []missing, places []int) ([]int, []missing) {
	keys := keysOf(list, state.Identity)
	values := s.cache.get(ctx, keys)
	if values == nil {
		return places, list
	}
	entries := s.cache.read(keys, values)
	places, rest := s.take(began, state, list, entries, places)
	s.keep(state, list, entries)
	return places, rest
}

// take gives those of list what their entries say, where that still holds, and
// returns their places, and what is left to read. Of entries it leaves those that
// hold.
func (s *Source) take(began time.Duration, state *feed.State, list []missing, entries []entry, places []int) ([]int, []missing) {
	now := s.follower.Now()
	var rest []missing
	for i, m := range list {
		if !entries[i].ok {
			rest = append(rest, m)
			continue
		}
		k := entries[i].known
		if !state.Snapshot.AtLeast(m.wanted) || !s.follower.Unchanged(state, entries[i].at, k.keys(m.ask)) {
			s.counts.Stale.Add(1)
			entries[i].ok = false
			rest = append(rest, m)
			continue
		}
		s.counts.Redis.Add(1)
		s.took("redis", now-began)
		s.give(m.Lookup, loadedAt(k, state), state, now)
		places = append(places, m.place)
	}
	return places, rest
}

// keep remembers what take took of entries. Nobody has to wait for that: what was
// touched meanwhile is not kept.
func (s *Source) keep(state *feed.State, list []missing, entries []entry) {
	for i := range list {
		if entries[i].ok {
			s.remember(list[i].ask, entries[i].known, state)
		}
	}
	s.memory.tidy()
}

// fromPostgres reads what is missing, or waits for others who are reading it
// already, and returns its places.
func (s *Source) fromPostgres(ctx context.Context, began time.Duration, state *feed.State, list []missing, places []int) []int {
	s.counts.Shared.Add(uint64(s.flights.board(ctx, s.follower, list, s.readAll)))
	for i := range list {
		m := &list[i]
		l, err := m.flight.wait(ctx)
		now := s.follower.Now()
		s.took("postgres", now-began)
		switch {
		case err != nil:
			s.counts.Failed.Add(1)
			m.Err = fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		case !l.snapshot.AtLeast(m.wanted):
			m.Err = badRevision(errors.New("lies in the future"))
		default:
			s.give(m.Lookup, l, state, now)
		}
		places = append(places, m.place)
	}
	return places
}

// give makes l's facts those that were loaded, as they are at the time now, under
// the lease of state, or without one.
func (s *Source) give(l *authz.Lookup, found loaded, state *feed.State, now time.Duration) {
	if found.token == "" {
		found.token = s.deployment.Token(found.snapshot)
	}
	lower, upper := s.clock.atLeast(found.bounds(now))
	l.Facts = found.known.at(lower, upper, found.token)
	l.Facts.Activation = found.activation
	if state == nil {
		l.Facts.Degraded = "no-lease"
	}
}

// readAll reads the facts of flights from Postgres and remembers them, in Redis
// too, for which nobody waits.
func (s *Source) readAll(ctx context.Context, list []*flight) {
	state, from := s.follower.Live(), s.follower.Now()
	loadAll(ctx, s.pool, list)
	for _, f := range list {
		if f.err != nil {
			continue
		}
		f.l.began, f.l.ended = from, s.follower.Now()
		s.counts.Postgres.Add(1)
		if state != nil {
			s.remember(f.ask, f.l.known, state)
		}
	}
	s.memory.tidy()
	if state != nil && s.cache != nil {
		s.flights.aloft.Go(func() { s.cache.put(context.WithoutCancel(ctx), list, state.Identity) })
	}
}
