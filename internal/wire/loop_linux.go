package wire

import (
	"bytes"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxCalls  = 1024    // that are answered together
	readSize  = 8 << 10 // that is read of a connection at once
	arenaSize = 1 << 20 // for what is read together
	sweepTime = 1 * time.Second
)

// loop waits for many connections at once. All but enter, wake and settle is for
// the goroutine that runs it, which is one at any time.
type loop struct {
	door     *door
	answerer Answerer
	fd       int // of the epoll
	epoll    *os.File
	ready    syscall.RawConn
	bell     int                 // a descriptor that wakes it
	conns    []*conn             // by descriptor
	settling func(*conn, []byte) // settle
	calls    []Call
	arena    []byte
	used     int       // of arena
	now      time.Time // when the round began
	swept    time.Time
	events   []unix.EpollEvent
	found    int                // how many of events the last look found
	look     bool               // once is enough
	looking  func(uintptr) bool // looks
	heard    bool               // something came on a connection of the answerer's
	next     chan struct{}      // wakes who goes on with the loop

	owed     atomic.Int64 // answers that are given later
	held     atomic.Int64 // connections
	gathered atomic.Int64 // of held, those whose answers mostly rest on what the answerer hears
	hearing  atomic.Bool  // the answerer hears what came: answers rest on that

	mu       sync.Mutex // for the rest, and ringing the bell
	entering []*conn
	settled  []settled
	ended    bool
}

// settled is a connection whose answer was given later, and what the loop has to
// see to.
type settled struct {
	conn *conn
	left []byte // of the answer
	gone bool   // nothing can be sent
	home *loop  // that it belongs to
}

func newLoop(d *door) (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	p := &loop{door: d, fd: fd, bell: -1,
		calls: make([]Call, 0, maxCalls), arena: make([]byte, arenaSize), events: make([]unix.EpollEvent, maxCalls), next: make(chan struct{})}
	if err = unix.SetNonblock(fd, true); err == nil { // else it would not be waited for as sockets are
		p.epoll = os.NewFile(uintptr(fd), "epoll")
		p.ready, err = p.epoll.SyscallConn()
	}
	if err == nil {
		p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if err == nil {
		err = p.watch(p.bell)
	}
	if err != nil {
		p.free()
		return nil, err
	}
	p.settling, p.looking = p.settle, p.lookAt
	p.answerer = d.options.Answerer(p.attend)
	return p, nil
}

func (p *loop) free() {
	if p.epoll != nil {
		p.epoll.Close()
	} else {
		unix.Close(p.fd)
	}
	if p.bell >= 0 {
		unix.Close(p.bell)
	}
}

func (p *loop) watch(fd int) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// enter gives c to the loop, which closes it if it has ended.
func (p *loop) enter(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		unix.Close(c.fd)
		return
	}
	p.hold(c, 1)
	p.entering = append(p.entering, c)
	p.ring()
}

// settle sends an answer that the loop owes. It is for any goroutine; the loop
// hears of it only where there is more to do.
func (p *loop) settle(c *conn, out []byte) {
	c.since, c.stays = time.Now(), 0
	if p.hearing.Load() {
		c.heard++
	}
	home := p.home(c)
	left, ok := send(c.fd, out)
	if ok && len(left) == 0 && home == p && c.state.CompareAndSwap(asked, idle) {
		if p.owed.Add(-1); p.door.isClosed() {
			p.wake() // it may wait for this one
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = append(p.settled, settled{c, left, !ok, home})
	if len(p.settled) == 1 { // else the bell has been rung
		p.ring()
	}
}

// wake has the loop look around.
func (p *loop) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.ring()
	}
}

// ring needs the lock: once the loop has ended, the bell's descriptor may be
// anything. A bell that cannot be rung has been already.
func (p *loop) ring() {
	one := [8]byte{1}
	_, _ = unix.Write(p.bell, one[:])
}

// run answers until the door is closed, what has come by then, and what is owed.
// Where a round leaves something to wait for, this goroutine does that, and
// another one goes on with the loop: so what waits is under way at once, and who
// comes next does not wait for it.
func (p *loop) run() {
	for {
		rest := p.rounds()
		if rest == nil {
			p.end()
			return
		}
		select {
		case p.next <- struct{}{}:
		default: // nobody is there yet
			p.door.running.Go(p.run)
		}
		rest()
		if _, more := <-p.next; !more {
			return
		}
	}
}

// rounds answers until something is left to wait for, which it returns, or the
// loop has ended: nil.
func (p *loop) rounds() func() {
	for last := false; !last || p.owed.Load() > 0; {
		closed := p.door.isClosed()
		p.look = closed && !last
		p.wait()
		p.now = time.Now()
		p.sweep()
		for _, e := range p.events[:p.found] {
			if e.Pad == ofPeer {
				p.heard = true
				continue
			}
			p.hear(int(e.Fd))
		}
		rest := p.answer()
		if p.heard {
			p.heard = false
			if rest != nil { // both are under way at once
				p.door.running.Go(rest)
			}
			p.hearing.Store(true)
			rest = p.answerer.Heard()
			p.hearing.Store(false)
		}
		if last = closed; last {
			p.dropIdle()
		}
		if rest != nil {
			return rest
		}
	}
	return nil
}

// wait waits for an event, unless it is enough to look. The goroutine waits as one
// that reads does, and takes no thread: one that waits in the kernel cost a third
// of the CPU of few connections.
func (p *loop) wait() {
	if err := p.ready.Read(p.looking); err != nil { // only a closed epoll does that, and it is closed at the end
		panic("wire: wait: " + err.Error())
	}
}

