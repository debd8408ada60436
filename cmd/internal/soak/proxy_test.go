package soak

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mood is what a proxy does to the connections through it.
type mood int32

const (
	passes    mood = iota
	delays         // every piece waits a moment
	refuses        // connections are closed as they come, and those that stand are cut
	blackHole      // everything is swallowed, nothing is answered, nothing is closed
)

// proxy stands between a service and a store, both on unix sockets.
type proxy struct {
	listener net.Listener
	upstream string
	mood     atomic.Int32
	delay    time.Duration

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, path, upstream string) *proxy {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, upstream: upstream, delay: 30 * time.Millisecond, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { listener.Close(); p.cut() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *proxy) set(m mood) {
	p.mood.Store(int32(m))
	if m == refuses {
		p.cut()
	}
}

// cut closes every connection that stands, in the middle of whatever it says.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		conn.Close()
	}
	clear(p.conns)
}

func (p *proxy) keep(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.conns[conn] = true
	}
}

func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	if mood(p.mood.Load()) == refuses {
		return
	}
	up, err := net.Dial("unix", p.upstream)
	if err != nil {
		return
	}
	defer up.Close()
	p.keep(conn, up)
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{conn, up}, {up, conn}} {
		go func() {
			p.pump(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

func (p *proxy) pump(from io.Reader, to io.Writer) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		switch mood(p.mood.Load()) {
		case delays:
			time.Sleep(p.delay)
		case blackHole:
			for mood(p.mood.Load()) == blackHole { // what was said then arrives when the hole closes
				time.Sleep(5 * time.Millisecond)
			}
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
