package wire

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen takes the connections of l, and returns the listener of the ordinary
// server: it gives those on which something comes that is not plain. Closing it
// closes l, and returns when what was being answered is answered. The server
// must be told of ConnState.
func Listen(l net.Listener, o Options) (net.Listener, error) {
	if o.Guest == nil {
		o.Guest = func(c net.Conn) net.Conn { return c }
	}
	if o.Loops == 0 {
		o.Loops = runtime.GOMAXPROCS(0)
	}
	d := &door{Listener: l, options: o, start: start(o.Path), guests: make(chan net.Conn), closed: make(chan struct{})}
	for range o.Loops {
		p, err := newLoop(d)
		if err != nil {
			for _, p := range d.loops {
				p.end()
			}
			return nil, err
		}
		d.loops = append(d.loops, p)
	}
	for _, p := range d.loops {
		d.running.Go(p.run)
	}
	d.running.Go(d.sweep)
	go d.accept()
	return d, nil
}

// door is where connections come in.
type door struct {
	net.Listener
	options Options
	start   []byte
	guests  chan net.Conn
	loops   []*loop
	turn    atomic.Uint64

	closing sync.Once
	closed  chan struct{}
	running sync.WaitGroup // loops, and who does what they left
	fault   error          // of closing the listener; read after closed
}

// Accept gives the next connection of the ordinary server.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.guests:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close takes no new connections, lets what has come be answered, and closes
// the connections that no ordinary server holds.
func (d *door) Close() error {
	d.closing.Do(func() {
		d.fault = d.Listener.Close()
		close(d.closed)
		for _, p := range d.loops {
			p.wake()
		}
	})
	d.running.Wait()
	return d.fault
}

func (d *door) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

func (d *door) accept() {
	for {
		c, err := d.Listener.Accept()
		if errors.Is(err, net.ErrClosed) || d.isClosed() {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil { // too many open files, say: they may become fewer
			time.Sleep(20 * time.Millisecond)
			continue
		}
		fd, ok := detach(c)
		if !ok {
			go d.give(d.options.Guest(c))
			continue
		}
		d.enter(&conn{fd: fd, since: time.Now()})
	}
}

// sweep has the loops look around now and then, even if nothing comes.
func (d *door) sweep() {
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, p := range d.loops {
				p.wake()
			}
		case <-d.closed:
			return
		}
	}
}

// enter gives c to one of the loops.
func (d *door) enter(c *conn) {
	d.loops[d.turn.Add(1)%uint64(len(d.loops))].enter(c)
}

// give hands c to the ordinary server.
func (d *door) give(c net.Conn) {
	select {
	case d.guests <- c:
	case <-d.closed:
		c.Close()
	}
}

// detach takes a connection out of the hands of Go's runtime, which would wake
// a goroutine for it: what is left is its descriptor, which does not block.
func detach(c net.Conn) (fd int, ok bool) {
	s, is := c.(syscall.Conn)
	if !is {
		return 0, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0, false
	}
	if err := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3) }); err != nil || fd < 3 {
		return 0, false
	}
	c.Close() // the copy stays open
	return fd, true
}

// attach is the reverse of detach.
func attach(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	return net.FileConn(f)
}
