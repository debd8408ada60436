package wire

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// askFrom asks n questions on each connection from one processor, each of which
// who is named is to answer.
func askFrom(t *testing.T, processor, n int, who string, clients []*client) {
	t.Helper()
	fault := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		var set unix.CPUSet
		set.Set(processor)
		err := unix.SchedSetaffinity(0, &set)
		for i := 0; i < n*len(clients) && err == nil; i++ {
			c, text := clients[i%len(clients)], fmt.Sprintf("%s question %d", who, i)
			if _, err = io.WriteString(c, plainly(text)); err != nil {
				break
			}
			body, by, failed := c.next()
			if err = failed; err == nil && (body != text || by != who) {
				err = fmt.Errorf("%q is answered with %q by the %s", text, body, by)
			}
		}
		fault <- err
	}()
	if err := <-fault; err != nil {
		t.Fatal(err)
	}
}

// needProcessors skips a test where the processors 0 and 1, the homes of what two
// loops answer, are not both for us.
func needProcessors(t *testing.T) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	if !set.IsSet(0) || !set.IsSet(1) {
		t.Skip("the processors 0 and 1 are not both for us")
	}
}

func (s *served) held() (counts [2]int64) {
	for i, p := range s.door.(*door).loops {
		counts[i] = p.held.Load()
	}
	return counts
}

func (s *served) awaitHeld(t *testing.T, want [2]int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.held() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the loops hold %v connections, not %v", s.held(), want)
		}
	}
}

// Connections go where their questions come in, and none is lost on the way.
func TestWhoAsksFromOneProcessorIsAnsweredByOneLoop(t *testing.T) {
	needProcessors(t)
	for _, who := range []string{"loop", "later"} {
		t.Run(who, func(t *testing.T) {
			s := serve(t, Options{Loops: 2})
			var clients [2][]*client
			for i := range 8 { // two in turn, so that each loop gets two of each
				k := i / 2 % 2
				clients[k] = append(clients[k], s.dial(t))
			}
			for range 4 { // a loop takes one more than the other has at a time
				for k := range clients {
					askFrom(t, k, 2*homeEvery, who, clients[k])
				}
			}
			s.awaitHeld(t, [2]int64{4, 4})
			for _, c := range clients[0] {
				c.Close()
			}
			s.awaitHeld(t, [2]int64{0, 4})
			askFrom(t, 1, 2, who, clients[1])
			for _, c := range clients[1] {
				c.Close()
			}
			s.awaitHeld(t, [2]int64{})
		})
	}
}

// What asks everything from one processor does not keep one loop busy alone.
func TestALoopDoesNotTakeAll(t *testing.T) {
	needProcessors(t)
	s := serve(t, Options{Loops: 2})
	var clients []*client
	for range 8 {
		clients = append(clients, s.dial(t))
	}
	askFrom(t, 1, 4*homeEvery, "loop", clients)
	s.awaitHeld(t, [2]int64{3, 5})
}

// What a peer has to be asked for is gathered by the first loop, up to a bound, and
// goes back where it belongs once no peer has to be asked.
func TestWhatPeersAnswerIsGathered(t *testing.T) {
	needProcessors(t)
	s, _, _, _ := serveWithPeers(t, Options{Loops: 2}, func(c net.Conn) { _, _ = io.Copy(c, c) })
	var clients []*client
	dial := func(n int) {
		for range n {
			clients = append(clients, s.dial(t))
		}
	}
	dial(8)
	s.awaitHeld(t, [2]int64{4, 4})
	askFrom(t, 1, homeEvery, "heard", clients)
	s.awaitHeld(t, [2]int64{8, 0})
	dial(mostGathered)
	for range 3 { // those that come at the same time may be a few too many
		askFrom(t, 1, homeEvery, "heard", clients)
	}
	s.awaitHeld(t, [2]int64{mostGathered, 8})
	for range 4 {
		askFrom(t, 1, homeEvery, "peer", clients)
	}
	s.awaitHeld(t, [2]int64{11, 13})
	for _, c := range clients {
		c.Close()
	}
	s.awaitHeld(t, [2]int64{})
	for i, p := range s.door.(*door).loops {
		if n := p.gathered.Load(); n != 0 {
			t.Errorf("loop %d counts %d connections that have gone", i, n)
		}
	}
}
