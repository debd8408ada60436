// Package control is the PAP's door over HTTP: members, grants and settings,
// client profiles, their contacts and the portal's side of them (DESIGN 11,
// routes under /api/v1/practices/{practice} and /portal/v1).
//
// It promises that an actor is whom the verified caller names, that every
// decision behind a call is on record before the call is answered (promise P3),
// that a change is answered only once nothing can be allowed any more on the
// strength of what it took (promise P2), and that what may not be seen does not
// show (promise P8). openapi.json describes every route; the tests hold each
// answer against it. The rules themselves are those of packages grants and
// profiles.
package control

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/record"
	"chartgate/internal/release"
	"chartgate/internal/search"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Policy is the policy that decides about changes, makes lists and explains: the
// same as the sidecars'.
type Policy interface {
	search.Policy
	// Explain says why, and of a refusal what would allow it; Refusal is what
	// everybody else may be told of one.
	Explain(ctx context.Context, r authz.Request, f authz.Facts) (pdp.Explanation, error)
	Refusal() authz.Decision
}

// Querier is a transaction, or the pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Policies returns the policy that is active where q reads. With hold, q is a
// transaction that writes, and the policy stays active until that ends. An error
// means that it cannot be had: nothing is decided.
type Policies func(ctx context.Context, q Querier, hold bool) (Policy, error)

// Recorder makes decisions durable before it returns. It must not need a
// connection of the pool that the changes use.
type Recorder interface {
	Record(ctx context.Context, verdicts ...authz.Verdict) error
}

// Options are what control is made of.
type Options struct {
	Pool       *pgxpool.Pool // in the role of control
	Deployment *feed.Deployment
	Policies   Policies
	// PolicyAt is the one that decided for a practice at a past moment, or does now
	// where that is zero: lists are made by it. Nil: by Policies', and a list as of
	// a moment before the last activation is refused.
	PolicyAt func(ctx context.Context, practice string, at time.Time) (search.Policy, error)
	Recorder Recorder
	Callers  *web.Authenticator
	// Settle returns once no sidecar can answer any more on the strength of what
	// a transaction that committed before the call took away (promise P2).
	Settle   func(ctx context.Context) error
	Releases *release.Service
	// SingleSigner lets the one static key draft and approve releases, as two
	// people: for `chartgate run` only.
	SingleSigner bool

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
	if o.Pool == nil || o.Deployment == nil || o.Policies == nil || o.Releases == nil || o.Recorder == nil || o.Callers == nil || o.Settle == nil {
		return nil, fmt.Errorf("control needs a pool, its deployment, policies, releases, a recorder, callers and a way to settle changes")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = web.NewMetrics()
	}
	s := &Server{o: o, Health: web.NewHealth(o.Log, o.Checks...)}
	s.App = web.NewApp(web.Options{Name: "control", Log: o.Log, Metrics: o.Metrics, Errors: web.WriteProblem,
		Larger: web.Larger{Under: policyPath + "/drafts", Limit: maxSourceBody}})
	s.Health.Mount(s.App)
	s.App.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(openAPI)
	}).Name("openapi")
	known := o.Callers.Middleware()
	s.App.Get("/metrics", known, web.Require(web.ScopeOperate), o.Metrics.Handler()).Name("metrics")
	practice := s.App.Group("/api/v1/practices/:practice", known)
	for scope, routes := range map[string][]route{web.ScopeAdminister: accessRoutes, web.ScopeProfiles: profileRoutes} {
		for _, r := range routes {
			practice.Add(r.method, r.path, web.Require(scope), s.visit(r.handle))
		}
	}
	records := s.App.Group("/api/v1/records", known, web.Require(web.ScopeRecords))
	records.Get("/decisions", readRecords(s, "decisions", record.Decisions)).Name("records/decisions")
	records.Get("/changes", readRecords(s, "changes", record.Changes)).Name("records/changes")
	s.addPolicyRoutes(known)
	portal := s.App.Group("/portal/v1", known, web.Require(web.ScopePortal))
	for _, r := range portalRoutes {
		portal.Add(r.method, r.path, s.portalVisit(r.handle))
	}
	return s, nil
}

// route is one route of a family.
type route struct {
	method, path string
	handle       func(*visit) error
}

var (
	// accessRoutes say who may open what (package grants).
	accessRoutes = []route{
		{"GET", "/members", listMembers},
		{"POST", "/members", inviteMember},
		{"GET", "/members/:user", showMember},
		{"PATCH", "/members/:user", changeMember},
		{"GET", "/members/:user/clients", listMemberClients},
		{"POST", "/members/:user/accept", acceptInvitation},
		{"POST", "/members/:user/remove", removeMember},
		{"PUT", "/members/:user/full-clinical-access", setFullClinicalAccess},
		{"PUT", "/clients/:client/assigned-practitioner", assignPractitioner},
		{"GET", "/clients/:client/members", listClientMembers},
		{"GET", "/clients/:client/access", showAccess},
		{"PUT", "/clients/:client/access", saveAccess},
		{"POST", "/clients/:client/grants", giveGrant},
		{"GET", "/clients/:client/grants/:grant", showGrant},
		{"DELETE", "/clients/:client/grants/:grant", revokeGrant},
		{"POST", "/explain", explain},
		{"GET", "/settings", showSettings},
		{"PUT", "/settings", saveSettings},
		{"POST", "/settings/difference", compareSettings},
	}
	// profileRoutes are those of client profiles (package profiles).
	profileRoutes = []route{
		{"GET", "/clients", listClients},
		{"POST", "/clients", createClient},
		{"GET", "/clients/:client", showClient},
		{"PATCH", "/clients/:client", changeClient},
		{"DELETE", "/clients/:client", deleteClient},
		{"POST", "/clients/:client/archive", archiveClient},
		{"POST", "/clients/:client/reactivate", reactivateClient},
		{"POST", "/clients/:client/merge", mergeClient},
		{"POST", "/clients/:client/second-profile", createSecondProfile},
		{"GET", "/clients/:client/contacts", listContacts},
		{"POST", "/clients/:client/contacts", addContact},
		{"DELETE", "/clients/:client/contacts/:contact", unlinkContact},
		{"POST", "/clients/:client/contacts/:contact/invitation", inviteContact},
		{"PUT", "/clients/:client/contacts/:contact/portal", permitContact},
		{"PUT", "/clients/:client/portal-features", narrowFeatures},
		{"GET", "/contacts", searchContacts},
		{"GET", "/portal-settings", showPortalSettings},
		{"PUT", "/portal-settings", savePortalSettings},
	}
	// portalRoutes are those of the person who signs in to the portal.
	portalRoutes = []route{
		{"POST", "/invitations/accept", acceptPortalInvitation},
		{"GET", "/profiles", listPortalProfiles},
		{"POST", "/session", enterProfile},
		{"GET", "/session", showSession},
	}
)
