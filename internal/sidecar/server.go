package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"chartgate/internal/pdp"
	"chartgate/internal/search"
	"chartgate/internal/web"
	"chartgate/internal/wire"

	"github.com/gofiber/fiber/v2"
)

// Options are what a sidecar is made of.
type Options struct {
	PDP       *pdp.PDP
	Search    *search.Service // nil: there are no searches
	Callers   *web.Authenticator
	Checks    []web.Check // what must hold for the sidecar to be ready, beside its policy
	Metrics   *web.Metrics
	Log       *slog.Logger
	PublicURL string // what callers reach it by, such as https://pdp.example.com
	Limits    Limits // of what is decided at the same time
	BodyLimit int    // of a request, in bytes; 0: web.DefaultBodyLimit
	// Line gives each loop a line for what memory does not hold; nil where there is
	// none. So is what it returns.
	Line func(wire.Attend) Line
}

// Server is a sidecar's HTTP side.
type Server struct {
	App    *fiber.App
	Health *web.Health

	pdp       *pdp.PDP
	search    *search.Service
	callers   *web.Authenticator
	metrics   *web.Metrics
	log       *slog.Logger
	publicURL string
	bodyLimit int
	build     build
	answers   bodies
	work      work
	later     *later
	line      func(wire.Attend) Line
	times     *times
}

// New builds the server. It serves when App is given a listener, that of Listen.
func New(o Options) (*Server, error) {
	public, err := readPublicURL(o.PublicURL)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = web.NewMetrics()
	}
	if o.BodyLimit == 0 {
		o.BodyLimit = web.DefaultBodyLimit
	}
	s := &Server{pdp: o.PDP, search: o.Search, callers: o.Callers, metrics: o.Metrics, log: o.Log, publicURL: public, bodyLimit: o.BodyLimit, line: o.Line, build: readBuild()}
	if err := o.Limits.Check(); err != nil {
		return nil, err
	}
	s.work.Limits = o.Limits.withDefaults()
	s.work.register(o.Metrics.Registry)
	s.times = newTimes(o.Metrics.Registry)
	s.pdp.Time(s.times.took)
	s.later = newLater(s)
	s.Health = web.NewHealth(o.Log, append([]web.Check{s.policyCheck()}, o.Checks...)...)
	s.App = web.NewApp(web.Options{Name: "sidecar", Log: o.Log, Metrics: o.Metrics, BodyLimit: o.BodyLimit, Errors: writeError})
	s.Health.Mount(s.App)
	known := s.callers.Middleware()
	s.routeAuthZEN(known)
	s.routeOPA(known)
	s.App.Get("/metrics", known, web.Require(web.ScopeOperate), o.Metrics.Handler()).Name("metrics")
	return s, nil
}

func (s *Server) routeAuthZEN(known fiber.Handler) {
	ask := web.Require(web.ScopeAsk)
	s.App.Post("/access/v1/evaluation", known, ask, s.needsAll, s.work.room(check, 1), s.evaluation).Name("access/v1/evaluation")
	s.App.Post("/access/v1/evaluations", known, ask, s.needsAll, s.evaluations).Name("access/v1/evaluations")
	if s.search != nil {
		for _, kind := range []search.Kind{search.Subjects, search.Resources, search.Actions} {
			path := searchPath + string(kind)
			s.App.Post(path, known, ask, s.needsAll, s.work.room(list, listWeight), s.searchFor(kind)).Name(path[1:])
		}
	}
	for _, path := range metadataPaths(s.publicURL) {
		s.App.Get(path, s.metadata).Name("authzen-configuration")
	}
}

// needsAll lets only callers who may ask about all practices use a user's own
// bundle: nobody but the bundle knows which practice its input is about
// (DESIGN 11, Callers).
func (s *Server) needsAll(c *fiber.Ctx) error {
	if s.pdp.Engine().OwnPolicy() && !web.CallerOf(c).AllPractices {
		return web.Forbidden("a bundle of one's own needs a caller for all practices")
	}
	return c.Next()
}

// scopeOf is which practices the caller may ask about.
func scopeOf(c *fiber.Ctx) pdp.Scope {
	caller := web.CallerOf(c)
	return pdp.Scope{All: caller.AllPractices, Practices: caller.Practices}
}

// deadline is the context of one call.
func deadline(c *fiber.Ctx) (context.Context, context.CancelFunc) {
	d := newDeadline(c.UserContext(), time.Now())
	return d, d.end
}

func (s *Server) policyCheck() web.Check {
	return web.Check{Name: "policy", Hint: "no policy is loaded", Probe: func(context.Context) error {
		if s.pdp.Engine() == nil {
			return fmt.Errorf("no engine")
		}
		return nil
	}}
}

// writeError puts a failure in the form of the routes that were asked: OPA's
// JSON, or AuthZEN's plain message (DESIGN 8).
func writeError(c *fiber.Ctx, f web.Failure) error {
	if isOPA(c.Path()) {
		return writeOPAFailure(c, f)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.SendString(f.Detail)
}

// readPublicURL checks the address by which callers reach the sidecar. It is
// the identifier of AuthZEN's metadata, so it has no query and no fragment.
func readPublicURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", fmt.Errorf("public URL %q: want an address such as https://pdp.example.com", raw)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return "", fmt.Errorf("public URL %q: it must have no query, no fragment and no user", raw)
	}
	return strings.TrimRight(u.String(), "/"), nil
}
