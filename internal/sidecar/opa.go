package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// routeOPA adds the part of OPA's REST API that its clients use. Handlers'
// names are those of OPA's own metrics.
func (s *Server) routeOPA(known fiber.Handler) {
	ask, operate := web.Require(web.ScopeAsk), web.Require(web.ScopeOperate)
	one, filter := s.work.room(check, 1), s.work.room(list, listWeight)
	for _, path := range []string{"/v1/data", "/v1/data/*"} {
		s.App.Post(path, withoutSlash, known, ask, s.needsAll, one, s.dataPost).Name("v1/data")
		// Not Get, which would take HEAD as well: OPA answers that with 405.
		s.App.Add(fiber.MethodGet, path, withoutSlash, known, ask, s.needsAll, one, s.dataGet).Name("v1/data")
	}
	for _, path := range []string{"/v0/data", "/v0/data/*"} {
		s.App.Post(path, withoutSlash, known, ask, s.needsAll, one, s.dataPostV0).Name("v0/data")
	}
	for _, path := range []string{"/v1/compile", "/v1/compile/*"} {
		s.App.Post(path, known, ask, s.needsAll, filter, s.compilePost).Name("v1/compile")
		s.App.Add(fiber.MethodGet, path, known, ask, s.needsAll, filter, s.compilePost).Name("v1/compile")
	}
	s.App.Post("/", known, ask, s.needsAll, one, s.dataPostDefault).Name("index")
	s.App.All("/v1/batch/data/*", notHere).Name("catchall")
	for _, path := range []string{"/v1/policies", "/v1/policies/*"} {
		s.App.All(path, known, operate, readOnly).Name("v1/policies")
	}
	s.App.Get("/v1/status", known, operate, statusOff).Name("v1/status")
	s.App.Get("/v1/config", known, operate, s.config).Name("v1/config")
	s.App.Get("/health", s.health).Name("health")
	s.App.Get("/health/:rule", s.healthRule).Name("health")
}

// isOPA reports whether a path belongs to OPA's family of routes.
func isOPA(path string) bool {
	return path == "/" || path == "/health" || path == "/metrics" ||
		strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/v0/") || strings.HasPrefix(path, "/health/")
}

// withoutSlash sends a path with a last slash to the one without, as OPA does.
func withoutSlash(c *fiber.Ctx) error {
	if path := c.Path(); strings.HasSuffix(path, "/") {
		return c.Redirect(strings.TrimRight(path, "/"), http.StatusMovedPermanently)
	}
	return c.Next()
}

// dataPost is POST /v1/data/{path}: a document of the policy, for an input.
func (s *Server) dataPost(c *fiber.Ctx) error {
	start := time.Now()
	input, given, err := s.readInput(c)
	if err != nil {
		return err
	}
	response := dataResponse{}
	if !given {
		response.Warning = &inputMissing
	}
	return s.data(c, start, input, response)
}

// dataGet is GET /v1/data/{path}, with the input as a parameter, if any.
func (s *Server) dataGet(c *fiber.Ctx) error {
	start := time.Now()
	var input any
	if values := c.Context().QueryArgs().PeekMulti("input"); len(values) > 0 {
		if err := json.Unmarshal(values[len(values)-1], &input); err != nil {
			return malformedInput("parameter contains malformed input document", err)
		}
	}
	return s.data(c, start, input, dataResponse{})
}

func (s *Server) data(c *fiber.Ctx, start time.Time, input any, response dataResponse) error {
	path, err := segmentsOf(c.Params("*"))
	if err != nil {
		return err
	}
	ctx, cancel := deadline(c)
	defer cancel()
	d, err := s.document(ctx, c, path, input)
	if err != nil {
		return s.failDocument(c, err)
	}
	response.DecisionID = d.decisionID
	if d.defined {
		response.Result = &d.value
	}
	if flag(c, "provenance") {
		response.Provenance = s.build.provenance(s.pdp.Engine().Revision())
	}
	if flag(c, "metrics") || flag(c, "instrument") {
		response.Metrics = map[string]any{"timer_server_handler_ns": time.Since(start).Nanoseconds()}
	}
	return sendOPA(c, http.StatusOK, response)
}

