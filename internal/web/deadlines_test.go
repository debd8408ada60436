package web

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pausing is a connection that never reads nor writes: each call ends when its
// deadline has come, by a clock of its own.
type pausing struct {
	net.Conn
	now, read, write time.Time
	sets             int
}

func (p *pausing) SetReadDeadline(t time.Time) error  { p.read = t; p.sets++; return nil }
func (p *pausing) SetWriteDeadline(t time.Time) error { p.write = t; p.sets++; return nil }
func (p *pausing) Read([]byte) (int, error)           { return p.wait(p.read) }
func (p *pausing) Write([]byte) (int, error)          { return p.wait(p.write) }

func (p *pausing) wait(until time.Time) (int, error) {
	if p.now.Before(until) {
		p.now = until
	}
	return 0, os.ErrDeadlineExceeded
}

// Whatever deadlines are asked for, a call that waits ends at the one that was
// asked for last, neither before nor after.
func TestPatientConnectionsKeepTheirDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pausing{now: time.Unix(1000, 0)}
		c := &patientConn{Conn: p}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			p.now = p.now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "passes")) * time.Second)
			due := p.now.Add(time.Duration(rapid.IntRange(-10, 120).Draw(t, "seconds")) * time.Second)
			set, call := c.SetReadDeadline, c.Read
			if rapid.Bool().Draw(t, "write") {
				set, call = c.SetWriteDeadline, c.Write
			}
			if err := set(due); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "data are there") {
				continue
			}
			want := due
			if due.Before(p.now) {
				want = p.now
			}
			if _, err := call([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) || !p.now.Equal(want) {
				t.Fatalf("it ended at %v with %v, want %v", p.now, err, want)
			}
		}
	})
}

// Requests that follow each other move no deadline.
func TestPatientConnectionsSetFewDeadlines(t *testing.T) {
	p := &pausing{}
	c := &patientConn{Conn: p}
	now := time.Unix(1000, 0)
	for range 1000 {
		now = now.Add(time.Millisecond)
		_ = c.SetReadDeadline(now.Add(2 * time.Minute))
		_ = c.SetReadDeadline(now.Add(30 * time.Second))
		_ = c.SetWriteDeadline(now.Add(30 * time.Second))
	}
	if p.sets > 3 {
		t.Errorf("%d deadlines were set", p.sets)
	}
}

// A connection that is closed by another ends, and so does one that waits.
func TestPatientConnectionsEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := Patient(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	due := time.Now().Add(50 * time.Millisecond)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(due.Add(-20*time.Millisecond)) {
		t.Errorf("it ended too early: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Hour))
	ended := make(chan error)
	go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed, and it ended with %v", err)
	}
}
