package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

// Options make a server's frame.
type Options struct {
	Name      string
	Log       *slog.Logger
	Metrics   *Metrics    // nil: none
	BodyLimit int         // of a request, in bytes; 0: DefaultBodyLimit
	Larger    Larger      // a family of routes that takes more
	Errors    ErrorWriter // nil: WriteProblem
}

// Larger lets the routes under a path take larger bodies.
type Larger struct {
	Under string // such as "/api/v1/policy/"
	Limit int    // in bytes
}

// DefaultBodyLimit is the size of the largest request body, in bytes.
const DefaultBodyLimit = 1 << 20

// How long a request may take to come in, and a connection may be silent
// between two.
const (
	RequestTime = 30 * time.Second
	IdleTime    = 2 * time.Minute
)

// hardLimit is how many times the limit fasthttp reads before it gives up and
// cuts the connection, which a client may see as a reset instead of a 413.
const hardLimit = 4

// HeaderRequestID names a request for those who ask; every answer repeats it.
const HeaderRequestID = fiber.HeaderXRequestID

// NewApp makes a Fiber app whose every answer, errors included, carries the
// request's id and the security headers, is counted, and never holds inner
// text. Routes are exact: letter case and a last slash matter.
func NewApp(o Options) *fiber.App {
	f := &frame{Options: o}
	if f.Log == nil {
		f.Log = slog.Default()
	}
	if f.BodyLimit == 0 {
		f.BodyLimit = DefaultBodyLimit
	}
	if f.Errors == nil {
		f.Errors = WriteProblem
	}
	app := fiber.New(fiber.Config{
		AppName:               o.Name,
		BodyLimit:             max(hardLimit*f.BodyLimit, 2*f.Larger.Limit),
		CaseSensitive:         true,
		StrictRouting:         true,
		DisableStartupMessage: true,
		ReadBufferSize:        maxToken + 8<<10, // headers with a token
		ReadTimeout:           RequestTime,
		WriteTimeout:          30 * time.Second,
		IdleTimeout:           IdleTime,
		ErrorHandler:          f.refuse,
	})
	app.Use(f.serve)
	return app
}

type frame struct {
	Options
}

// serve is around every handler.
func (f *frame) serve(c *fiber.Ctx) error {
	start := time.Now()
	setHeaders(c.Request(), c.Response())
	err := f.next(c)
	unmatched := false
	if err != nil {
		var framework *fiber.Error
		unmatched = errors.As(err, &framework) && (framework.Code == http.StatusNotFound || framework.Code == http.StatusMethodNotAllowed)
		err = f.fail(c, err)
	}
	f.Metrics.observe(status(c.Response().StatusCode()), routeName(c, unmatched), methods[c.Method()], time.Since(start))
	return err
}

// next runs the handlers and turns a panic into an error.
func (f *frame) next(c *fiber.Ctx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = Panicked(r)
		}
	}()
	limit := f.BodyLimit
	if f.Larger.Limit > 0 && strings.HasPrefix(c.Path(), f.Larger.Under) {
		limit = f.Larger.Limit
	}
	if len(c.Request().Body()) > limit {
		return fiber.ErrRequestEntityTooLarge
	}
	return c.Next()
}

type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// refuse answers what fasthttp refuses before a handler runs, such as a body
// that is far too large.
func (f *frame) refuse(c *fiber.Ctx, err error) error {
	setHeaders(c.Request(), c.Response())
	return f.fail(c, err)
}

// fail answers with an error and logs what the caller must not see.
func (f *frame) fail(c *fiber.Ctx, err error) error {
	failure := Describe(err)
	var broken *panicked
	if errors.As(err, &broken) {
		failure.Status = http.StatusInternalServerError
	}
	if failure.Status >= http.StatusInternalServerError && failure.Type != TypeBusy {
		if c.Get(HeaderRequestID) == "" {
			c.Set(HeaderRequestID, uuid.NewString()) // the thread from the answer to the log
		}
		f.Log.Error("request failed", f.attributes(c, failure, err)...)
	} else {
		f.Log.Debug("request refused", f.attributes(c, failure, err)...)
	}
	if failure.Status == http.StatusServiceUnavailable {
		c.Set(fiber.HeaderRetryAfter, "1")
	}
	c.Status(failure.Status)
	return f.Errors(c, failure)
}

func (f *frame) attributes(c *fiber.Ctx, failure Failure, err error) []any {
	id := c.GetRespHeader(HeaderRequestID)
	return []any{
		"server", f.Name, "method", Copy(c.Method()), "path", instance(c), "status", failure.Status,
		"request_id", Copy(id), "trace_id", TraceID(c), "caller", CallerOf(c).ID, "error", err,
	}
}

func setHeaders(request *fasthttp.Request, response *fasthttp.Response) {
	h := &response.Header
	if id := request.Header.Peek(HeaderRequestID); len(id) > 0 {
		h.SetBytesV(HeaderRequestID, id)
	}
	h.SetCanonical(sniffing[0], sniffing[1])
	h.SetCanonical(storing[0], storing[1])
}

// Headers of every answer.
var (
	sniffing = [2][]byte{[]byte(fiber.HeaderXContentTypeOptions), []byte("nosniff")}
	storing  = [2][]byte{[]byte(fiber.HeaderCacheControl), []byte("no-store")}
)

// RequestID returns the id that the caller gave the request, as far as it may
// be recorded: an id of 1–128 bytes without control characters, else "".
func RequestID(c *fiber.Ctx) string {
	id := c.Get(HeaderRequestID)
	if !authz.ValidID(id) {
		return ""
	}
	return Copy(id)
}

// TraceID returns the trace that the request belongs to (W3C Trace Context),
// or "" when traceparent is missing or malformed, which is no fault.
func TraceID(c *fiber.Ctx) string {
	// version "-" trace-id "-" parent-id "-" flags
	h := c.Get("traceparent")
	if len(h) < 55 || h[2] != '-' || h[35] != '-' || h[52] != '-' || h[:2] == "ff" || (len(h) > 55 && (h[:2] == "00" || h[55] != '-')) {
		return ""
	}
	zero := true
	for i, c := range []byte(h[:55]) {
		switch {
		case i == 2, i == 35, i == 52:
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
			zero = zero && (i < 3 || i > 34 || c == '0')
		default:
			return ""
		}
	}
	if zero {
		return ""
	}
	return Copy(h[3:35])
}
