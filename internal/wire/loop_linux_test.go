package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

// echo answers each plain request with its body. A body that begins with
// "pass" is left to the server, one with "later" is answered by the rest, one
// with "waits" by the rest when it is let, one with "owed" when it is wished, and
// one with "large" gets an answer that no socket takes at once. One with "slow"
// takes its time, so that others gather.
type echo struct{ *served }

func (e echo) Answer(calls []Call) (rest func()) {
	var later []func()
	for {
		most := e.together.Load()
		if int64(len(calls)) <= most || e.together.CompareAndSwap(most, int64(len(calls))) {
			break
		}
	}
	for i := range calls {
		c := &calls[i]
		body := string(c.Body)
		switch {
		case strings.HasPrefix(body, "pass"):
			c.Pass()
		case strings.HasPrefix(body, "later"):
			c := c.Later()
			later = append(later, func() { c.Answer(answer(body, "later")) })
		case strings.HasPrefix(body, "waits"):
			c := c.Later()
			later = append(later, func() {
				e.waiting.Add(1)
				<-e.let
				c.Answer(answer(body, "later"))
			})
		case strings.HasPrefix(body, "slow"):
			time.Sleep(200 * time.Millisecond)
			c.Out = append(c.Out, answer(body, "loop")...)
		case strings.HasPrefix(body, "owed"):
			e.owed <- c.Later()
		case strings.HasPrefix(body, "large"):
			c.Out = append(c.Out, answer(strings.Repeat(body, largeTimes), "loop")...)
		default:
			c.Out = append(c.Out, answer(body, "loop")...)
		}
	}
	return together(later)
}

// together does all of list, if there is anything.
func together(list []func()) func() {
	if len(list) == 0 {
		return nil
	}
	return func() {
		for _, f := range list {
			f()
		}
	}
}

func (echo) Heard() func() { return nil }

func (echo) Close() {}

const largeTimes = 1 << 20

func answer(body, by string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nBy: %s\r\n\r\n%s", len(body), by, body)
}

// served is a server with a door, and where it listens.
type served struct {
	address  string
	together atomic.Int64
	owed     chan *Later
	waiting  atomic.Int64  // who answers what waits
	let      chan struct{} // has one of them answer
	door     net.Listener
	server   *fasthttp.Server
	ended    chan error
}

func serve(t testing.TB, o Options) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{address: l.Addr().String(), ended: make(chan error, 1), owed: make(chan *Later, 100), let: make(chan struct{})}
	o.Path = path
	if o.Answerer == nil {
		o.Answerer = func(Attend) Answerer { return echo{s} }
	}
	if o.Request == 0 {
		o.Request = 10 * time.Second
	}
	if o.Idle == 0 {
		o.Idle = 10 * time.Second
	}
	if s.door, err = Listen(l, o); err != nil {
		t.Fatal(err)
	}
	s.server = &fasthttp.Server{ConnState: ConnState, ReadBufferSize: 64 << 10, Handler: func(c *fasthttp.RequestCtx) {
		c.Response.Header.Set("By", "server")
		c.Write(c.Request.Body())
	}}
	go func() { s.ended <- s.server.Serve(s.door) }()
	t.Cleanup(s.stop)
	return s
}

func (s *served) stop() {
	_ = s.server.Shutdown()
	s.door.Close()
	<-s.ended
	s.ended <- nil
}

// client is one connection to it.
type client struct {
	net.Conn
	from *bufio.Reader
}

func (s *served) dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{c, bufio.NewReader(c)}
}

// next reads an answer, and says who gave it.
func (c *client) next() (body, by string, err error) {
	var r fasthttp.Response
	err = r.Read(c.from)
	return string(r.Body()), string(r.Header.Peek("By")), err
}

// ask sends a request and returns its answer.
func (c *client) ask(t testing.TB, text string) (body, by string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	body, by, err := c.next()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return body, by
}

func plainly(body string) string {
	return request(body, without(2, fmt.Sprintf("Content-Length: %d", len(body)))...)
}

