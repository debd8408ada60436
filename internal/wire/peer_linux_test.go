package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// oracle answers each question with what its peer says to it, in order; once the
// peer has gone, with "gone". Those that begin with "later" the rest answers, and
// those with "heard" are answered as soon as the peer was heard.
type oracle struct {
	peer  *Peer
	owed  []*Later
	came  []byte
	ended *atomic.Int64
}

func (o *oracle) Answer(calls []Call) (rest func()) {
	var given []func()
	for i := range calls {
		body := string(calls[i].Body)
		later := calls[i].Later()
		if strings.HasPrefix(body, "slow") {
			time.Sleep(200 * time.Millisecond)
		}
		if strings.HasPrefix(body, "later") {
			given = append(given, func() { later.Answer(answer(body+"!", "later")) })
			continue
		}
		if o.peer == nil || !o.peer.Send([]byte(body+"\n")) {
			later.Answer(answer("gone", "loop"))
			continue
		}
		o.owed = append(o.owed, later)
	}
	return together(given)
}

func (o *oracle) Heard() (rest func()) {
	if o.peer == nil {
		return nil
	}
	var given []func()
	room := make([]byte, 100)
	n, err := o.peer.Receive(room)
	o.came = append(o.came, room[:n]...)
	for {
		line, after, whole := bytes.Cut(o.came, []byte("\n"))
		if !whole {
			break
		}
		later, text := o.owed[0], string(line)
		if strings.HasPrefix(text, "heard") {
			later.Answer(answer(text, "heard"))
		} else {
			given = append(given, func() { later.Answer(answer(text, "peer")) })
		}
		o.owed, o.came = o.owed[1:], after
	}
	if err != nil {
		o.peer.Close()
		o.peer = nil
		for _, later := range o.owed {
			given = append(given, func() { later.Answer(answer("gone", "later")) })
		}
		o.owed = nil
	}
	return together(given)
}

func (o *oracle) Close() {
	if o.ended.Add(1); o.peer != nil {
		o.peer.Close()
	}
}

// serveWithPeers is serve with an oracle for each loop, and returns what they
// attend with and the peers. Talk is the other side of each.
func serveWithPeers(t *testing.T, o Options, talk func(net.Conn)) (s *served, attends []Attend, peers []*Peer, ended *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go talk(c)
		}
	}()
	ended = &atomic.Int64{}
	o.Answerer = func(attend Attend) Answerer {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := attend(c)
		if err != nil {
			t.Fatal(err)
		}
		attends, peers = append(attends, attend), append(peers, peer)
		return &oracle{peer: peer, ended: ended}
	}
	return serve(t, o), attends, peers, ended
}

func shout(c net.Conn) {
	defer c.Close()
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if _, err := fmt.Fprintf(c, "%s!\n", lines.Text()); err != nil {
			return
		}
	}
}

// askThePeer asks a question, and waits until the other side of the peer has it.
func askThePeer(t *testing.T, c *client, other net.Conn, question string) {
	t.Helper()
	if _, err := io.WriteString(c, plainly(question)); err != nil {
		t.Fatal(err)
	}
	if text, err := bufio.NewReader(other).ReadString('\n'); text != question+"\n" {
		t.Fatalf("the peer has %q, %v", text, err)
	}
}

// What a peer says is heard by the loop, and each question gets its own answer.
func TestTheLoopHearsItsPeer(t *testing.T) {
	s, _, _, ended := serveWithPeers(t, Options{Loops: 2}, shout)
	var all sync.WaitGroup
	for n := range 8 {
		c := s.dial(t)
		all.Go(func() {
			for i := range 200 {
				who := []string{"peer", "later"}[n%2]
				want := fmt.Sprintf("%s %d of %d", who, i, n)
				if got, by := c.ask(t, plainly(want)); got != want+"!" || by != who {
					t.Errorf("%q by %q, want %q", got, by, want)
					return
				}
			}
		})
	}
	all.Wait()
	s.door.Close()
	if n := ended.Load(); n != 2 {
		t.Errorf("%d answerers were closed", n)
	}
}

// What a peer says and what is asked at the same time do not get in each other's way.
func TestThePeerIsHeardAmongAllElse(t *testing.T) {
	others := make(chan net.Conn, 1)
	s, _, _, _ := serveWithPeers(t, Options{Loops: 1}, func(c net.Conn) { others <- c })
	first, busy, last, other := s.dial(t), s.dial(t), s.dial(t), <-others
	defer other.Close()
	write := func(to io.Writer, text string) {
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
	}
	askThePeer(t, first, other, "first")
	write(busy, plainly("slow"))
	time.Sleep(50 * time.Millisecond) // it keeps the loop
	write(last, plainly("later"))
	write(other, "first\nslow\n")
	for c, want := range map[*client]string{first: "first", busy: "slow", last: "later!"} {
		if got, _, err := c.next(); got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

// A peer that ends, and one that is cut off by somebody else, are heard of.
func TestTheEndOfAPeerIsHeard(t *testing.T) {
	for name, end := range map[string]func(*Peer, net.Conn){
		"ends": func(_ *Peer, other net.Conn) { other.Close() },
		"cut":  func(p *Peer, _ net.Conn) { p.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			others := make(chan net.Conn, 1)
			s, _, peers, _ := serveWithPeers(t, Options{Loops: 1}, func(c net.Conn) { others <- c })
			c, other := s.dial(t), <-others
			defer other.Close()
			askThePeer(t, c, other, "x")
			end(peers[0], other)
			if got, by, err := c.next(); got != "gone" || by != "later" {
				t.Errorf("%q by %q, %v", got, by, err)
			}
			if got, by := c.ask(t, plainly("y")); got != "gone" || by != "loop" {
				t.Errorf("%q by %q", got, by)
			}
			peers[0].Cut() // whoever comes late does no harm
			peers[0].Close()
		})
	}
}

// A server that is closed waits for what a peer has still to say, and attends
// nobody afterwards.
func TestWhoIsOwedByAPeerIsAnswered(t *testing.T) {
	others := make(chan net.Conn, 1)
	s, attends, _, ended := serveWithPeers(t, Options{Loops: 1}, func(c net.Conn) { others <- c })
	c, other := s.dial(t), <-others
	defer other.Close()
	askThePeer(t, c, other, "x")
	closed := make(chan error, 1)
	go func() { closed <- s.door.Close() }()
	select {
	case <-closed:
		t.Error("it did not wait for who is owed an answer")
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := io.WriteString(other, "at last\n"); err != nil {
		t.Fatal(err)
	}
	if got, by, err := c.next(); got != "at last" || by != "peer" {
		t.Errorf("%q by %q, %v", got, by, err)
	}
	if err := <-closed; err != nil || ended.Load() != 1 {
		t.Errorf("%v; %d answerers were closed", err, ended.Load())
	}
	mine, its := net.Pipe()
	defer its.Close()
	if _, err := attends[0](mine); err == nil {
		t.Error("a connection without a socket was attended")
	}
	if _, err := its.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("what is not attended stays open: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	late, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if _, err := attends[0](late); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	_ = there.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end, a connection stays open: %v", err)
	}
}
