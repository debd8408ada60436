package facts

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// Source answers with facts: from memory, else from Redis, else from Postgres.
// It is safe for concurrent use.
type Source struct {
	pool       *pgxpool.Pool
	deployment *feed.Deployment
	follower   *feed.Follower
	memory     *memory
	cache      *sharedCache // nil: no Redis
	flights    flights
	clock      steadyClock
	counts     Counts
	took       func(layer string, d time.Duration)
}

// Counts says where facts came from since the start.
type Counts struct {
	Memory   atomic.Uint64
	Redis    atomic.Uint64 // an entry that nothing had touched since it was read
	Stale    atomic.Uint64 // an entry that something touched, or that is too old to tell
	Rubbish  atomic.Uint64 // an entry that could not be read
	Postgres atomic.Uint64 // read whole
	Shared   atomic.Uint64 // another's read from Postgres, joined
	Failed   atomic.Uint64 // could not be had
}

// DefaultMemory is how many bytes of single facts are remembered unless said
// otherwise, and WholeMemory about as many as whole questions with all that is
// kept beside them take at most.
const (
	DefaultMemory = 32 << 20
	WholeMemory   = wholeBytes * ways << joinedBits
)

// Options of a Source; the zero value is the default.
type Options struct {
	Redis    redis.UniversalClient // nil: none
	MaxBytes uint64                // 0: DefaultMemory
	Feed     feed.Options
	// Listeners hear of changes after memory did, in the same poll.
	Listeners []feed.Listener
	// Took hears how long facts took that were not in memory, by where they came
	// from: "redis" or "postgres". May be nil.
	Took func(layer string, d time.Duration)
}

// NewSource returns a Source over the primary database. Facts are read through
// pool; the feed is followed through follow, so that a poll never waits behind
// a question. Follower().Run must be running for memory to be used.
func NewSource(pool, follow *pgxpool.Pool, d *feed.Deployment, o Options) (*Source, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMemory
	}
	m, err := newMemory(o.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("memory for facts: %w", err)
	}
	s := &Source{pool: pool, deployment: d, memory: m, took: o.Took}
	if s.took == nil {
		s.took = func(string, time.Duration) {}
	}
	if s.follower, err = feed.NewFollower(follow, d, o.Feed, append([]feed.Listener{m.apply}, o.Listeners...)...); err != nil {
		return nil, err
	}
	if o.Redis != nil {
		s.cache = &sharedCache{redis: o.Redis, deployment: d, counts: &s.counts}
	}
	s.flights.running = map[ask]*flight{}
	return s, nil
}

// Follower returns the follower of the feed that keeps memory fresh.
func (s *Source) Follower() *feed.Follower { return s.follower }

// Counts returns the live counters.
func (s *Source) Counts() *Counts { return &s.counts }

// Wait returns when nothing is being read any more, and what was is kept in
// Redis. Nobody may ask meanwhile.
func (s *Source) Wait() { s.flights.aloft.Wait() }

// Facts returns what is known for r, at least as fresh as promise P2 demands of
// a question that arrives with the call. A bad or future min_revision is a
// *authz.Problem; every other error matches authz.ErrUnavailable.
func (s *Source) Facts(ctx context.Context, r authz.Request) (authz.Facts, error) {
	// The lease is taken before anything that it vouches for is read.
	now, state := s.follower.Moment()
	one := authz.Lookup{Request: &r}
	if m, found := s.look(&one, now, state); !found {
		s.read(ctx, now, state, []missing{m}, func([]int) bool { return true })
	}
	return one.Facts, one.Err
}

// AtHand returns what looks facts up in memory alone, for questions that have
// all arrived: one lease and one look at the clock, taken now, serve them all.
// It is nil where the lease is not live.
func (s *Source) AtHand() func(r *authz.Request) (authz.Facts, bool) {
	now, state := s.follower.Moment()
	if state == nil {
		return nil
	}
	lower, upper := s.clock.atLeast(state.Bounds(now))
	return func(r *authz.Request) (authz.Facts, bool) {
		if r.Context.MinRevision != "" {
			return authz.Facts{}, false
		}
		a := askOf(*r)
		k, ok := s.remembered(&a, state)
		if !ok {
			return authz.Facts{}, false
		}
		s.counts.Memory.Add(1)
		return k.at(lower, upper, state.Token), true
	}
}

