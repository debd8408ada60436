package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

const path = "/ask"

// request writes a request with these lines between the first and the body.
func request(body string, lines ...string) string {
	return "POST " + path + " HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// usual are the headers of a plain request with a body of 2 bytes.
var usual = []string{"Host: pdp", "Content-Type: application/json", "Content-Length: 2", "Authorization: Bearer key"}

// with are the usual headers and others.
func with(lines ...string) []string { return append(append([]string{}, usual...), lines...) }

// without are the usual headers but for the i-th, and others in its place.
func without(i int, lines ...string) []string {
	return append(append(append([]string{}, usual[:i]...), usual[i+1:]...), lines...)
}

var plainRequests = []string{
	request("{}", usual...),
	request("", without(2, "Content-Length: 0")...),
	request("{}", with("X-Request-ID: request-1", "User-Agent: service/1.0", "Accept: */*", "Accept-Encoding: gzip, deflate", "Connection: keep-alive")...),
	request("{}", with("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 127.0.0.2")...),
	request("{}", "host:pdp", "CONTENT-TYPE:application/json", "content-length:2", "authorization: Bearer key"),
	request("{}", without(2, "Content-Length: 00002")...),
}

var oddRequests = []string{
	"GET /ask HTTP/1.1\r\nHost: pdp\r\n\r\n",
	strings.Replace(request("{}", usual...), path, path+"/", 1),
	strings.Replace(request("{}", usual...), path, path+"?x", 1),
	strings.Replace(request("{}", usual...), "HTTP/1.1", "HTTP/1.0", 1),
	strings.Replace(request("{}", usual...), "\r\n", "\n", 1),
	strings.Replace(request("{}", usual...), "pdp\r\n", "pdp\n", 1),
	request("{}", without(0)...),
	request("{}", without(1)...),
	request("{}", without(2)...),
	request("{}", without(3)...),
	request("{}", without(1, "Content-Type: application/json; charset=utf-8")...),
	request("{}", without(1, "Content-Type: application/json ")...),
	request("{}", without(1, "Content-Type:\tapplication/json")...),
	request("{}", without(2, "Content-Length: +2")...),
	request("{}", without(2, "Content-Length: 2, 2")...),
	request("{}", without(2, "Content-Length: 0x2")...),
	request("{}", without(2, "Content-Length:")...),
	request("{}", without(2, "Content-Length: 99999")...),
	request("{}", without(2, "Content-Length : 2")...),
	request("{}", without(2, " Content-Length: 2")...),
	request("{}", without(3, "Authorization: Basic key")...),
	request("{}", without(3, "Authorization: Bearer ")...),
	request("{}", without(3, "Authorization: Bearer a b")...),
	request("{}", without(3, "Authorization: bearer key")...),
	request("{}", with("Content-Length: 2")...),
	request("{}", with("Host: other")...),
	request("{}", with("Authorization: Bearer other")...),
	request("{}", with("Transfer-Encoding: chunked")...),
	request("{}", with("transfer-encoding: identity")...),
	request("{}", with("Transfer_Encoding: chunked")...),
	request("{}", with("Expect: 100-continue")...),
	request("{}", with("Connection: close")...),
	request("{}", with("Connection: keep-alive, upgrade")...),
	request("{}", with("Upgrade: h2c")...),
	request("{}", with("Content-Encoding: gzip")...),
	request("{}", with("Chartgate-Min-Revision: x")...),
	request("{}", with("X-Request-ID: a b")...),
	request("{}", with("X-Request-ID: ")...),
	request("{}", with("X-Request-ID: "+strings.Repeat("x", 129))...),
	request("{}", with("X-A: b\rX-C: d")...),
	request("{}", with("X-A: b\x00")...),
	request("{}", with("X-A: b\r\n folded")...),
	request("{}", with("no colon")...),
	request("{}", with(": no name")...),
	request("{}", with("X-"+strings.Repeat("a", 60)+": long")...),
	request("{}{}", usual...), // the beginning of another
	request("{}", usual...) + request("{}", usual...),
}

func TestPlainIsOneFormOnly(t *testing.T) {
	first := start(path)
	for _, text := range plainRequests {
		var c Call
		if got := read([]byte(text), first, &c); got != plain {
			t.Errorf("not plain (%d): %q", got, text)
		}
		agrees(t, []byte(text))
		for n := 1; n < len(text); n++ {
			if got := read([]byte(text[:n]), first, &c); got != partial {
				t.Fatalf("%d, not partial: %q", got, text[:n])
			}
		}
	}
	for _, text := range oddRequests {
		if got := read([]byte(text), first, &Call{}); got != odd {
			t.Errorf("not odd (%d): %q", got, text)
		}
	}
	if got := read([]byte(request(strings.Repeat("x", maxPlain), without(2, fmt.Sprintf("Content-Length: %d", maxPlain))...)), first, &Call{}); got != odd {
		t.Errorf("a request that is too large is %d", got)
	}
	if got := read(append(start(path), bytes.Repeat([]byte("x"), maxPlain)...), first, &Call{}); got != odd {
		t.Errorf("a header without an end is %d", got)
	}
}

// agrees checks that what is read as plain is what fasthttp reads.
func agrees(t *testing.T, text []byte) {
	t.Helper()
	var c Call
	if read(text, start(path), &c) != plain {
		return
	}
	var r fasthttp.Request
	from := bufio.NewReader(bytes.NewReader(text))
	if err := r.Read(from); err != nil {
		t.Fatalf("plain, but fasthttp says %v: %q", err, text)
	}
	if from.Buffered() > 0 {
		t.Errorf("plain, but fasthttp leaves %d bytes: %q", from.Buffered(), text)
	}
	h := &r.Header
	for name, differ := range map[string]bool{
		"method":     string(h.Method()) != "POST",
		"path":       string(h.RequestURI()) != path,
		"type":       string(h.ContentType()) != "application/json",
		"token":      string(h.Peek("Authorization")) != "Bearer "+string(c.Token),
		"request id": string(h.Peek("X-Request-Id")) != string(c.RequestID),
		"body":       !bytes.Equal(r.Body(), c.Body),
		"close":      h.ConnectionClose() || !h.IsHTTP11() || r.MayContinue(),
		"others":     len(h.Peek("Content-Encoding")) > 0 || len(h.Peek("Transfer-Encoding")) > 0 || len(h.Peek("Chartgate-Min-Revision")) > 0,
	} {
		if differ {
			t.Errorf("plain, but fasthttp reads another %s: %q", name, text)
		}
	}
}

// Whatever comes: what is read as plain, the ordinary server would have read
// the same.
func FuzzPlainIsWhatFasthttpReads(f *testing.F) {
	for _, list := range [][]string{plainRequests, oddRequests} {
		for _, text := range list {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) { agrees(t, text) })
}
