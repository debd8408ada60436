package control

import (
	"context"
	"net/url"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/grants"
	"chartgate/internal/profiles"
	"chartgate/internal/search"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// callTimeout is how long a call may take, its wait for the sidecars included.
const callTimeout = 20 * time.Second

// Headers of answers (DESIGN 11).
const (
	headerDecision = "Chartgate-Decision-Id"
	headerPolicy   = "Chartgate-Policy-Revision"
	headerRevision = "Chartgate-Revision"
)

// visit is one call: who acts, in which practice, and what he is answered.
type visit struct {
	*Server
	c        *fiber.Ctx
	ctx      context.Context
	actor    authz.Subject
	practice string
	grants   *grants.Service
	profiles *profiles.Service
	lists    *search.Lists
	asked    *authority

	committed bool // the change is done, whatever comes after it
}

// visit makes a handler of handle. What handle decided is on record before its
// answer leaves, whether it succeeded or not.
func (s *Server) visit(handle func(*visit) error) fiber.Handler {
	return func(c *fiber.Ctx) error {
		v := &visit{Server: s, c: c}
		var err error
		if v.practice, err = v.id("practice"); err != nil {
			return err
		}
		if err := web.RequirePractice(c, v.practice); err != nil {
			return err
		}
		if v.actor, err = web.ActorOf(c); err != nil {
			return err
		}
		return v.run(handle)
	}
}

// portalVisit is visit for the portal, where a login acts, in whichever of its
// practices.
func (s *Server) portalVisit(handle func(*visit) error) fiber.Handler {
	return func(c *fiber.Ctx) error {
		v := &visit{Server: s, c: c}
		var err error
		if v.actor, err = web.PortalActorOf(c); err != nil {
			return err
		}
		return v.run(handle)
	}
}

// run answers the call with handle.
func (v *visit) run(handle func(*visit) error) error {
	ctx, cancel := context.WithTimeout(v.c.UserContext(), callTimeout)
	defer cancel()
	v.ctx = ctx
	policy, err := v.o.Policies(ctx, v.o.Pool, false)
	if err != nil {
		return err
	}
	asked := v.authority(v.c)
	v.asked = asked
	v.lists = &search.Lists{Pool: v.o.Pool, Deployment: v.o.Deployment, Authority: asked, Policy: policy, PolicyAt: v.o.PolicyAt}
	v.grants = grants.New(v.o.Pool, asked, asked)
	v.profiles = profiles.New(v.o.Pool, v.o.Deployment, asked, v.lists)
	err = handle(v)
	record := func(context.Context, Recorder) error { return nil }
	switch {
	case asked.reads:
		record = asked.recordRead
	case err != nil && !v.committed:
		record = asked.recordUndone
	}
	if unrecorded := record(ctx, v.o.Recorder); unrecorded != nil {
		return unrecorded
	}
	if decision, ok := asked.first(); ok {
		v.c.Set(headerDecision, decision.ID.String())
		v.c.Set(headerPolicy, decision.Release)
	}
	return err
}

// authority is what one call asks.
func (s *Server) authority(c *fiber.Ctx) *authority {
	return &authority{policies: s.o.Policies, deployment: s.o.Deployment, requestID: web.RequestID(c)}
}

// id returns a part of the path that is an id. What can not be an id names
// nothing that exists.
func (v *visit) id(name string) (string, error) {
	id, err := url.PathUnescape(web.Copy(v.c.Params(name)))
	if err != nil || !authz.ValidID(id) {
		return "", &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"}
	}
	return id, nil
}

// path is the address of something in the visit's practice, for Location.
func (v *visit) path(parts ...string) string {
	path := "/api/v1/practices/" + url.PathEscape(v.practice)
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// settled waits until a change holds everywhere, and returns the revision token
// of facts that hold it. A call that found nothing to do waits too: it may be
// the repetition of one that died before it could wait. An error means that the
// change is done, but must not be reported as done (promise P2).
func (v *visit) settled() (string, error) {
	v.committed = true
	if err := v.o.Settle(v.ctx); err != nil {
		return "", err
	}
	revision, err := v.o.Deployment.Revision(v.ctx, v.o.Pool)
	if err != nil {
		return "", err
	}
	v.c.Set(headerRevision, revision)
	return revision, nil
}

// changed answers a change with what stands now.
func (v *visit) changed(status int, body any) error {
	if _, err := v.settled(); err != nil {
		return err
	}
	return v.c.Status(status).JSON(body)
}

// taken answers a change that has nothing to show but its revision.
func (v *visit) taken() error {
	revision, err := v.settled()
	if err != nil {
		return err
	}
	return v.c.JSON(struct {
		Revision string `json:"revision"`
	}{revision})
}
