package facts

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/wire"

	"github.com/redis/go-redis/v9"
	"github.com/tidwall/redcon"
)

// Line asks Redis for the facts of questions without waiting for the reply, for a
// loop that hears that among all else: what is found is what Together would have
// found there. It serves one goroutine at a time, but for what says otherwise.
//
// Its connection is one that the client library has opened (dialRedis), so that it
// needs no other settings. Where there is none, or nothing comes for redisLimit,
// the questions are left to Together, which asks Redis in its own way, and Postgres.
type Line struct {
	s      *Source
	redis  *redis.Client // that would ask in the ordinary way
	attend wire.Attend

	peer    atomic.Pointer[wire.Peer] // nil: there is none now
	calling atomic.Bool               // somebody is opening one
	ended   atomic.Bool

	asked []inquiry // in the order of the replies
	keys  int       // of asked
	out   []byte
	in    []byte // has come, and is no whole reply

	// oldest is the first of asked; watched says that somebody looks whether it
	// gets its reply in time.
	oldest  atomic.Pointer[time.Time]
	watched atomic.Bool
}

// inquiry is what was asked in one command, and who hears of it.
type inquiry struct {
	list  []missing
	keys  []string
	began time.Duration // on the follower's clock
	at    *time.Time
	state *feed.State // under which it was asked
	came  func(places []int)
}

const (
	mostInquired = 256         // keys whose reply is awaited at the same time
	openingLimit = time.Second // for which nobody waits
	replyRoom    = 16 << 10    // is read at once
	longestReply = 4 << 20
)

// Line returns a line to Redis for a loop; nil where none can be had.
func (s *Source) Line(attend wire.Attend) *Line {
	if s.cache == nil {
		return nil
	}
	client := plainRedis(s.cache.redis)
	if client == nil {
		return nil
	}
	l := &Line{s: s, redis: client, attend: attend}
	l.call()
	return l
}

// call opens the connection, for which nobody waits.
func (l *Line) call() {
	if l.ended.Load() || !l.s.cache.up() || !l.calling.CompareAndSwap(false, true) {
		return
	}
	l.s.flights.aloft.Go(func() {
		defer l.calling.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), openingLimit)
		defer cancel()
		err := dialRedis(ctx, l.redis, func(c net.Conn) error {
			peer, err := l.attend(c)
			if err != nil {
				return err
			}
			if l.peer.Store(peer); l.ended.Load() {
				l.Close()
			}
			return nil
		})
		if err != nil && !l.ended.Load() {
			l.s.cache.failed(ctx, fmt.Errorf("open a line: %w", err))
		}
	})
}

// Ask asks for the facts of list, and reports whether it did. Then came is called
// once, by Heard, with the places in list of those that have their facts; the
// others have been asked for in vain. None may name a min_revision.
func (l *Line) Ask(list []authz.Lookup, came func(places []int)) bool {
	peer := l.peer.Load()
	if peer == nil {
		l.call()
		return false
	}
	began, state := l.s.follower.Moment()
	if state == nil || !l.s.cache.up() || l.keys+len(list) > mostInquired {
		return false
	}
	at := time.Now()
	q := inquiry{list: make([]missing, len(list)), began: began, at: &at, state: state, came: came}
	for i := range list {
		q.list[i] = missing{Lookup: &list[i], place: i, ask: askOf(*list[i].Request).clone()}
	}
	q.keys = keysOf(q.list, state.Identity)
	l.out = redcon.AppendBulkString(redcon.AppendArray(l.out[:0], 1+len(q.keys)), "MGET")
	for _, key := range q.keys {
		l.out = redcon.AppendBulkString(l.out, key)
	}
	if !peer.Send(l.out) {
		peer.Cut() // part of it may be sent; Heard gives the connection up
		return false
	}
	l.asked, l.keys = append(l.asked, q), l.keys+len(list)
	l.wait()
	return true
}

