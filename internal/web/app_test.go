package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

func TestErrorsBecomeProblems(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		status int
		typ    string
		detail string // "" where it must not matter
	}{
		{"malformed", fmt.Errorf("read: %w", authz.ErrMalformed), 400, "malformed", ""},
		{"not allowed", authz.ErrNotAllowed, 403, "not-allowed", ""},
		{"not found", authz.ErrNotFound, 404, "not-found", notFound},
		{"conflict", authz.ErrConflict, 409, "conflict", ""},
		{"unavailable", authz.ErrUnavailable, 503, "cannot-decide", unavailable},
		{"anything else", errors.New("dial tcp 10.0.0.1"), 503, "cannot-decide", unavailable},
		{"a problem", &authz.Problem{Kind: authz.ErrConflict, Type: "grantee-not-eligible", Status: 422, Detail: "the member is no practitioner"}, 422, "grantee-not-eligible", "the member is no practitioner"},
		{"a problem, wrapped", fmt.Errorf("give: %w", &authz.Problem{Kind: authz.ErrConflict, Type: "redundant", Detail: "it is there"}), 409, "redundant", "it is there"},
		{"a hidden thing", &authz.Problem{Kind: authz.ErrNotFound, Type: "other-practice", Detail: "client-4 is of practice-2"}, 404, "not-found", notFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app, log := newTestApp(t)
			app.Get("/x", func(*fiber.Ctx) error { return tc.err })
			response, body := call(t, app, "GET", "/x?q=1", "")
			p := problemOf(t, response, body)
			if response.StatusCode != tc.status || p["type"] != ProblemBase+tc.typ || p["instance"] != "/x" || p["title"] == "" {
				t.Errorf("%d %s", response.StatusCode, body)
			}
			if tc.detail != "" && p["detail"] != tc.detail {
				t.Errorf("detail %q, want %q", p["detail"], tc.detail)
			}
			if strings.Contains(body, "10.0.0.1") {
				t.Errorf("inner text shows: %s", body)
			}
			if !strings.Contains(log.String(), fmt.Sprint(tc.err)) {
				t.Errorf("the log does not tell: %s", log)
			}
		})
	}
}

// Whatever may not be seen has the same bytes as what does not exist, whoever
// made the error and whatever it says (promise P8).
func TestRule114WhatMayNotBeSeenLooksLikeNothing(t *testing.T) {
	app, _ := newTestApp(t)
	var err error
	app.Get("/clients/:id", func(*fiber.Ctx) error { return err })
	var bodies []string
	for _, err = range []error{
		authz.ErrNotFound,
		&authz.Problem{Kind: authz.ErrNotFound, Type: "not-found", Detail: "no row"},
		&authz.Problem{Kind: authz.ErrNotFound, Type: "other", Status: 410, Detail: "another practice", Fields: []authz.Field{{Pointer: "/a"}}, Extra: map[string]any{"client": "client-4"}},
	} {
		response, body := call(t, app, "GET", "/clients/c", "")
		bodies = append(bodies, fmt.Sprint(response.StatusCode, response.Header, body))
	}
	for _, b := range bodies[1:] {
		if b != bodies[0] {
			t.Errorf("these differ:\n%s\n%s", bodies[0], b)
		}
	}
}

func TestProblemCarriesFieldsAndExtra(t *testing.T) {
	app, _ := newTestApp(t)
	app.Get("/x", func(*fiber.Ctx) error {
		return &authz.Problem{Kind: authz.ErrConflict, Type: "successors-missing", Detail: "d",
			Fields: []authz.Field{{Pointer: "/successors", Detail: "is missing"}}, Extra: map[string]any{"clients": []string{"client-1"}, "status": "mine"}}
	})
	response, body := call(t, app, "GET", "/x", "")
	p := problemOf(t, response, body)
	if fmt.Sprint(p["clients"]) != "[client-1]" || fmt.Sprint(p["errors"]) != "[map[detail:is missing pointer:/successors]]" {
		t.Errorf("%s", body)
	}
}

func TestEveryAnswerCarriesTheHeaders(t *testing.T) {
	app, _ := newTestApp(t)
	app.Get("/ok", func(c *fiber.Ctx) error { return c.SendString("ok") })
	app.Get("/error", func(*fiber.Ctx) error { return authz.ErrNotAllowed })
	app.Get("/down", func(*fiber.Ctx) error { return authz.ErrUnavailable })
	app.Get("/panic", func(*fiber.Ctx) error { panic("secret text") })
	app.Post("/post", func(c *fiber.Ctx) error { return c.SendString("ok") })
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/ok", "", 200}, {"GET", "/error", "", 403}, {"GET", "/down", "", 503}, {"GET", "/panic", "", 500},
		{"GET", "/nothing", "", 404}, {"DELETE", "/ok", "", 405}, {"POST", "/post", strings.Repeat("x", 1001), 413}, {"GET", "/OK", "", 404}, {"GET", "/ok/", "", 404},
	} {
		response, body := call(t, app, tc.method, tc.path, tc.body, "X-Request-ID", "request 1, \"quoted\"")
		if response.StatusCode != tc.status {
			t.Errorf("%s %s: %d, want %d: %s", tc.method, tc.path, response.StatusCode, tc.status, body)
		}
		if id := response.Header.Get("X-Request-ID"); id != "request 1, \"quoted\"" {
			t.Errorf("%s %s: X-Request-ID %q", tc.method, tc.path, id)
		}
		if response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: headers %v", tc.method, tc.path, response.Header)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("%s %s: inner text shows: %s", tc.method, tc.path, body)
		}
	}
	if response, _ := call(t, app, "DELETE", "/ok", ""); response.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", response.Header.Get("Allow"))
	}
	if response, _ := call(t, app, "GET", "/ok", ""); response.Header.Get("X-Request-ID") != "" {
		t.Error("a request without X-Request-ID got one")
	}
	if response, _ := call(t, app, "GET", "/down", ""); response.Header.Get("X-Request-ID") == "" || response.Header.Get("Retry-After") == "" {
		t.Errorf("a failure must be found in the log: %v", response.Header)
	}
}

