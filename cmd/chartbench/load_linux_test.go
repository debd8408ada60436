package main

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// TestAnswersAreRead, whole or in parts, and nothing else is taken for one.
func TestAnswersAreRead(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 4\r\n\r\nbody"
	for n := range len(answer) + 1 {
		status, body, whole, err := readAnswer([]byte(answer[:n]))
		if err != nil || whole != (n == len(answer)) || whole && (status != "200" || string(body) != "body") {
			t.Errorf("%q: %q %q, whole %v, %v", answer[:n], status, body, whole, err)
		}
	}
	for _, text := range []string{answer + "x", strings.Replace(answer, "1.1", "1.0", 1), strings.Replace(answer, "4", "-4", 1),
		strings.Replace(answer, "Content-Length: 4", "Transfer-Encoding: chunked", 1), "\r\n\r\n"} {
		if _, _, whole, err := readAnswer([]byte(text)); whole || err == nil {
			t.Errorf("%q was taken for an answer", text)
		}
	}
}

// TestARateIsKept: questions come when they are due, whether or not the last one
// was answered, and a slow answer counts from then.
func TestARateIsKept(t *testing.T) {
	const rate, connections, pause = 200, 4, 100 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 3*askerRoom)
	server := &fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) {
		if string(c.PostBody()) == "slow" {
			time.Sleep(pause)
		}
		c.SetBodyString(long)
	}}
	go server.Serve(listener)
	defer server.Shutdown()
	bodies := [][]byte{[]byte("slow")}
	for range 60 {
		bodies = append(bodies, []byte("fast"))
	}
	echo := &target{name: "slow", address: listener.Addr().String(), path: "/", bodies: bodies, check: func(_ int, answer []byte) error {
		if string(answer) != long {
			t.Errorf("%d bytes of %d", len(answer), len(long))
		}
		return nil
	}}
	start := time.Now()
	latencies, err := echo.ask(t.Context(), pace{connections: connections, start: start, deadline: start.Add(300 * time.Millisecond), least: 1, rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	// Where the machine is busy, questions come late, but none comes early.
	if n := len(latencies); n < connections || float64(n) > rate*time.Since(start).Seconds()+connections {
		t.Errorf("%d questions in %v at %d a second", n, time.Since(start), rate)
	}
	if slowest := slices.Max(latencies); slowest < pause {
		t.Errorf("the slowest took %v", slowest)
	}
	// The next one on that connection was due while it waited.
	late := 0
	for _, l := range latencies {
		if l >= pause-connections*time.Second/rate-time.Millisecond {
			late++
		}
	}
	if late < 2 {
		t.Errorf("%d answers late, want those behind the slow one too", late)
	}
}

// TestAServerThatHangsUpIsNoAnswer, nor one that speaks unasked.
func TestAServerThatHangsUpIsNoAnswer(t *testing.T) {
	for name, says := range map[string]string{"nothing": "", "half": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo", "too much": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nbo"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Write([]byte(says))
				c.Close()
			}
		}()
		hasty := &target{name: name, address: listener.Addr().String(), path: "/", bodies: [][]byte{[]byte("?")}, check: func(int, []byte) error { return nil }}
		if got, err := hasty.ask(t.Context(), pace{connections: 2, start: time.Now()}); err == nil {
			t.Errorf("%s: %v", name, got)
		}
		listener.Close()
	}
}
