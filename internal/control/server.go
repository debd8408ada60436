// Package control is the PAP's door: members, grants and settings over HTTP
// (DESIGN 11, routes under /api/v1/practices/{practice}).
//
// It promises that an actor is whom the verified caller names, that every
// decision behind a call is on record before the call is answered (promise P3),
// that a change is answered only once nothing can be allowed any more on the
// strength of what it took (promise P2), and that what may not be seen does not
// show (promise P8). openapi.json describes every route; the tests hold each
// answer against it. The rules themselves are those of package grants.
package control

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Policy is the policy that decides about changes: the same as the sidecars'.
type Policy interface {
	Evaluate(ctx context.Context, r authz.Request, f authz.Facts) (authz.Decision, error)
	Revision() string
}

// Recorder makes decisions durable before it returns. It must not need a
// connection of the pool that the changes use.
type Recorder interface {
	Record(ctx context.Context, verdicts ...authz.Verdict) error
}

// Options are what control is made of.
type Options struct {
	Pool       *pgxpool.Pool // in the role of control
	Deployment *feed.Deployment
	Policy     func() Policy // the one that is active now
	Recorder   Recorder
	Callers    *web.Authenticator
	// Settle returns once no sidecar can answer any more on the strength of what
	// a transaction that committed before the call took away (promise P2).
	Settle  func(ctx context.Context) error
	Checks  []web.Check // what must hold for control to be ready
	Metrics *web.Metrics
	Log     *slog.Logger
}

// Server is control's HTTP side.
type Server struct {
	App    *fiber.App
	Health *web.Health

	o Options
}

//go:embed openapi.json
var openAPI []byte

// New builds the server. It serves when App is given a listener.
func New(o Options) (*Server, error) {
	if o.Pool == nil || o.Deployment == nil || o.Policy == nil || o.Recorder == nil || o.Callers == nil || o.Settle == nil {
		return nil, fmt.Errorf("control needs a pool, its deployment, a policy, a recorder, callers and a way to settle changes")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = web.NewMetrics()
	}
	s := &Server{o: o, Health: web.NewHealth(o.Log, o.Checks...)}
	s.App = web.NewApp(web.Options{Name: "control", Log: o.Log, Metrics: o.Metrics, Errors: web.WriteProblem})
	s.Health.Mount(s.App)
	s.App.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(openAPI)
	}).Name("openapi")
	known := o.Callers.Middleware()
	s.App.Get("/metrics", known, web.Require(web.ScopeOperate), o.Metrics.Handler()).Name("metrics")
	s.route(s.App.Group("/api/v1/practices/:practice", known, web.Require(web.ScopeAdminister)))
	return s, nil
}

func (s *Server) route(practice fiber.Router) {
	for _, r := range []struct {
		method, path string
		handle       func(*visit) error
	}{
		{"GET", "/members", listMembers},
		{"POST", "/members", inviteMember},
		{"GET", "/members/:user", showMember},
		{"PATCH", "/members/:user", changeMember},
		{"POST", "/members/:user/accept", acceptInvitation},
		{"POST", "/members/:user/remove", removeMember},
		{"PUT", "/members/:user/full-clinical-access", setFullClinicalAccess},
		{"PUT", "/clients/:client/assigned-practitioner", assignPractitioner},
		{"GET", "/clients/:client/access", showAccess},
		{"PUT", "/clients/:client/access", saveAccess},
		{"POST", "/clients/:client/grants", giveGrant},
		{"GET", "/clients/:client/grants/:grant", showGrant},
		{"DELETE", "/clients/:client/grants/:grant", revokeGrant},
		{"GET", "/settings", showSettings},
		{"PUT", "/settings", saveSettings},
	} {
		practice.Add(r.method, r.path, s.visit(r.handle))
	}
}
