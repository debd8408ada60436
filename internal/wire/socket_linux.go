package wire

import (
	"syscall"
	"unsafe"
)

// receive and send do not tell Go's scheduler of the call: neither waits.
func receive(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// send writes b, and returns what could not be written without waiting.
func send(fd int, b []byte) (left []byte, ok bool) {
	if len(b) == 0 {
		return nil, false
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return b[n:], true
	case syscall.EAGAIN, syscall.EINTR:
		return b, true
	}
	return nil, false
}
