package facts_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/wire"

	"github.com/alicebob/miniredis/v2"
	minired "github.com/alicebob/miniredis/v2/server"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// lined is a line and who hears on it, as a loop would.
type lined struct {
	*facts.Line
	asked int // that have not been heard of
}

// inquiry is what was asked together, and where those stand that were found.
type inquiry struct {
	list  []authz.Lookup
	found []int
}

// line opens a line of source.
func line(t *testing.T, source *facts.Source) *lined {
	t.Helper()
	l := &lined{Line: source.Line(wire.NewPeer)}
	if l.Line == nil {
		t.Fatal("there is no line")
	}
	t.Cleanup(l.Close)
	return l
}

// ask asks for the facts of requests, as soon as the line is open.
func (l *lined) ask(t interface{ Fatalf(string, ...any) }, requests ...authz.Request) *inquiry {
	q := &inquiry{list: make([]authz.Lookup, len(requests))}
	for i := range requests {
		q.list[i].Request = &requests[i]
	}
	for deadline := time.Now().Add(10 * time.Second); !l.Ask(q.list, func(places []int) {
		q.found = places
		l.asked--
	}); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing can be asked on the line")
		}
	}
	l.asked++
	return q
}

// hear hears until every question has been heard of.
func (l *lined) hear(t interface{ Fatalf(string, ...any) }) {
	for deadline := time.Now().Add(10 * time.Second); l.asked > 0; time.Sleep(100 * time.Microsecond) {
		if l.Heard(); time.Now().After(deadline) {
			t.Fatalf("nothing was heard of %d questions", l.asked)
		}
	}
}

// What the line finds is what Together finds in Redis, and nothing else.
func TestTheLineIsWhatTogetherSays(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	fresh := func() *facts.Source { // of which memory is empty
		s := b.another(t)
		if err := s.Follower().Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	alone := fresh()
	question := rapid.Custom(func(t *rapid.T) authz.Request {
		r := chartOpen(rapid.SampledFrom([]string{"a1", "b1", "x1", "nobody", "\x00"}).Draw(t, "user"),
			rapid.SampledFrom([]string{"c1", "c2", "c9", "c7"}).Draw(t, "client"))
		if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
			r.Subject.Type = authz.SubjectPortal
		}
		return r
	})
	same := cmp.Options{cmpopts.IgnoreFields(authz.Facts{}, "Now", "Latest", "Revision", "Precedents"), cmp.AllowUnexported(authz.Settings{})}
	found, missed := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		requests := rapid.SliceOfN(question, 1, 20).Draw(rt, "questions")
		known := rapid.IntRange(0, len(requests)).Draw(rt, "known")
		half := rapid.IntRange(0, len(requests)-1).Draw(rt, "half")
		try := func() (fault string) {
			b.redis.FlushAll(t.Context())
			writer := fresh()
			for _, r := range requests[:known] {
				if _, err := writer.Facts(t.Context(), r); err != nil {
					rt.Fatal(err)
				}
			}
			writer.Wait()
			source, reader := fresh(), fresh()
			l := line(t, source)
			defer l.Close()
			var asked []*inquiry // whose replies may come together
			for _, part := range [][]authz.Request{requests[:half], requests[half:]} {
				if len(part) > 0 {
					asked = append(asked, l.ask(rt, part...))
				}
			}
			l.hear(rt)
			for _, q := range asked {
				for i, one := range q.list {
					if is := slices.Contains(q.found, i); is == one.Unshared {
						return fmt.Sprintf("%+v: found: %t, asked in vain: %t", one.Request, is, one.Unshared)
					} else if !is {
						missed++
						continue
					}
					found++
					want, err := alone.Facts(t.Context(), *one.Request)
					if err != nil {
						rt.Fatal(err)
					}
					if diff := cmp.Diff(want, one.Facts, same); diff != "" || one.Facts.Revision == "" || one.Err != nil {
						rt.Fatalf("%+v: %v\n%s", one.Request, one.Err, diff)
					}
				}
			}
			again := make([]authz.Lookup, len(requests))
			for i := range requests {
				again[i].Request = &requests[i]
			}
			for range reader.Together(t.Context(), again) {
			}
			reader.Wait()
			if got, want := source.Counts().Redis.Load(), reader.Counts().Redis.Load(); got != want {
				return fmt.Sprintf("%d of %d were found in Redis, by Together %d", got, len(requests), want)
			}
			return ""
		}
		fault := try()
		for again := 0; fault != "" && again < 3; again++ { // a Redis that is slow for a moment is a miss
			fault = try()
		}
		if fault != "" {
			rt.Fatal(fault)
		}
	})
	if found == 0 || missed == 0 {
		t.Errorf("%d were found, %d were not", found, missed)
	}
}

