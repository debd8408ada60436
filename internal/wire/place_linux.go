package wire

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	homeEvery    = 128 // after how many answers it is looked where a connection belongs
	mostGathered = 16  // connections that are gathered by one loop
)

// home is the loop that c belongs to, which has just asked and now is p's.
//
// Who asks on several connections at once, as a worker of a proxy does, is best
// answered by one loop, that of the processor on which the questions come in: the
// kernel lets the two take turns there, and nobody waits for another processor to
// be woken. But what rests on replies of a peer is gathered by the first loops:
// asking a peer costs as much for many questions as for one.
func (p *loop) home(c *conn) *loop {
	if c.answered++; c.answered < homeEvery {
		return p
	}
	gather := c.heard > homeEvery/2
	c.answered, c.heard = 0, 0
	if gather != c.gathered {
		p.hold(c, -1)
		c.gathered = gather
		p.hold(c, 1)
	}
	if gather {
		return p.gatherer()
	}
	processor, ok := arrival(c.fd)
	if !ok {
		return p
	}
	home := p.door.loops[processor%len(p.door.loops)]
	if home.held.Load() > p.held.Load() {
		return p
	}
	return home
}

// gatherer is the first loop that has room to gather a connection that p has.
func (p *loop) gatherer() *loop {
	for _, first := range p.door.loops {
		others := first.gathered.Load()
		if first == p {
			others--
		}
		if others < mostGathered {
			return first
		}
	}
	return p
}

// hold counts c n times more.
func (p *loop) hold(c *conn, n int64) {
	p.held.Add(n)
	if c.gathered {
		p.gathered.Add(n)
	}
}

// arrival is the processor on which the kernel took the last packet of fd.
func arrival(fd int) (processor int, ok bool) {
	var number int32
	size := uint32(unsafe.Sizeof(number))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_INCOMING_CPU,
		uintptr(unsafe.Pointer(&number)), uintptr(unsafe.Pointer(&size)), 0)
	return int(number), errno == 0 && number >= 0
}
