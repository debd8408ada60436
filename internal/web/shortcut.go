package web

import (
	"runtime/debug"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/utils"
	"github.com/valyala/fasthttp"
)

// Shortcut answers the plain form of one route before Fiber's router and the
// middleware are asked, which cost more than a decision from memory. Whatever
// is not plain takes the ordinary way with the request untouched; what is gets
// the same answer as there, byte for byte, and is counted the same.
type Shortcut[Q any] struct {
	Path    string // of POST requests, as it stands in the request's first line
	Name    string // of the route, for the metrics
	Scope   string // that the caller must have
	Callers *Authenticator
	// Read reads a plain question, or reports that it is none. It must not
	// touch the answer, and its question must not point into the request.
	Read func(*fasthttp.Request) (Q, bool)
	// Answer answers it. Errors become answers as everywhere.
	Answer func(*fasthttp.RequestCtx, Asked[Q]) error
}

// Asked is a plain question, and what the middleware would have found out.
type Asked[Q any] struct {
	Question  Q
	Caller    *Caller
	RequestID string
	At        time.Time
}

// Put puts s in front of app, which NewApp made with o.
func (s Shortcut[Q]) Put(app *fiber.App, o Options) {
	if o.BodyLimit == 0 {
		o.BodyLimit = DefaultBodyLimit
	}
	ordinary := app.Server().Handler
	counted := o.Metrics.counter("200", s.Name, "post")
	app.Server().Handler = func(ctx *fasthttp.RequestCtx) {
		start := time.Now()
		caller, q, ok := s.plain(&ctx.Request, o.BodyLimit)
		if !ok {
			ordinary(ctx)
			return
		}
		setHeaders(&ctx.Request, &ctx.Response)
		if err := s.answer(ctx, Asked[Q]{Question: q, Caller: caller, At: start}); err != nil {
			refuse(app, ctx, err)
			o.Metrics.observe(status(ctx.Response.StatusCode()), s.Name, "post", time.Since(start))
			return
		}
		counted.Observe(time.Since(start).Seconds())
	}
}

func (s Shortcut[Q]) plain(r *fasthttp.Request, limit int) (caller *Caller, q Q, ok bool) {
	if string(r.Header.RequestURI()) != s.Path || !r.Header.IsPost() ||
		string(r.Header.ContentType()) != fiber.MIMEApplicationJSON || len(r.Header.ContentEncoding()) > 0 || len(r.Body()) > limit {
		return nil, q, false
	}
	token, ok := bearer(utils.UnsafeString(r.Header.Peek(fiber.HeaderAuthorization)))
	if !ok {
		return nil, q, false
	}
	if caller = s.Callers.Recall(token); caller == nil || !caller.Has(s.Scope) {
		return nil, q, false
	}
	q, ok = s.Read(r)
	return caller, q, ok
}

// answer turns a panic into an error, as the ordinary way does.
func (s Shortcut[Q]) answer(ctx *fasthttp.RequestCtx, asked Asked[Q]) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{value: r, stack: debug.Stack()}
		}
	}()
	if id := utils.UnsafeString(ctx.Request.Header.Peek(HeaderRequestID)); authz.ValidID(id) {
		asked.RequestID = strings.Clone(id)
	}
	return s.Answer(ctx, asked)
}

// refuse answers with an error as the app does.
func refuse(app *fiber.App, ctx *fasthttp.RequestCtx, err error) {
	c := app.AcquireCtx(ctx)
	defer app.ReleaseCtx(c)
	if err := app.ErrorHandler(c, err); err != nil {
		ctx.Error("", fasthttp.StatusInternalServerError)
	}
}
