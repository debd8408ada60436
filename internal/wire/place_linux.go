package wire

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// homeEvery is after how many answers it is looked where a connection belongs.
const homeEvery = 128

// home is the loop that c belongs to, which has just asked: that of the processor
// on which its question came in, unless that one holds more than p, which has it
// now. Who asks on several connections at once, as a worker of a proxy does, is
// then answered by one loop: the kernel lets the two take turns on one processor,
// and nobody waits for another one to be woken.
func (p *loop) home(c *conn) *loop {
	if c.answered++; c.answered%homeEvery != 0 {
		return p
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

// arrival is the processor on which the kernel took the last packet of fd.
func arrival(fd int) (processor int, ok bool) {
	var number int32
	size := uint32(unsafe.Sizeof(number))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_INCOMING_CPU,
		uintptr(unsafe.Pointer(&number)), uintptr(unsafe.Pointer(&size)), 0)
	return int(number), errno == 0 && number >= 0
}
