//go:build !linux

package wire

import (
	"net"

	"github.com/valyala/fasthttp"
)

// Listen returns l: here the ordinary server answers everything.
func Listen(l net.Listener, _ Options) (net.Listener, error) { return l, nil }

// ConnState has nothing to hear.
func ConnState(net.Conn, fasthttp.ConnState) {}
