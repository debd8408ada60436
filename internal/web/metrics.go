package web

import (
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the numbers of one process, in a registry of their own.
type Metrics struct {
	Registry *prometheus.Registry
	requests *prometheus.HistogramVec
}

// NewMetrics makes the registry with the numbers of Go and of HTTP.
func NewMetrics() *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_request_duration_seconds",
			Help:    "How long requests took, from the first byte read to the answer made.",
			Buckets: []float64{1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 0.1, 1, 10},
		}, []string{"code", "handler", "method"}),
	}
	m.Registry.MustRegister(m.requests, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the numbers in Prometheus' text form.
func (m *Metrics) Handler() fiber.Handler {
	return adaptor.HTTPHandler(promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}))
}

// observe counts one request.
func (m *Metrics) observe(code, handler, method string, took time.Duration) {
	if m != nil {
		m.requests.WithLabelValues(code, handler, method).Observe(took.Seconds())
	}
}

// Counter counts successful requests of one route, which do not pass through the app.
func (m *Metrics) Counter(handler, method string) prometheus.Observer {
	return m.counter("200", handler, method)
}

// counter counts requests of one kind.
func (m *Metrics) counter(code, handler, method string) prometheus.Observer {
	if m == nil {
		return prometheus.ObserverFunc(func(float64) {})
	}
	return m.requests.WithLabelValues(code, handler, method)
}

// routeName is the handler's label: the name of the route, or its pattern,
// never the path itself, which callers choose.
func routeName(c *fiber.Ctx, unmatched bool) string {
	route := c.Route()
	handler := route.Name
	if handler == "" {
		handler = strings.TrimPrefix(route.Path, "/")
	}
	if unmatched || handler == "" {
		handler = "unmatched"
	}
	return handler
}

// methods holds the label of each method that Fiber routes, in OPA's letter
// case. The map's strings are our own: labels outlive the request.
var methods = func() map[string]string {
	m := map[string]string{}
	for _, method := range fiber.DefaultMethods {
		m[method] = strings.ToLower(method)
	}
	return m
}()

// status is strconv.Itoa without its allocation for the usual ones.
func status(code int) string {
	switch code {
	case fiber.StatusOK:
		return "200"
	case fiber.StatusBadRequest:
		return "400"
	}
	return strconv.Itoa(code)
}
