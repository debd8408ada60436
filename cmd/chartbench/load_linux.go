package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ask asks t's questions as p says, and returns how long each answer took. One
// loop for each processor waits for its share of the connections at once: what
// the load takes of the CPU it takes from the servers, and a goroutine with a
// client for each connection took more of it the slower the server was.
func (t *target) ask(ctx context.Context, p pace) ([]time.Duration, error) {
	loops := min(runtime.NumCPU(), p.connections)
	// A loop that waits in the kernel must not keep others from running.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + loops))
	latencies := make([][]time.Duration, loops)
	group, ctx := errgroup.WithContext(ctx)
	for i := range loops {
		group.Go(func() error {
			l, err := newAskers(t, p)
			if err != nil {
				return err
			}
			defer l.close()
			for c := i; c < p.connections; c += loops {
				if err := l.connect(c); err != nil {
					return err
				}
			}
			latencies[i], err = l.run(ctx)
			return err
		})
	}
	err := group.Wait()
	return slices.Concat(latencies...), err
}

// askers are connections that one loop waits for.
type askers struct {
	target *target
	pace   pace
	head   []byte // of each request, up to the length of its body
	fd     int    // of the epoll
	list   []*asker
	events []unix.EpollEvent
	out    []byte
}

// asker is one connection. It asks one question at a time.
type asker struct {
	number   int // among all connections
	fd       int
	state    askerState
	question int       // the one that it asks
	asked    int       // how many it has asked
	due      time.Time // the one that it asks; its answer takes so long from then
	in       []byte    // what came of the answer
}

type askerState int

const (
	resting askerState = iota // until its question is due
	waiting                   // for the answer
	through
)

const (
	askerRoom = 16 << 10               // for an answer; it grows where one is longer
	maxAnswer = 16 << 20               // no answer of our targets is so long
	askerLook = 100 * time.Millisecond // how often a loop looks around where nothing comes
)

func newAskers(t *target, p pace) (*askers, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n", t.path, t.address)
	for name, value := range t.header {
		head = fmt.Appendf(head, "%s: %s\r\n", name, value)
	}
	return &askers{target: t, pace: p, head: append(head, "Content-Length: "...), fd: fd}, nil
}

func (l *askers) close() {
	for _, a := range l.list {
		unix.Close(a.fd)
	}
	unix.Close(l.fd)
}

// connect opens the connection of that number.
func (l *askers) connect(number int) error {
	address, err := net.ResolveTCPAddr("tcp4", l.target.address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.list = append(l.list, &asker{number: number, fd: fd, in: make([]byte, 0, askerRoom),
		question: l.pace.first(number, len(l.target.bodies)), due: l.pace.due(number, 0)})
	l.events = append(l.events, unix.EpollEvent{})
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Connect(fd, &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}),
		unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(l.list) - 1)}))
}

// run asks until every connection is through.
func (l *askers) run(ctx context.Context) ([]time.Duration, error) {
	latencies := make([]time.Duration, 0, 1<<16)
	for left := len(l.list); left > 0; {
		next, err := l.askDue()
		if err != nil {
			return nil, err
		}
		n, err := l.wait(next)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		for _, e := range l.events[:n] {
			a := l.list[e.Fd]
			whole, err := l.hear(a)
			if err != nil {
				return nil, err
			}
			if !whole {
				continue
			}
			now := time.Now()
			latencies = append(latencies, now.Sub(a.due))
			if l.pace.over(now, a.asked) {
				a.state = through
				left--
				continue
			}
			a.state = resting
			a.question = (a.question + 1) % len(l.target.bodies)
			a.due = l.pace.due(a.number, a.asked)
		}
	}
	return latencies, nil
}

// askDue asks what is due, and returns how long nothing else will be.
func (l *askers) askDue() (next time.Duration, err error) {
	next = askerLook
	now := time.Now()
	for _, a := range l.list {
		switch wait := a.due.Sub(now); {
		case a.state == resting && wait > 0:
			next = min(next, wait)
		case a.state == resting:
			if err := l.send(a); err != nil {
				return 0, err
			}
		case a.state == waiting && wait < -requestTimeout:
			return 0, fmt.Errorf("no answer within %s", requestTimeout)
		}
	}
	return next, nil
}

// wait returns how many events there are, after waiting for one for so long.
func (l *askers) wait(most time.Duration) (int, error) {
	timeout := unix.NsecToTimespec(int64(most))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("epoll_pwait2: %w", errno)
}

// send sends a's question.
func (l *askers) send(a *asker) error {
	body := l.target.bodies[a.question]
	l.out = append(l.out[:0], l.head...)
	l.out = strconv.AppendInt(l.out, int64(len(body)), 10)
	l.out = append(l.out, "\r\n\r\n"...)
	l.out = append(l.out, body...)
	a.state = waiting
	a.asked++
	for out := l.out; len(out) > 0; {
		n, err := unix.Write(a.fd, out)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		out = out[max(n, 0):]
	}
	return nil
}

// hear reads what came on a, and checks it if it is whole.
func (l *askers) hear(a *asker) (whole bool, err error) {
	n, err := unix.Read(a.fd, a.in[len(a.in):cap(a.in)])
	switch {
	case errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		return false, fmt.Errorf("the connection ended after %q", a.in)
	}
	a.in = a.in[:len(a.in)+n]
	status, body, whole, err := readAnswer(a.in)
	switch {
	case err != nil:
		return false, err
	case a.state != waiting:
		return false, fmt.Errorf("an answer to nothing: %q", a.in)
	case !whole && len(a.in) > maxAnswer:
		return false, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	case !whole:
		a.in = slices.Grow(a.in, askerRoom/2)
		return false, nil
	case status != "200":
		return false, fmt.Errorf("answered %s: %s", status, body)
	}
	a.in = a.in[:0]
	return true, l.target.check(a.question, body)
}

var (
	headEnd     = []byte("\r\n\r\n")
	lengthField = []byte("\r\nContent-Length: ")
)

// readAnswer reads an answer that names its length, as those of all our targets
// do; it is not whole until all of it has come.
func readAnswer(text []byte) (status string, body []byte, whole bool, err error) {
	head, rest, found := bytes.Cut(text, headEnd)
	if !found {
		return "", nil, false, nil
	}
	const start = "HTTP/1.1 "
	at := bytes.Index(head, lengthField)
	if len(head) < len(start)+3 || string(head[:len(start)]) != start || at < 0 {
		return "", nil, false, fmt.Errorf("not an answer of HTTP/1.1 with its length: %q", head)
	}
	digits, _, _ := bytes.Cut(head[at+len(lengthField):], headEnd[:2])
	length, err := strconv.Atoi(string(digits))
	if err != nil || length < 0 {
		return "", nil, false, fmt.Errorf("not a length: %q", digits)
	}
	if len(rest) > length {
		return "", nil, false, fmt.Errorf("more than was asked for: %q", rest[length:])
	}
	return string(head[len(start) : len(start)+3]), rest, len(rest) == length, nil
}