// What was asked for in vain is not asked for in Redis again.
func TestWhatTheLineMissedComesFromPostgres(t *testing.T) {
	server := miniredis.RunT(t)
	b := setup(t, "redis://"+server.Addr())
	l := line(t, b.source)
	q := l.ask(t, chartOpen("b1", "c1"), chartOpen("b1", "c2"))
	l.hear(t)
	var again atomic.Int64
	server.Server().SetPreHook(func(_ *minired.Peer, command string, _ ...string) bool {
		if command == "MGET" {
			again.Add(1)
		}
		return false
	})
	for range b.source.Together(t.Context(), q.list) {
	}
	for _, one := range q.list {
		if one.Err != nil || one.Facts.Client == nil {
			t.Errorf("%+v, %v", one.Facts, one.Err)
		}
	}
	b.source.Wait()
	if n := again.Load(); n != 0 || b.source.Counts().Postgres.Load() != 2 {
		t.Errorf("Redis was asked again %d times, and %d were read from Postgres", n, b.source.Counts().Postgres.Load())
	}
}

// An entry that a change touched is not taken, and a reply that a change has
// overtaken is not kept.
func TestTheLineBringsNothingBack(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	b.ask(t, "b1", "c1") // Redis holds an entry now
	b.source.Wait()
	b.source = b.another(t)
	b.poll(t)
	l := line(t, b.source)
	q := l.ask(t, chartOpen("b1", "c1"))
	b.exec(t, `DELETE FROM grants WHERE user_id = 'b1'`)
	l.hear(t) // under the lease of before
	if len(q.found) != 1 || q.list[0].Facts.Grant == nil {
		t.Fatalf("what was asked before the revoke was heard of: %+v", q.list[0].Facts)
	}
	r := chartOpen("b1", "c1")
	if _, at := b.source.AtHand()(&r); !at {
		t.Error("memory does not keep what the line brought")
	}
	b.poll(t)
	if f, at := b.source.AtHand()(&r); at {
		t.Errorf("memory kept what was heard to be gone: %+v", f.Grant)
	}
	b.exec(t, `INSERT INTO grants (practice, client, user_id, scope, not_before, granted_by) VALUES ('p1', 'c2', 'b1', 'view', '2020-01-01Z', 'a1')`)
	b.poll(t)
	b.ask(t, "b1", "c2")
	b.source.Wait()
	b.source = b.another(t)
	b.poll(t)
	l = line(t, b.source)
	q = l.ask(t, chartOpen("b1", "c2"))
	b.exec(t, `DELETE FROM grants`)
	b.poll(t)
	l.hear(t)
	late := l.ask(t, chartOpen("b1", "c2"))
	l.hear(t)
	if len(q.found) != 0 || len(late.found) != 0 || b.source.Counts().Stale.Load() != 2 {
		t.Errorf("after a revoke was heard of: %v, %v", q.found, late.found)
	}
	if f := b.ask(t, "b1", "c2"); f.Grant != nil {
		t.Error("a revoked grant came back")
	}
}

