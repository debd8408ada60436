//go:build !linux

package wire

import (
	"errors"
	"net"

	"github.com/valyala/fasthttp"
)

// Listen returns l: here the ordinary server answers everything.
func Listen(l net.Listener, _ Options) (net.Listener, error) { return l, nil }

// ConnState has nothing to hear.
func ConnState(net.Conn, fasthttp.ConnState) {}

// Peer is nothing here: no loop attends it.
type Peer struct{}

// NewPeer fails.
func NewPeer(c net.Conn) (*Peer, error) {
	c.Close()
	return nil, errors.ErrUnsupported
}

// Send fails.
func (*Peer) Send([]byte) bool { return false }

// Receive fails.
func (*Peer) Receive([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Cut has nothing to end.
func (*Peer) Cut() {}

// Close has nothing to close.
func (*Peer) Close() {}
