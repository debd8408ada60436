package web

import (
	"errors"
	"net"
	"os"
	"time"
)

// Patient makes a listener whose connections move their deadlines only when
// they have to: fasthttp sets three for each request, all of them later than
// the last ones, and each costs a timer. What is in force is never later than
// what was asked for; where it comes too early it is moved, and the call goes on.
func Patient(l net.Listener) net.Listener { return patientListener{l} }

type patientListener struct{ net.Listener }

func (l patientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return PatientConn(conn), nil
}

// PatientConn is one such connection.
func PatientConn(c net.Conn) net.Conn { return &patientConn{Conn: c} }

// patientConn is used by one goroutine at a time for reading and for writing,
// and may be closed by any.
type patientConn struct {
	net.Conn
	read, write bound
}

// bound is a deadline: as asked for, and in force. Zero is none.
type bound struct{ wanted, set time.Time }

// ask takes a new deadline, and brings it into force if it is earlier.
func (b *bound) ask(t time.Time, set func(time.Time) error) error {
	b.wanted = t
	if t.IsZero() || b.set.IsZero() || t.Before(b.set) {
		b.set = t
		return set(t)
	}
	return nil
}

// early reports whether a call ended for a deadline that was not asked for any
// more; the one that is comes into force then.
func (b *bound) early(err error, set func(time.Time) error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || !b.set.Before(b.wanted) {
		return false
	}
	b.set = b.wanted
	return set(b.wanted) == nil
}

func (c *patientConn) SetReadDeadline(t time.Time) error {
	return c.read.ask(t, c.Conn.SetReadDeadline)
}
func (c *patientConn) SetWriteDeadline(t time.Time) error {
	return c.write.ask(t, c.Conn.SetWriteDeadline)
}

func (c *patientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *patientConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err == nil || n > 0 || !c.read.early(err, c.Conn.SetReadDeadline) {
			return n, err
		}
	}
}

func (c *patientConn) Write(b []byte) (int, error) {
	written := 0
	for {
		n, err := c.Conn.Write(b[written:])
		written += n
		if err == nil || !c.write.early(err, c.Conn.SetWriteDeadline) {
			return written, err
		}
	}
}
