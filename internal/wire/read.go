package wire

import (
	"bytes"
	"strings"
)

// form is what some bytes are the beginning of.
type form int

const (
	odd     form = iota // something for the ordinary server
	partial             // a plain request that has not come whole
	plain               // a plain request, and nothing behind it
)

// maxPlain is the size of the largest plain request, in bytes.
const maxPlain = 16 << 10

// start is the first line of plain requests.
func start(path string) []byte { return []byte("POST " + path + " HTTP/1.1\r\n") }

// looksPlain reports whether b begins as a plain request does.
func looksPlain(b, start []byte) bool { return bytes.HasPrefix(b, start) }

// Parts of a request that may stand in it once.
const (
	hasHost = 1 << iota
	hasLength
	hasType
	hasToken
	hasID
	wanted = hasHost | hasLength | hasType | hasToken
)

// read reads b into c, which then points into it. Plain is only what leaves no
// doubt where it ends and what it means (RFC 9112, 11.2): lines end in CRLF,
// names stand right before their colon, the length stands there once and in
// digits, and every header is one of which it is known that it changes nothing.
func read(b, start []byte, c *Call) form {
	if !looksPlain(b, start) {
		if len(b) < len(start) && bytes.HasPrefix(start, b) {
			return partial
		}
		return odd
	}
	rest, seen, length := b[len(start):], 0, 0
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return unfinished(b)
		}
		if end == 0 || rest[end-1] != '\r' {
			return odd
		}
		line := rest[:end-1]
		rest = rest[end+1:]
		if len(line) == 0 {
			break
		}
		part, ok := header(line, c, &length)
		if !ok || seen&part != 0 {
			return odd
		}
		seen |= part
	}
	switch {
	case seen&wanted != wanted, len(b)-len(rest)+length > maxPlain, len(rest) > length:
		return odd
	case len(rest) < length:
		return partial
	}
	if seen&hasID == 0 {
		c.RequestID = nil
	}
	c.Body, c.raw = rest, b
	return plain
}

func unfinished(b []byte) form {
	if len(b) >= maxPlain {
		return odd
	}
	return partial
}

// header reads one line, and returns which part it is, 0 for one that changes
// nothing. It is not ok where only the ordinary server knows what it means.
func header(line []byte, c *Call, length *int) (part int, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || colon > longestName || bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return 0, false
	}
	var lower [longestName]byte
	name, value := lower[:colon], bytes.TrimPrefix(line[colon+1:], []byte(" "))
	if n := len(value); n > 0 && (blank(value[0]) || blank(value[n-1])) {
		return 0, false // not everybody takes the same of it away
	}
	for i, b := range line[:colon] {
		switch {
		case 'A' <= b && b <= 'Z':
			b |= 'a' - 'A'
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-':
		default:
			return 0, false
		}
		name[i] = b
	}
	switch string(name) {
	case "host":
		return hasHost, len(value) > 0
	case "content-length":
		*length, ok = number(value)
		return hasLength, ok
	case "content-type":
		return hasType, string(value) == "application/json"
	case "authorization":
		const scheme = "Bearer "
		c.Token = bytes.TrimPrefix(value, []byte(scheme))
		return hasToken, len(c.Token) > 0 && len(c.Token) == len(value)-len(scheme) && visible(c.Token)
	case "x-request-id":
		c.RequestID = value
		return hasID, 0 < len(value) && len(value) <= 128 && visible(value)
	case "connection":
		return 0, strings.EqualFold(string(value), "keep-alive")
	case "user-agent", "accept", "accept-encoding", "accept-language", "accept-charset", "baggage", "date", "forwarded",
		"origin", "priority", "referer", "traceparent", "tracestate", "via":
		return 0, true
	}
	return 0, bytes.HasPrefix(name, []byte("x-")) // what proxies add; none of them is read
}

// longestName is that of the longest header that is plain.
const longestName = 40

// number reads a length of at most five digits.
func number(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, 0 < len(b) && len(b) <= 5
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func visible(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
