package wire

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Peer is a connection of an Answerer's own to another server, on which it asks
// without waiting for the reply: the loop hears that too, and nobody has to be
// woken for it. All but Cut are for one goroutine at a time.
type Peer struct {
	fd int

	mu     sync.Mutex // for closed, and to cut what is open
	closed bool
}

// NewPeer takes c out of the hands of Go's runtime, and closes it.
func NewPeer(c net.Conn) (*Peer, error) {
	defer c.Close()
	fd, ok := detach(c)
	if !ok {
		return nil, errors.New("the connection has no socket of its own")
	}
	return &Peer{fd: fd}, nil
}

// Send writes all of b, or reports false: then the connection is of no use any more.
func (p *Peer) Send(b []byte) bool {
	left, ok := send(p.fd, b)
	return ok && len(left) == 0
}

// Receive reads what has come: nothing, perhaps. An error means that nothing will
// come any more.
func (p *Peer) Receive(room []byte) (int, error) {
	n, errno := receive(p.fd, room)
	switch {
	case errno == syscall.EAGAIN, errno == syscall.EINTR:
		return 0, nil
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Cut ends the connection, of which its owner hears as of any other end. It is
// for any goroutine.
func (p *Peer) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed { // else the descriptor may be anything
		_ = unix.Shutdown(p.fd, unix.SHUT_RDWR)
	}
}

// Close closes the connection.
func (p *Peer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		unix.Close(p.fd)
	}
}

// attend is an Attend.
func (p *loop) attend(c net.Conn) (*Peer, error) {
	peer, err := NewPeer(c)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = net.ErrClosed
	if !p.ended {
		err = unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, peer.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(peer.fd), Pad: ofPeer})
	}
	if err != nil {
		peer.Close()
		return nil, err
	}
	return peer, nil
}

// ofPeer marks the events of what the answerer has.
const ofPeer = 1
