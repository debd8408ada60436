package wire

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// maxStay is how many plain requests in a row the ordinary server answers at
// most before it is tried again whether a loop can.
const maxStay = 256

// guest is a connection that the ordinary server has.
type guest struct {
	net.Conn          // with what Options.Guest puts around it
	tcp      net.Conn // without
	door     *door
	first    []byte // was read of it already
	stay     int    // how many plain requests it has still to answer here
	stays    int    // how many it had to, at the beginning

	between atomic.Bool            // nothing of the next request has been read
	back    atomic.Pointer[[]byte] // a plain request came: the connection goes back with it
	closing sync.Once
	fault   error
}

// pass gives a connection to the ordinary server, after what is owed to the
// client has been written, and with what was read of its next request.
func (d *door) pass(c *conn, owed, first []byte) {
	tcp, err := attach(c.fd)
	if err != nil {
		return
	}
	if err := pay(tcp, owed, d.options.Request); err != nil {
		tcp.Close()
		return
	}
	d.give(&guest{Conn: d.options.Guest(tcp), tcp: tcp, door: d, first: first, stay: c.stays, stays: c.stays})
}

// pay writes what is owed, for so long at most.
func pay(c net.Conn, owed []byte, patience time.Duration) error {
	if len(owed) == 0 {
		return nil
	}
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write(owed); err != nil {
		return err
	}
	return c.SetWriteDeadline(time.Time{})
}

// Read reads what comes. A plain request between two others ends the stay.
func (g *guest) Read(b []byte) (int, error) {
	if len(g.first) > 0 {
		n := copy(b, g.first)
		g.first = g.first[n:]
		return n, nil
	}
	n, err := g.Conn.Read(b)
	if n == 0 || !g.between.Load() || !looksPlain(b[:n], g.door.start) {
		return n, err
	}
	if g.stay > 0 {
		g.stay--
		return n, err
	}
	came := bytes.Clone(b[:n])
	g.back.Store(&came)
	return 0, io.EOF // to the server it is over
}

// Close closes the connection, or gives it back to a loop.
func (g *guest) Close() error {
	g.closing.Do(func() {
		came := g.back.Load()
		if came == nil || g.door.isClosed() {
			g.fault = g.Conn.Close()
			return
		}
		fd, ok := detach(g.tcp)
		if !ok {
			g.fault = g.Conn.Close()
			return
		}
		g.door.enter(&conn{fd: fd, pending: *came, since: time.Now(), stays: min(2*g.stays+1, maxStay)})
	})
	return g.fault
}

// ConnState hears from the ordinary server where it is with a connection.
func ConnState(c net.Conn, state fasthttp.ConnState) {
	if g, ok := c.(*guest); ok {
		g.between.Store(state == fasthttp.StateIdle)
	}
}
