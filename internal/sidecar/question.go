package sidecar

import (
	"chartgate/internal/authz"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// HeaderMinRevision asks for facts at least as fresh as this revision token.
const HeaderMinRevision = "Chartgate-Min-Revision"

// question is one access evaluation request (AuthZEN 6.1), or what is wrong
// with it. Where the fault is not nil the request holds what could be read.
type question struct {
	request authz.Request
	input   map[string]any // as it came, for a user's own bundle
	fault   *authz.Problem
}

// readQuestion reads subject, action, resource and context of m. A fault names
// the first attribute that is missing or of a wrong type (AuthZEN 10.1.1).
func readQuestion(m map[string]any, minRevision string) question {
	q := question{input: m}
	r := reader{}
	subject := r.entity(m, "subject")
	q.request.Subject = authz.Subject{Type: r.text(subject, "subject", "type"), ID: r.text(subject, "subject", "id")}
	r.object(subject, "/subject", "properties")
	action := r.entity(m, "action")
	q.request.Action = r.text(action, "action", "name")
	r.object(action, "/action", "properties")
	resource := r.entity(m, "resource")
	q.request.Resource = authz.Resource{Type: r.text(resource, "resource", "type"), ID: r.text(resource, "resource", "id"),
		Properties: r.object(resource, "/resource", "properties")}
	q.request.Context = r.context(r.object(m, "", "context"), minRevision)
	q.fault = r.fault
	return q
}

// reader reads members of a request and keeps the first fault.
type reader struct {
	fault *authz.Problem
}

func (r *reader) wrong(pointer, what string) {
	if r.fault == nil {
		r.fault = web.Malformed(pointer[1:]+" "+what, pointer, what)
	}
}

// entity returns a required member that is an object.
func (r *reader) entity(m map[string]any, name string) map[string]any {
	switch v := m[name].(type) {
	case map[string]any:
		return v
	case nil:
		r.wrong("/"+name, "is missing")
	default:
		r.wrong("/"+name, "must be an object")
	}
	return nil
}

// text returns a required member that is a string. Of an entity that is
// missing itself nothing more is said.
func (r *reader) text(entity map[string]any, of, name string) string {
	if entity == nil {
		return ""
	}
	switch v := entity[name].(type) {
	case string:
		return v
	case nil:
		r.wrong("/"+of+"/"+name, "is missing")
	default:
		r.wrong("/"+of+"/"+name, "must be a string")
	}
	return ""
}

// object returns a member that may be left out (null says the same), and is an
// object otherwise.
func (r *reader) object(m map[string]any, pointer, name string) map[string]any {
	switch v := m[name].(type) {
	case nil:
	case map[string]any:
		return v
	default:
		r.wrong(pointer+"/"+name, "must be an object")
	}
	return nil
}

// context reads what Chartgate reads of a request's context; the revision of
// the header wins over that of the body (DESIGN 11, Context of a request).
func (r *reader) context(m map[string]any, minRevision string) authz.Context {
	purpose, _ := m["purpose"].(string)
	profile, _ := m["portal_profile"].(string)
	c := authz.Context{Purpose: purpose, PortalProfile: profile, MinRevision: minRevision}
	if minRevision == "" {
		switch v := m["min_revision"].(type) {
		case nil:
		case string:
			c.MinRevision = v
		default:
			r.wrong("/context/min_revision", "must be a string")
		}
	}
	return c
}

func minRevisionOf(c *fiber.Ctx) string { return web.Copy(c.Get(HeaderMinRevision)) }