// Heard takes what came on the connection.
func (l *Line) Heard() {
	peer := l.peer.Load()
	if peer == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil { // whoever is to hear of it guards himself
			l.lost(fmt.Errorf("a reply of redis cannot be read: %v", r))
		}
	}()
	n := len(l.in)
	l.in = slices.Grow(l.in, replyRoom)[:n+replyRoom]
	got, err := peer.Receive(l.in[n:])
	l.in = l.in[:n+got]
	if err != nil {
		l.lost(err)
		return
	}
	rest := l.in
	for {
		n, reply := redcon.ReadNextRESP(rest)
		if n == 0 {
			break
		}
		rest = rest[n:]
		if err := l.hear(reply); err != nil {
			l.lost(err)
			return
		}
	}
	if l.in = append(l.in[:0], rest...); len(l.in) > longestReply {
		l.lost(fmt.Errorf("a reply of redis has more than %d bytes", longestReply))
	}
}

// hear takes the reply to the oldest inquiry.
func (l *Line) hear(reply redcon.RESP) error {
	switch { // what it says may be facts, which are for no log
	case reply.Type == redcon.Error:
		return fmt.Errorf("redis says %.100q", reply.Data)
	case len(l.asked) == 0 || reply.Type != redcon.Array || reply.Count != len(l.asked[0].keys):
		return fmt.Errorf("redis says what nobody asked for (%q, %d)", byte(reply.Type), reply.Count)
	}
	q := l.asked[0]
	values := make([]any, 0, len(q.keys))
	reply.ForEach(func(one redcon.RESP) bool {
		if one.Type == redcon.Bulk && one.Data != nil {
			values = append(values, string(one.Data))
		} else {
			values = append(values, nil)
		}
		return true
	})
	entries := l.s.cache.read(q.keys, values)
	places, rest := l.s.take(q.began, q.state, q.list, entries, make([]int, 0, len(q.list)))
	for _, m := range rest {
		m.Unshared = true
	}
	l.forget() // what follows hears of a fault itself
	q.came(places)
	l.s.keep(q.state, q.list, entries) // the answers are out already
	return nil
}

// forget takes the oldest inquiry off the list.
func (l *Line) forget() {
	l.keys -= len(l.asked[0].keys)
	n := copy(l.asked, l.asked[1:])
	clear(l.asked[n:])
	l.asked = l.asked[:n]
	l.wait()
}

// lost gives up the connection: what was asked on it was asked in vain.
func (l *Line) lost(err error) {
	l.hangUp()
	if len(l.asked) > 0 {
		l.s.cache.failed(context.Background(), err)
	}
	l.in = nil
	for len(l.asked) > 0 {
		came := l.asked[0].came
		l.forget()
		came(nil)
	}
}

// Close ends the line. What was asked is not answered any more.
func (l *Line) Close() {
	l.ended.Store(true)
	l.hangUp()
}

func (l *Line) hangUp() {
	if peer := l.peer.Swap(nil); peer != nil {
		peer.Close()
	}
}

// wait sees to it that nothing is waited for longer than redisLimit.
func (l *Line) wait() {
	if len(l.asked) == 0 {
		l.oldest.Store(nil)
		return
	}
	l.oldest.Store(l.asked[0].at)
	if l.watched.CompareAndSwap(false, true) {
		time.AfterFunc(redisLimit, l.watch)
	}
}

// watch cuts the connection on which a reply is late: the loop hears of that, and
// gives it up. It looks again as long as anything is asked.
func (l *Line) watch() {
	peer, oldest := l.peer.Load(), l.oldest.Load()
	if oldest == nil {
		l.watched.Store(false)
		if l.oldest.Load() == nil || !l.watched.CompareAndSwap(false, true) {
			return
		}
		time.AfterFunc(redisLimit, l.watch)
		return
	}
	left := redisLimit - time.Since(*oldest)
	if left <= 0 && peer != nil {
		peer.Cut()
	}
	time.AfterFunc(max(left, redisLimit/10), l.watch)
}