func oddly(body string) string {
	return request(body, without(2, fmt.Sprintf("Content-Length: %d", len(body)), "Chartgate-Odd: yes")...)
}

// A connection goes to the server with what is not plain, and comes back; each
// request is answered once, with its own body, by whom it belongs to.
func TestConnectionsGoToAndFro(t *testing.T) {
	s := serve(t, Options{})
	var all sync.WaitGroup
	rapid.Check(t, func(rt *rapid.T) {
		kinds := rapid.SliceOfN(rapid.SampledFrom([]string{"plain", "odd", "pass", "later", "split", "pipelined"}), 1, 12).Draw(rt, "requests")
		all.Go(func() {
			c := s.dial(t)
			defer c.Close()
			for i, kind := range kinds {
				body := fmt.Sprintf("%s %d of %p", kind, i, c)
				switch kind {
				case "plain", "later":
					want := map[string]string{"plain": "loop", "later": "later"}[kind]
					got, by := c.ask(t, plainly(body))
					if got != body || by != want && i == 0 {
						t.Errorf("%v: %q from %q, want %q from %q", kinds[:i+1], got, by, body, want)
					}
				case "odd":
					if got, by := c.ask(t, oddly(body)); got != body || by != "server" {
						t.Errorf("%v: %q from %q, want %q from the server", kinds[:i+1], got, by, body)
					}
				case "pass":
					if got, by := c.ask(t, plainly(body)); got != body || by != "server" {
						t.Errorf("%v: %q from %q, want %q from the server", kinds[:i+1], got, by, body)
					}
				case "split":
					text := plainly(body)
					for _, part := range []string{text[:3], text[3:60], text[60 : len(text)-3]} {
						io.WriteString(c, part)
						time.Sleep(time.Millisecond)
					}
					if got, _ := c.ask(t, text[len(text)-3:]); got != body {
						t.Errorf("%v: %q, want %q", kinds[:i+1], got, body)
					}
				case "pipelined":
					if got, _ := c.ask(t, plainly(body)+plainly(body+"+")+oddly(body+"++")); got != body {
						t.Errorf("%v: %q, want %q", kinds[:i+1], got, body)
					}
					for _, more := range []string{"+", "++"} {
						if got, _, err := c.next(); got != body+more {
							t.Errorf("%v: %q %v, want %q", kinds[:i+1], got, err, body+more)
						}
					}
				}
			}
		})
	})
	all.Wait()
}

// A connection that went to the server answers plain requests from the loop
// again, and is not sent back and forth where the loop never answers.
func TestTheLoopGetsItsConnectionsBack(t *testing.T) {
	s := serve(t, Options{Loops: 1})
	c := s.dial(t)
	for i := range 5 {
		if _, by := c.ask(t, oddly("x")); by != "server" {
			t.Fatal(by)
		}
		if _, by := c.ask(t, plainly("x")); by != "loop" {
			t.Fatalf("after %d times at the server, by %s", i+1, by)
		}
	}
	// Of those that the loop passes on, the server keeps more and more.
	for range 6 {
		c.ask(t, plainly("pass"))
	}
	kept := 0
	for range 6 {
		if _, by := c.ask(t, plainly("x")); by == "server" {
			kept++
		}
	}
	if kept == 0 {
		t.Error("after being passed on again and again, the connection came back at once")
	}
}

// What looks like a plain request within the body of another is that body.
func TestABodyIsNoRequest(t *testing.T) {
	s := serve(t, Options{})
	for _, first := range []string{"", "x"} { // on a new connection, and on one that the loop has answered on
		c := s.dial(t)
		if first != "" {
			c.ask(t, plainly(first))
		}
		for range 5 {
			inner := plainly("never asked")
			head, rest := oddly("beginning "+inner), inner
			io.WriteString(c, head[:len(head)-len(rest)])
			time.Sleep(5 * time.Millisecond)
			if got, by := c.ask(t, rest); got != "beginning "+inner || by != "server" {
				t.Fatalf("%q by %s", got, by)
			}
		}
		if got, _ := c.ask(t, plainly("x")); got != "x" {
			t.Fatal(got)
		}
	}
}

