package web

import (
	"bufio"
	"bytes"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Refusal is the whole answer that app gives where a request ends with err, for
// requests that do not pass through it. It is counted as theirs are.
func Refusal(app *fiber.App, m *Metrics, handler, method, requestID string, began time.Time, err error) []byte {
	var ctx fasthttp.RequestCtx
	request := &fasthttp.Request{}
	request.Header.SetMethod(method)
	request.SetRequestURI("/" + handler)
	if requestID != "" {
		request.Header.Set(HeaderRequestID, requestID)
	}
	ctx.Init(request, nil, nil)
	c := app.AcquireCtx(&ctx)
	if err := app.ErrorHandler(c, err); err != nil {
		ctx.Error("", fasthttp.StatusInternalServerError)
	}
	app.ReleaseCtx(c)
	m.observe(status(ctx.Response.StatusCode()), handler, methods[method], time.Since(began))
	var text bytes.Buffer
	w := bufio.NewWriter(&text)
	_ = ctx.Response.Write(w) // to memory
	_ = w.Flush()
	return text.Bytes()
}

// Panicked is the error of a handler that panicked with this value; call it
// where that was recovered.
func Panicked(value any) error { return &panicked{value: value, stack: debug.Stack()} }