// lookAt looks which events there are, and reports whether that is enough.
func (p *loop) lookAt(fd uintptr) bool {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	p.found = 0
	if errno == 0 {
		p.found = int(n)
	}
	return p.found > 0 || p.look
}

// hear reads what came on fd.
func (p *loop) hear(fd int) {
	if fd == p.bell {
		p.takeIn()
		return
	}
	c := p.conns[fd]
	if c == nil {
		return
	}
	if c.state.CompareAndSwap(asked, muted) {
		p.mute(c)
		return
	}
	p.room()
	text := p.arena[p.used : p.used+readSize]
	n, errno := receive(fd, text)
	switch {
	case errno == syscall.EAGAIN, errno == syscall.EINTR:
		return
	case errno != 0, n == 0:
		p.drop(c)
		return
	}
	p.came(c, text[:n])
}

// room answers what was read, if there is no room to read more.
func (p *loop) room() {
	if len(p.calls) == cap(p.calls) || p.used+readSize > len(p.arena) {
		if rest := p.answer(); rest != nil {
			p.door.running.Go(rest) // there is more to hear first
		}
	}
}

// takeIn takes what was given to the loop.
func (p *loop) takeIn() {
	var drained [8]byte
	_, _ = unix.Read(p.bell, drained[:])
	p.mu.Lock()
	entering, answers := p.entering, p.settled
	p.entering, p.settled = nil, nil
	p.mu.Unlock()
	for _, a := range answers {
		p.owed.Add(-1)
		p.finish(a.conn, a.left, a.gone, a.home)
	}
	for _, c := range entering {
		if p.watch(c.fd) != nil {
			p.hold(c, -1)
			unix.Close(c.fd)
			continue
		}
		for c.fd >= len(p.conns) {
			p.conns = append(p.conns, nil)
		}
		p.conns[c.fd] = c
		if came := c.pending; came != nil {
			c.pending = nil
			p.room()
			p.came(c, came)
		}
	}
}

// came takes what was read of c, behind what is pending.
func (p *loop) came(c *conn, text []byte) {
	own := true // text lies in the arena
	if c.pending != nil {
		c.pending = append(c.pending, text...)
		text, own = c.pending, false
	}
	p.calls = p.calls[:len(p.calls)+1]
	call := &p.calls[len(p.calls)-1]
	if cap(call.Out) > readSize {
		call.Out = nil
	}
	*call = Call{Out: call.Out[:0], conn: c, settle: p.settling}
	switch read(text, p.door.start, call) {
	case plain:
		if own {
			p.used += len(text)
		}
		c.state.Store(asked)
		return
	case partial:
		if c.pending == nil {
			c.pending, c.since = bytes.Clone(text), p.now
		}
	case odd:
		p.leave(c)
		go p.door.pass(c, nil, bytes.Clone(text))
	}
	p.calls = p.calls[:len(p.calls)-1]
}

// answer has all answered that was read, and returns what is left to wait for.
func (p *loop) answer() (rest func()) {
	if len(p.calls) == 0 {
		return nil
	}
	rest = p.answerer.Answer(p.calls)
	for i := range p.calls {
		call := &p.calls[i]
		c := call.conn
		c.pending = nil
		switch {
		case call.pass:
			p.leave(c)
			go p.door.pass(c, nil, bytes.Clone(call.raw))
		case call.later != nil:
			p.owed.Add(1)
		default:
			c.since, c.stays = p.now, 0
			home := p.home(c)
			left, ok := send(c.fd, call.Out)
			p.finish(c, left, !ok, home)
		}
	}
	p.calls, p.used = p.calls[:0], 0
	return rest
}

// finish sees to c after its answer, after which it may ask again: at home.
func (p *loop) finish(c *conn, left []byte, gone bool, home *loop) {
	was := c.state.Swap(idle)
	switch {
	case gone:
		p.drop(c)
	case len(left) > 0: // the client does not read
		p.leave(c)
		go p.door.pass(c, bytes.Clone(left), nil)
	case home != p:
		p.leave(c)
		home.enter(c)
	case was == muted && p.watch(c.fd) != nil:
		p.drop(c)
	}
}

// mute has nothing told of c until it is answered: it would be told again and again.
func (p *loop) mute(c *conn) {
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, c.fd, nil)
}

// leave takes c out of the loop, and nothing more.
func (p *loop) leave(c *conn) {
	p.hold(c, -1)
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, c.fd, nil)
	p.conns[c.fd] = nil
}

func (p *loop) drop(c *conn) {
	p.leave(c)
	unix.Close(c.fd)
}

// sweep drops, once a second, what has been silent for too long.
func (p *loop) sweep() {
	if p.now.Sub(p.swept) < sweepTime {
		return
	}
	p.swept = p.now
	for _, c := range p.conns {
		if c == nil || c.state.Load() != idle {
			continue
		}
		patience := p.door.options.Idle
		if c.pending != nil {
			patience = p.door.options.Request
		}
		if p.now.Sub(c.since) > patience {
			p.drop(c)
		}
	}
}

// dropIdle drops all that is owed nothing.
func (p *loop) dropIdle() {
	for _, c := range p.conns {
		if c != nil && c.state.Load() == idle {
			p.drop(c)
		}
	}
}

// end closes what the loop still has.
func (p *loop) end() {
	p.mu.Lock()
	p.ended = true
	for _, c := range p.entering {
		unix.Close(c.fd)
	}
	p.mu.Unlock()
	p.dropIdle()
	p.answerer.Close()
	p.free()
	close(p.next)
}