// Without a lease nothing is asked on the line.
func TestTheLineNeedsALease(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	l := line(t, b.source)
	l.ask(t, chartOpen("b1", "c1"))
	l.hear(t)
	b.clock.advance(time.Minute)
	r := chartOpen("b1", "c1")
	if l.Ask([]authz.Lookup{{Request: &r}}, func([]int) { t.Error("it was heard of") }) {
		t.Error("it was asked")
	}
}

// between stands between a line and Redis, and does with the replies what a test
// wants.
type between struct {
	address string
	turn    atomic.Pointer[func(to io.Writer, reply []byte) error]
}

func stand(t *testing.T, server *miniredis.Miniredis) *between {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &between{address: l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", server.Addr())
			if err != nil {
				c.Close()
				continue
			}
			go func() { _, _ = io.Copy(s, c); s.Close() }()
			go func() {
				defer c.Close()
				for room := make([]byte, 1<<16); ; {
					n, err := s.Read(room)
					if err != nil {
						return
					}
					if turn := b.turn.Load(); turn != nil {
						err = (*turn)(c, room[:n])
					} else {
						_, err = c.Write(room[:n])
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return b
}

// Whatever becomes of a reply, each question is heard of once: it has its facts,
// or is left to be asked in another way. The next line works.
func TestARedisThatFailsTheLine(t *testing.T) {
	server := miniredis.RunT(t)
	b := setup(t, "redis://"+server.Addr())
	b.ask(t, "b1", "c1")
	b.source.Wait()
	var log bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer func() {
		if text := log.String(); !strings.Contains(text, "LOADING") || strings.Contains(text, "help-centre") {
			t.Errorf("the log says too little, or what is for nobody's eyes: %s", text)
		}
	}()
	for name, c := range map[string]struct {
		turn  func(to io.Writer, reply []byte) error
		found bool
	}{
		"says nothing":             {turn: func(io.Writer, []byte) error { return nil }},
		"says half":                {turn: func(to io.Writer, reply []byte) error { _, err := to.Write(reply[:len(reply)/2]); return err }},
		"ends":                     {turn: func(io.Writer, []byte) error { return io.EOF }},
		"ends within a reply":      {turn: func(to io.Writer, reply []byte) error { _, _ = to.Write(reply[:20]); return io.EOF }},
		"refuses":                  {turn: say("-LOADING Redis is loading the dataset in memory\r\n")},
		"answers too little":       {turn: say("*0\r\n")},
		"answers too much":         {turn: say("*2\r\n$-1\r\n$-1\r\n")},
		"answers something else":   {turn: say(":1\r\n")},
		"answers a monstrous size": {turn: say("*1\r\n$9223372036854775807\r\nx\r\n")},
		"answers no protocol":      {turn: say("HTTP/1.1 400 Bad Request\r\n\r\n")},
		"answers without end": {turn: func(to io.Writer, _ []byte) error {
			_, err := to.Write(append([]byte("*1\r\n$8000000\r\n"), make([]byte, 7000000)...))
			return err
		}},
		"answers more than was asked for": {turn: func(to io.Writer, reply []byte) error {
			one := bytes.TrimPrefix(reply, []byte("*1\r\n"))
			_, err := to.Write(slices.Concat([]byte("*2\r\n"), one, one))
			return err
		}},
		"answers a number": {turn: say("*1\r\n:1\r\n")},
		"answers twice":    {turn: func(to io.Writer, reply []byte) error { _, err := to.Write(bytes.Repeat(reply, 2)); return err }, found: true},
		"speaks slowly": {turn: func(to io.Writer, reply []byte) error {
			for i := range reply {
				if _, err := to.Write(reply[i : i+1]); err != nil {
					return err
				}
				if i%100 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			return nil
		}, found: true},
	} {
		t.Run(name, func(t *testing.T) {
			way := stand(t, server)
			client, err := facts.OpenRedis("redis://" + way.address)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			b := b
			b.redis = client
			b.source = b.another(t)
			b.poll(t)
			l := line(t, b.source)
			l.ask(t, chartOpen("b1", "c1"))
			l.hear(t)
			way.turn.Store(&c.turn)
			began := time.Now()
			q := l.ask(t, chartOpen("b1", "c1"))
			l.hear(t)
			if found := len(q.found) == 1; found != c.found {
				t.Errorf("found: %t", found)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it was waited for for %v", took)
			}
			for range 3 { // the rest of what was said, if any
				time.Sleep(time.Millisecond)
				l.Heard()
			}
			for range b.source.Together(t.Context(), q.list) {
			}
			if f := q.list[0]; f.Err != nil || f.Facts.Grant == nil {
				t.Errorf("%+v, %v", f.Facts, f.Err)
			}
			way.turn.Store(nil)
			q = l.ask(t, chartOpen("b1", "c1")) // as soon as Redis is asked again at all
			l.hear(t)
			if len(q.found) != 1 {
				t.Error("the next line brings nothing")
			}
		})
	}
}

// A Redis that is slow while it is called, as one that has just been started, is
// given its time: nobody waits for the line.
func TestTheLineIsOpenedInItsOwnTime(t *testing.T) {
	way := stand(t, miniredis.RunT(t))
	slowly := func(to io.Writer, reply []byte) error {
		time.Sleep(100 * time.Millisecond)
		_, err := to.Write(reply)
		return err
	}
	way.turn.Store(&slowly)
	b := setup(t, "redis://"+way.address)
	l := line(t, b.source)
	l.ask(t, chartOpen("b1", "c1"))
	way.turn.Store(nil)
	l.hear(t)
}

func say(text string) func(io.Writer, []byte) error {
	return func(to io.Writer, _ []byte) error {
		_, err := io.WriteString(to, text)
		return err
	}
}

// What the address of Redis says holds for the line too.
func TestTheLineIsTheSameRedis(t *testing.T) {
	server := miniredis.RunT(t)
	server.RequireUserAuth("sidecar", "secret")
	b := setup(t, "redis://sidecar:secret@"+server.Addr()+"/3")
	b.ask(t, "b1", "c1")
	b.source.Wait()
	b.source = b.another(t)
	b.poll(t)
	l := line(t, b.source)
	q := l.ask(t, chartOpen("b1", "c1"))
	l.hear(t)
	if len(q.found) != 1 {
		t.Error("the line did not find what stands in database 3")
	}
	for name, client := range map[string]redis.UniversalClient{
		"encrypted":     redis.NewClient(&redis.Options{Addr: server.Addr(), TLSConfig: &tls.Config{}}),
		"of many nodes": redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr()}}),
	} {
		defer client.Close()
		source, err := facts.NewSource(b.pool, b.pool, b.d, facts.Options{Redis: client})
		if err != nil {
			t.Fatal(err)
		}
		if source.Line(wire.NewPeer) != nil {
			t.Errorf("there is a line to a Redis that is %s", name)
		}
	}
}

// A line takes no more than its share, and nothing once it has ended.
func TestTheLineIsBounded(t *testing.T) {
	server := miniredis.RunT(t)
	b := setup(t, "redis://"+server.Addr())
	l := line(t, b.source)
	l.ask(t, chartOpen("b1", "c1"))
	l.hear(t)
	r := chartOpen("b1", "c1")
	taken := 0
	for range 1000 {
		if !l.Ask([]authz.Lookup{{Request: &r}}, func([]int) { taken-- }) {
			break
		}
		taken++
	}
	if taken != 256 {
		t.Errorf("%d questions were taken at once", taken)
	}
	for deadline := time.Now().Add(10 * time.Second); taken > 0 && time.Now().Before(deadline); l.Heard() {
	}
	if taken != 0 {
		t.Errorf("nothing was heard of %d questions", taken)
	}
	l.Close()
	if l.Ask([]authz.Lookup{{Request: &r}}, func([]int) {}) {
		t.Error("a line that has ended was asked")
	}
}