// What came together is answered together, each to whom it belongs.
func TestManyAtATime(t *testing.T) {
	s := serve(t, Options{Loops: 2})
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			c := s.dial(t)
			for j := range 200 {
				body := fmt.Sprintf("%d/%d", i, j)
				if j%17 == 3 {
					body = "later " + body
				}
				if got, by := c.ask(t, plainly(body)); got != body || by == "server" {
					t.Errorf("%q by %s, want %q", got, by, body)
					return
				}
			}
		})
	}
	all.Wait()
	if most := s.together.Load(); most < 2 {
		t.Errorf("at most %d were answered together", most)
	}
}

// A client that does not read its answer gets all of it when it does, and
// nobody waits for it meanwhile.
func TestAClientThatDoesNotRead(t *testing.T) {
	s := serve(t, Options{Loops: 1})
	slow, other := s.dial(t), s.dial(t)
	if _, err := io.WriteString(slow, plainly("large!")); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if got, by := other.ask(t, plainly("x")); got != "x" || by != "loop" {
			t.Fatal(got, by)
		}
	}
	got, _, err := slow.next()
	if want := strings.Repeat("large!", largeTimes); err != nil || got != want {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
	if got, _ := slow.ask(t, plainly("x")); got != "x" {
		t.Fatal(got)
	}
}

func TestSilentConnectionsEnd(t *testing.T) {
	s := serve(t, Options{Request: time.Second, Idle: 2 * time.Second})
	halfway, idle := s.dial(t), s.dial(t)
	idle.ask(t, plainly("x"))
	io.WriteString(halfway, plainly("x")[:40])
	for _, c := range []*client{halfway, idle} {
		if _, err := c.from.ReadByte(); err != io.EOF {
			t.Errorf("%v, want the end", err)
		}
	}
}