// dataPostV0 is POST /v0/data/{path}: the body is the input, the answer the
// bare document.
func (s *Server) dataPostV0(c *fiber.Ctx) error {
	path, err := segmentsOf(c.Params("*"))
	if err != nil {
		return err
	}
	return s.bare(c, path)
}

// dataPostDefault is POST /: dataPostV0 with the decision itself.
func (s *Server) dataPostDefault(c *fiber.Ctx) error {
	return s.bare(c, decisionSegments(s.pdp.Engine()))
}

func (s *Server) bare(c *fiber.Ctx, path []string) error {
	input, err := s.readRawInput(c)
	if err != nil {
		return err
	}
	ctx, cancel := deadline(c)
	defer cancel()
	d, err := s.document(ctx, c, path, input)
	if err != nil {
		return s.failDocument(c, err)
	}
	if !d.defined {
		return sendOPA(c, http.StatusNotFound, opaError{Code: "undefined_document", Message: "document missing or undefined: " + dotted(path)})
	}
	return sendOPA(c, http.StatusOK, d.value)
}

// document is what a path of the policy says.
type document struct {
	value      any
	defined    bool
	decisionID string // "" where nothing was decided
}

// document evaluates a path. With the shipped policy these are the decision,
// which goes the same way as AuthZEN's and is on record, and the tables, which
// hold no facts; everything else is undefined. A user's own bundle is asked as
// OPA would ask it.
func (s *Server) document(ctx context.Context, c *fiber.Ctx, path []string, input any) (document, error) {
	engine := s.pdp.Engine()
	if engine.OwnPolicy() {
		value, defined, v, err := s.pdp.QueryOwn(ctx, queryOf(path), input, web.RequestID(c))
		if err != nil {
			return document{}, err
		}
		setVerdictHeaders(c, v)
		return document{value, defined, v.ID.String()}, nil
	}
	name := strings.Join(path, "/")
	switch name {
	case "authz", "authz/decision", "authz/allow":
	default:
		if len(path) == 0 || path[0] != "tables" {
			return document{}, nil
		}
		policies, err := s.pdp.Now(ctx)
		if err != nil {
			return document{}, err
		}
		value, defined, err := policies.Active().Query(ctx, queryOf(path), nil)
		return document{value: value, defined: defined}, err
	}
	request, err := requestOf(input, minRevisionOf(c))
	if err != nil {
		return document{}, err
	}
	v, err := s.pdp.Decide(ctx, scopeOf(c), request, web.RequestID(c))
	if err != nil {
		return document{}, err
	}
	setVerdictHeaders(c, v)
	d := document{defined: true, decisionID: v.ID.String()}
	decision := decisionDocument{Allow: v.Shown.Allow, reasons: reasonsOf(v.Shown)}
	switch name {
	case "authz":
		d.value = map[string]any{"allow": v.Shown.Allow, "decision": decision}
	case "authz/decision":
		d.value = decision
	default:
		d.value = v.Shown.Allow
	}
	return d, nil
}

// decisionDocument is authz/decision (DESIGN 11, OPA paths).
type decisionDocument struct {
	Allow bool `json:"allow"`
	reasons
}

// requestOf reads the question out of an input of OPA's routes. What is
// missing or wrong there makes the policy answer bad_input or unknown_action,
// as OPA would answer 200; facts that stand in it are not read at all. Only a
// revision that is no text is refused: ignoring it could answer with facts
// older than were asked for.
func requestOf(input any, minRevision string) (authz.Request, error) {
	members, _ := input.(map[string]any)
	q := readQuestion(members, minRevision)
	if q.fault != nil && len(q.fault.Fields) > 0 && q.fault.Fields[0].Pointer == "/context/min_revision" {
		return q.request, q.fault
	}
	return q.request, nil
}

// failDocument answers with OPA's error where a user's own policy failed while
// it was evaluated; other errors take the usual way.
func (s *Server) failDocument(c *fiber.Ctx, err error) error {
	fault, ok := pdp.FaultOf(err)
	if !ok || !s.pdp.Engine().OwnPolicy() || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s.log.Warn("the policy failed", "code", fault.Code, "error", err)
	return sendOPA(c, http.StatusInternalServerError, opaError{Code: "internal_error",
		Message: "error(s) occurred while evaluating query", Errors: []pdp.Fault{fault}})
}