func badRevision(err error) error {
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "min_revision: " + err.Error(),
		Fields: []authz.Field{{Pointer: "/context/min_revision", Detail: err.Error()}}}
}

// remembered returns the facts of a from memory, or says that one is missing.
func (s *Source) remembered(a *ask, state *feed.State) (*known, bool) {
	if k, ok := s.memory.joined.get(a); ok {
		return k, true
	}
	var keys [4]feed.Key
	k, n, ok := s.fromMemory(*a, state, &keys)
	if !ok {
		return nil, false
	}
	s.memory.joined.put(*a, k, keys[:n], state.Number)
	return &k, true
}

// fromMemory puts the facts of a together, or says that one is missing. Facts
// of different reads may stand beside each other only where the poll of state
// covers them all, so that half of a change is never seen. The first n of keys
// become those that they rest on.
func (s *Source) fromMemory(a ask, state *feed.State, keys *[4]feed.Key) (k known, n int, ok bool) {
	var used [4]*remembered
	take := func(key feed.Key) (*remembered, bool) {
		r, ok := s.memory.get(key)
		if ok {
			used[n], keys[n] = r, key
			n++
		}
		return r, ok
	}
	k.Practice = a.practice
	if a.client != "" {
		r, ok := take(clientKey(a.client))
		if !ok {
			return known{}, n, false
		}
		if r.client == nil {
			return known{}, n, true
		}
		k.Client, k.Practice, k.Left = r.client, r.client.Practice, r.left
	}
	if k.Practice == "" {
		return known{}, n, true
	}
	r, ok := take(settingsKey(k.Practice))
	if !ok {
		return known{}, n, false
	}
	if r.practice == nil {
		return known{}, n, a.client == "" // a client's practice always exists: read again
	}
	k.settings, k.Offered = r.practice.settings, r.practice.offered
	if a.user != "" {
		if r, ok = take(memberKey(k.Practice, a.user)); !ok {
			return known{}, n, false
		}
		k.Member = r.member
	}
	if k.Member != nil && k.Client != nil {
		if r, ok = take(grantKey(a.client, a.user)); !ok {
			return known{}, n, false
		}
		k.Grants = r.grants
	}
	if a.login != "" && k.Client != nil {
		if r, ok = take(portalKey(a.client, a.login)); !ok {
			return known{}, n, false
		}
		k.Portal = r.portal
	}
	if !together(used[:n], state.Number) {
		return known{}, n, false
	}
	return k, n, true
}

// together reports whether facts may stand beside each other: the poll covers
// them all, or they come from one read.
func together(used []*remembered, poll uint64) bool {
	covered, oneRead := true, true
	for _, r := range used {
		covered = covered && r.ready <= poll
		oneRead = oneRead && r.fill == used[0].fill
	}
	return covered || oneRead
}

// remember keeps what a read brought that began when began was the state.
func (s *Source) remember(a ask, k known, began *feed.State) {
	var room [4]fact
	facts := room[:0]
	if a.client != "" {
		facts = append(facts, fact{clientKey(a.client), &remembered{client: k.Client, left: k.Left}})
	}
	if id := k.practiceOr(a); id != "" && (a.client == "" || k.Client != nil) {
		r := &remembered{}
		if k.Practice != "" {
			r.practice = &practice{id: k.Practice, settings: k.settings, offered: k.Offered}
			if a.user != "" {
				facts = append(facts, fact{memberKey(id, a.user), &remembered{member: k.Member}})
			}
			if k.Member != nil && k.Client != nil {
				facts = append(facts, fact{grantKey(a.client, a.user), &remembered{grants: k.Grants}})
			}
			if a.login != "" && k.Client != nil {
				facts = append(facts, fact{portalKey(a.client, a.login), &remembered{portal: k.Portal}})
			}
		}
		facts = append(facts, fact{settingsKey(id), r})
	}
	s.memory.keep(facts, began.Number, s.follower.Started()+1)
}