// Closing answers what has come, and leaves nothing behind: no goroutine, and
// no connection.
func TestCloseAnswersWhatHasCome(t *testing.T) {
	before := goleak.IgnoreCurrent()
	s := serve(t, Options{})
	var asked, answered, refused atomic.Int64
	var all sync.WaitGroup
	clients := make([]*client, 40)
	for i := range clients {
		clients[i] = s.dial(t)
		clients[i].ask(t, plainly("x"))
	}
	for i, c := range clients {
		text := []string{plainly("x"), plainly("later"), oddly("x"), plainly("pass")}[i%4]
		all.Go(func() {
			for {
				asked.Add(1)
				if _, err := io.WriteString(c, text); err != nil {
					refused.Add(1)
					return
				}
				if _, _, err := c.next(); err != nil {
					refused.Add(1)
					return
				}
				answered.Add(1)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	s.stop()
	all.Wait()
	if n := refused.Load(); n != int64(len(clients)) || answered.Load() < 100 {
		t.Errorf("%d asked, %d answered, %d connections ended", asked.Load(), answered.Load(), n)
	}
	if _, err := net.Dial("tcp", s.address); err == nil {
		t.Error("it still takes connections")
	}
	for _, c := range clients {
		c.Close()
	}
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// The connection of who is answered later belongs to him alone: what its client
// sends meanwhile waits.
func TestWhoIsAnsweredLaterWaits(t *testing.T) {
	s := serve(t, Options{})
	c := s.dial(t)
	for i := range 50 {
		first, second := fmt.Sprint("later ", i), fmt.Sprint("plain ", i)
		io.WriteString(c, plainly(first))
		got, _ := c.ask(t, plainly(second))
		if got != first {
			t.Fatalf("%q, want %q", got, first)
		}
		if got, _, _ := c.next(); got != second {
			t.Fatalf("%q, want %q", got, second)
		}
	}
}

// Who is owed an answer gets it, also where the server is closed meanwhile, and
// however long it takes; who has left does no harm.
func TestWhatIsOwedIsAnswered(t *testing.T) {
	s := serve(t, Options{Idle: time.Second})
	waits, leaves, asks := s.dial(t), s.dial(t), s.dial(t)
	io.WriteString(waits, plainly("owed 1"))
	first := <-s.owed
	io.WriteString(leaves, plainly("owed 2"))
	second := <-s.owed
	leaves.Close()
	for until := time.Now().Add(3 * sweepTime); time.Now().Before(until); {
		asks.ask(t, plainly("x")) // nobody waits for another
	}
	second.Answer(answer("2", "late"))
	closed := make(chan error, 1)
	go func() { closed <- s.door.Close() }()
	if _, err := asks.from.ReadByte(); err != io.EOF {
		t.Errorf("the door is closed, and a connection that is owed nothing stays: %v", err)
	}
	select {
	case <-closed:
		t.Error("it did not wait for who is owed an answer")
	case <-time.After(50 * time.Millisecond):
	}
	first.Answer(answer("1", "late"))
	if got, by, err := waits.next(); got != "1" || by != "late" {
		t.Errorf("%q by %q, %v", got, by, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := waits.from.ReadByte(); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
}

// What has to wait keeps nobody: the loop goes on, by goroutines that are used
// again.
func TestTheLoopGoesOnMeanwhile(t *testing.T) {
	s := serve(t, Options{Loops: 1})
	asks := s.dial(t)
	clients := make([]*client, 20)
	for i := range clients {
		clients[i] = s.dial(t)
		clients[i].ask(t, plainly("x"))
	}
	goroutines := 0
	for round := range 20 {
		s.waiting.Store(0)
		for i, c := range clients {
			io.WriteString(c, plainly(fmt.Sprint("waits ", i)))
			for until := time.Now().Add(10 * time.Second); s.waiting.Load() <= int64(i); time.Sleep(100 * time.Microsecond) {
				if time.Now().After(until) {
					t.Fatalf("round %d: %d wait, want %d", round, s.waiting.Load(), i+1)
				}
			}
			if got, by := asks.ask(t, plainly("x")); got != "x" || by != "loop" {
				t.Fatalf("%q by %q", got, by)
			}
		}
		for range clients {
			s.let <- struct{}{}
		}
		for i, c := range clients {
			if got, by, err := c.next(); got != fmt.Sprint("waits ", i) || by != "later" {
				t.Fatalf("%q by %q, %v", got, by, err)
			}
		}
		time.Sleep(time.Millisecond) // they come back
		if n := runtime.NumGoroutine(); round == 0 {
			goroutines = n
		} else if n > goroutines+len(clients)/2 {
			t.Fatalf("%d goroutines after round %d, %d after the first", n, round, goroutines)
		}
	}
}

// More may come at once than there is room for; what of it has to wait is
// answered all the same.
func TestMoreThanThereIsRoomFor(t *testing.T) {
	s := serve(t, Options{Loops: 1})
	long := strings.Repeat("x", 7000)
	clients := make([]*client, 2*arenaSize/readSize)
	for i := range clients {
		clients[i] = s.dial(t)
		clients[i].ask(t, plainly("x"))
	}
	slow := s.dial(t)
	io.WriteString(slow, plainly("slow"))
	time.Sleep(50 * time.Millisecond)
	for i, c := range clients {
		io.WriteString(c, plainly(fmt.Sprint("later ", i, long)))
	}
	for i, c := range clients {
		if got, by, err := c.next(); got != fmt.Sprint("later ", i, long) || by != "later" {
			t.Fatalf("%.20q by %q, %v", got, by, err)
		}
	}
	if n := s.together.Load(); n < arenaSize/readSize/2 {
		t.Errorf("at most %d came together", n)
	}
}

// BenchmarkPlain is what a request and its answer cost, on 32 connections.
func BenchmarkPlain(b *testing.B) {
	s := serve(b, Options{})
	for name, text := range map[string]string{"loop": plainly("x"), "server": oddly("x")} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(16)
			b.RunParallel(func(p *testing.PB) {
				c := s.dial(b)
				want := bytes.Clone([]byte("x"))
				for p.Next() {
					if got, _ := c.ask(b, text); got != string(want) {
						b.Error(got)
						return
					}
				}
			})
		})
	}
}