// A body that fasthttp refuses to read gets the same headers and form.
func TestFarTooLargeBodyIs413(t *testing.T) {
	app, _ := newTestApp(t)
	app.Post("/post", func(c *fiber.Ctx) error { return c.SendString("ok") })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go app.Listener(listener)
	defer app.Shutdown()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /post HTTP/1.1\r\nHost: x\r\nX-Request-ID: big\r\nContent-Length: 1000000\r\n\r\n")
	answer := make([]byte, 4096)
	n, _ := conn.Read(answer)
	text := string(answer[:n])
	if !strings.HasPrefix(text, "HTTP/1.1 413") || !strings.Contains(text, "X-Request-Id: big") || !strings.Contains(text, "problems/too-large") {
		t.Errorf("%s", text)
	}
}

func TestPanicIsLoggedWithItsPlace(t *testing.T) {
	app, log := newTestApp(t)
	app.Get("/panic", func(*fiber.Ctx) error { panic("here") })
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	call(t, app, "GET", "/panic", "", "X-Request-ID", "r-1", "traceparent", trace)
	for _, want := range []string{"panic: here", "app_test.go", "request_id=r-1", "trace_id=4bf92f3577b34da6a3ce929d0e0e4736"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}

func TestTraceID(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for header, want := range map[string]string{
		"00-" + id + "-" + parent + "-01":                      id,
		"cc-" + id + "-" + parent + "-01-what-comes-next":      id,
		"00-" + id + "-" + parent + "-01-more":                 "",
		"ff-" + id + "-" + parent + "-01":                      "",
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":     "",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01": "",
		"00-" + id + "-" + parent:                              "",
		"00_" + id + "-" + parent + "-01":                      "",
		"x":                                                    "",
		"":                                                     "",
	} {
		var got string
		app, _ := newTestApp(t)
		app.Get("/x", func(c *fiber.Ctx) error { got = TraceID(c); return nil })
		response, _ := call(t, app, "GET", "/x", "", "traceparent", header)
		if got != want || response.StatusCode != http.StatusOK {
			t.Errorf("traceparent %q: %q, status %d", header, got, response.StatusCode)
		}
	}
}

func TestRequestIDForTheRecord(t *testing.T) {
	for header, want := range map[string]string{"r-1": "r-1", strings.Repeat("x", 129): "", "a\tb": "", "": ""} {
		var got string
		app, _ := newTestApp(t)
		app.Get("/x", func(c *fiber.Ctx) error { got = RequestID(c); return nil })
		response, _ := call(t, app, "GET", "/x", "", "X-Request-ID", header)
		if got != want {
			t.Errorf("%q: %q", header, got)
		}
		if echoed := response.Header.Get("X-Request-ID"); echoed != header {
			t.Errorf("%q is echoed as %q", header, echoed)
		}
	}
}

func TestMetricsCountByRouteAndNeverByPath(t *testing.T) {
	metrics := NewMetrics()
	log, _ := logOf(t)
	app := NewApp(Options{Name: "test", Log: log, Metrics: metrics})
	app.Get("/clients/:id", func(*fiber.Ctx) error { return authz.ErrNotFound })
	app.Post("/data/*", func(c *fiber.Ctx) error { return c.SendString("ok") }).Name("v1/data")
	app.Get("/metrics", metrics.Handler())
	call(t, app, "GET", "/clients/client-1", "")
	call(t, app, "POST", "/data/a/b", "")
	call(t, app, "GET", "/strange/client-2", "")
	call(t, app, "PUT", "/data/x", "")
	_, text := call(t, app, "GET", "/metrics", "")
	for _, want := range []string{
		`http_request_duration_seconds_count{code="404",handler="clients/:id",method="get"} 1`,
		`http_request_duration_seconds_count{code="200",handler="v1/data",method="post"} 1`,
		`http_request_duration_seconds_count{code="404",handler="unmatched",method="get"} 1`,
		`http_request_duration_seconds_count{code="405",handler="unmatched",method="put"} 1`,
		"go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	if strings.Contains(text, "client-1") || strings.Contains(text, "client-2") {
		t.Error("a path is a label")
	}
}
