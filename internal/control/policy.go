package control

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/release"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

const (
	policyPath = "/api/v1/policy"
	// maxSourceBody is the largest body of a draft: its source may hold 4 MiB,
	// and JSON needs more to write them.
	maxSourceBody = 6 << 20
	// policyTimeout is how long a call about policies may take: an activation
	// waits until the sidecars have the release ready.
	policyTimeout = 45 * time.Second
)

// runKey is who acts with the key of `chartgate run`, and whyRunKey why he may
// be author and approver both (DESIGN 11, Callers).
const (
	runKey    = "the key of chartgate run"
	whyRunKey = "the key of 'chartgate run' is taken for author and approver both: for development, not for production"
)

// policyRoute is a route on drafts and releases: what it takes to use it.
type policyRoute struct {
	method, path string
	person       bool // somebody must answer for it
	scopes       []string
	handle       func(*policyCall) error
}

var (
	drafting  = []string{web.ScopePolicyDraft}
	approving = []string{web.ScopePolicyApprove}
	reading   = []string{web.ScopePolicyDraft, web.ScopePolicyApprove, web.ScopeOperate}
	operating = []string{web.ScopeOperate}
)

var policyRoutes = []policyRoute{
	{"GET", "/drafts", false, reading, listDrafts},
	{"POST", "/drafts", true, drafting, createDraft},
	{"GET", "/drafts/:draft", false, reading, showDraft},
	{"PUT", "/drafts/:draft", true, drafting, editDraft},
	{"DELETE", "/drafts/:draft", true, drafting, deleteDraft},
	{"POST", "/drafts/:draft/:step", true, drafting, runStep},
	{"GET", "/drafts/:draft/:step", false, reading, showStep},
	{"GET", "/releases", false, reading, listReleases},
	{"GET", "/releases/:release", false, reading, showRelease},
	{"POST", "/releases/:release/approve", true, approving, approveRelease},
	{"POST", "/releases/:release/activate", true, approving, activateRelease},
	{"POST", "/releases/:release/withdraw", true, approving, withdrawRelease},
	{"GET", "/sidecars", false, reading, listSidecars},
	{"PUT", "/sidecars/:sidecar", false, operating, reportSidecar},
}

func (s *Server) addPolicyRoutes(known fiber.Handler) {
	policy := s.App.Group(policyPath, known)
	for _, r := range policyRoutes {
		policy.Add(r.method, r.path, web.Require(r.scopes...), s.policyVisit(r))
	}
	s.App.Get("/bundles/:name", known, web.Require(web.ScopeOperate, web.ScopeAsk), s.serveBundle)
}

// policyCall is one call about drafts or releases.
type policyCall struct {
	*Server
	c   *fiber.Ctx
	ctx context.Context
	by  release.Person // who answers for it, where somebody must
}

// policyVisit makes a handler of a route. A policy holds for all practices, so
// its callers must be for all.
func (s *Server) policyVisit(r policyRoute) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if !web.CallerOf(c).AllPractices {
			return web.Forbidden("a policy holds for all practices: this takes a caller who is bound to none")
		}
		ctx, cancel := context.WithTimeout(c.UserContext(), policyTimeout)
		defer cancel()
		p := &policyCall{Server: s, c: c, ctx: ctx}
		if r.person {
			var err error
			if p.by, err = s.person(c); err != nil {
				return err
			}
		}
		return r.handle(p)
	}
}

// person is who acts: a JWT's person, or the one that the key was made for. The
// header is refused, else one key could be two people (promise P7).
func (s *Server) person(c *fiber.Ctx) (release.Person, error) {
	caller := web.CallerOf(c)
	switch {
	case c.Get(web.HeaderActor) != "":
		return release.Person{}, web.Forbidden("header " + web.HeaderActor + " names nobody here: policies take a JWT, or a key that was made for one person")
	case caller.Person != "" && caller.SubjectType == authz.SubjectUser:
		return release.Person{ID: caller.Person}, nil
	case s.o.SingleSigner && caller.Static && caller.Person == "":
		return release.Person{ID: runKey, Single: whyRunKey}, nil
	}
	return release.Person{}, web.Forbidden("policies take a JWT of a member of staff, or a key that was made for one person ('chartgate key make --person')")
}

