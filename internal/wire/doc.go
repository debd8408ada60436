// Package wire answers plain requests straight from their sockets, many at a
// time, and lets every other request through to an ordinary HTTP server.
//
// A decision from memory takes a few microseconds; a goroutine that is parked
// and woken for each request, and a general HTTP server, take more. So a few
// loops wait for all connections at once (epoll), read what has come, have all
// of it answered together, and write the answers; a loop has those connections
// whose questions come in on its processor (home). On a connection of its own an
// Answerer can ask another server, whose reply the loop hears among all else
// (Peer); few loops gather the connections for which that has to be. What the
// loops read is one form of request, taken strictly (see read): whatever else
// comes, the connection is handed to the ordinary server with not a byte changed,
// and comes back when it is between two requests and the next one looks plain
// again.
//
// It promises: what it answers is what the ordinary server would have been
// asked, to the letter (FuzzPlainIsWhatFasthttpReads). A connection has one
// owner at any time: a loop, who answers later, or the ordinary server
// (TestConnectionsGoToAndFro); so a file descriptor is never written to
// after somebody else has closed it. It does not promise to be used: elsewhere
// than on Linux, the ordinary server gets everything.
package wire

import (
	"net"
	"sync/atomic"
	"time"
)

// Options say which requests are plain, and who answers them.
type Options struct {
	Path string // of POST requests, as it stands in the first line
	// Answerer is called for each loop: what it returns answers the calls of
	// that loop, and nobody else's. Attend has the loop wait for a connection of
	// the Answerer's own too.
	Answerer func(attend Attend) Answerer
	// Guest, unless nil, is put around each connection that goes to the ordinary server.
	Guest func(net.Conn) net.Conn
	// Request is how long a request may take to come in whole, and Idle how long
	// a connection may be silent between two.
	Request, Idle time.Duration
	Loops         int // 0: one for each processor
}

// Answerer answers the calls of a loop, whose goroutine is the only one that
// calls it. It must not wait for anything but memory and the disk: what has to
// wait is done by rest, which is called as soon as the others have their answers,
// or by anybody.
type Answerer interface {
	// Answer answers calls that were read together. It must not keep anything
	// that they hold.
	Answer(calls []Call) (rest func())
	// Heard is called when something came on a connection that the loop attends.
	Heard() (rest func())
	// Close is called when the loop has ended.
	Close()
}

// Attend takes a connection out of the hands of Go's runtime, and has the loop
// call Answerer.Heard when something comes on it. It is for any goroutine, and
// fails once the loop has ended. The connection that it is given is closed.
type Attend func(net.Conn) (*Peer, error)

// Call is a plain request while it is answered: append the whole answer, its
// headers too, to Out, or call Pass or Later. The connection of one that is left
// without any of them is closed.
type Call struct {
	Token     []byte // of "Authorization: Bearer"
	RequestID []byte // X-Request-ID, printable; empty where there is none
	Body      []byte
	Out       []byte

	conn   *conn
	raw    []byte // all of it, as it came
	pass   bool
	later  *Later
	settle func(*conn, []byte) // takes an answer that is given later
}

// Pass lets the ordinary server answer the call.
func (c *Call) Pass() { c.pass = true }

// Later leaves the call to be answered at any time, by whoever has what it
// returns. Of the call, nothing can be used any more.
func (c *Call) Later() *Later {
	c.later = &Later{conn: c.conn, settle: c.settle}
	if c.settle == nil { // it came from nowhere: see Answered
		came := make(chan []byte, 1)
		c.later.settle = func(_ *conn, out []byte) { came <- out }
		c.later.came = came
	}
	return c.later
}

// Later is a call that is owed its answer.
type Later struct {
	conn   *conn
	settle func(*conn, []byte)
	came   <-chan []byte
}

// Answer gives the whole answer, which must not be changed any more. An empty
// one closes the connection. It is to be called once, by anybody.
func (l *Later) Answer(out []byte) { l.settle(l.conn, out) }

// Answered returns the answer of a call that no loop has read, waiting for it if
// it is given later; nil where the ordinary server is to give it.
func (c *Call) Answered() []byte {
	if c.later != nil {
		return <-c.later.came
	}
	return c.Out
}

// conn is a connection between two owners, or in the hands of a loop.
type conn struct {
	fd       int
	pending  []byte    // what has come of a request that is not whole
	answered int       // since it was looked where it belongs
	heard    int       // of answered, those that rest on what a peer has said
	gathered bool      // most of them did
	since    time.Time // of the last answer, or since when something is pending
	stays    int       // see guest
	state    atomic.Uint32
}

// States of a connection that a loop has.
const (
	idle  = iota
	asked // a call of it is being answered, perhaps later: it is not the loop's meanwhile
	muted // and something came on it, which the loop does not wait for until then
)