// param returns a part of the path; what cannot be one names nothing.
func (p *policyCall) param(name string) (string, error) {
	id, err := url.PathUnescape(web.Copy(p.c.Params(name)))
	if err != nil || !authz.ValidID(id) {
		return "", &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	return id, nil
}

// settled puts the revision token of facts that hold the change into the answer.
func (p *policyCall) settled() error {
	revision, err := p.o.Deployment.Revision(p.ctx, p.o.Pool)
	if err != nil {
		return err
	}
	p.c.Set(headerRevision, revision)
	return nil
}

// page is a page of releases.
type page struct {
	Activation *activationView `json:"activation,omitempty"` // absent: the shipped bundle decides
	Releases   []releaseView   `json:"releases"`
	Next       string          `json:"next,omitempty"`
}

const (
	defaultReleases = 50
	maxReleases     = 200
)

// list answers with a page of releases in these states.
func (p *policyCall) list(kind string, states []release.State) error {
	limit := defaultReleases
	if text := p.c.Query("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxReleases {
			return web.Malformed("limit is out of range", "/limit", "must be a whole number from 1 to "+strconv.Itoa(maxReleases))
		}
	}
	after, err := p.after(kind)
	if err != nil {
		return err
	}
	releases, more, err := p.o.Releases.List(p.ctx, states, after, limit)
	if err != nil {
		return err
	}
	activation, err := feed.ReadActivation(p.ctx, p.o.Pool)
	if err != nil {
		return err
	}
	body := page{Releases: []releaseView{}}
	if activation.Serial > 0 {
		view := viewActivation(activation)
		body.Activation = &view
	}
	for i := range releases {
		body.Releases = append(body.Releases, viewRelease(&releases[i], activation))
	}
	if more {
		last := releases[len(releases)-1].ID
		seal := p.o.Deployment.Seal("release-cursor", []byte(kind), []byte(last))
		body.Next = base64.RawURLEncoding.EncodeToString(append(seal, last...))
	}
	return p.c.JSON(body)
}

// after reads the cursor; "" where there is none.
func (p *policyCall) after(kind string) (string, error) {
	cursor := p.c.Query("cursor")
	if cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(cursor))
	if err != nil || len(raw) <= feed.SealSize || !p.o.Deployment.Sealed(raw[:feed.SealSize], "release-cursor", []byte(kind), raw[feed.SealSize:]) {
		return "", &authz.Problem{Kind: authz.ErrMalformed, Type: "bad-cursor",
			Detail: "the cursor was altered, or belongs to another list: begin again without one"}
	}
	return string(raw[feed.SealSize:]), nil
}

// serveBundle serves a signed bundle by OPA's bundle protocol: an ETag, and 304
// to whoever has it. Long polling is answered at once, which the protocol allows.
func (s *Server) serveBundle(c *fiber.Ctx) error {
	name, err := url.PathUnescape(web.Copy(c.Params("name")))
	if err != nil || !authz.ValidID(name) {
		return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), callTimeout)
	defer cancel()
	served, err := s.o.Releases.Bundle(ctx, strings.TrimSuffix(name, ".tar.gz"))
	if err != nil {
		return err
	}
	tag := strings.TrimPrefix(served.Content, "sha256:") + "." + strconv.FormatInt(served.Revision, 10)
	c.Set(fiber.HeaderETag, `"`+tag+`"`)
	c.Set(headerPolicy, served.Content)
	for _, seen := range readTags(c.Get(fiber.HeaderIfNoneMatch)).list {
		if strings.TrimPrefix(seen, "W/") == tag {
			return c.SendStatus(http.StatusNotModified)
		}
	}
	c.Set(fiber.HeaderContentType, "application/gzip")
	return c.Send(served.Bundle)
}
