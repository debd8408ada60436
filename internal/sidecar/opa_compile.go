package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// targets are what OPA's compile API can be asked for, by the Accept header.
var targets = map[string]pdp.Target{
	"application/vnd.opa.sql.postgresql+json": {Name: "sql", Dialect: "postgresql"},
	"application/vnd.opa.sql.mysql+json":      {Name: "sql", Dialect: "mysql"},
	"application/vnd.opa.sql.sqlserver+json":  {Name: "sql", Dialect: "sqlserver"},
	"application/vnd.opa.sql.sqlite+json":     {Name: "sql", Dialect: "sqlite"},
	"application/vnd.opa.ucast.all+json":      {Name: "ucast", Dialect: "all"},
	"application/vnd.opa.ucast.minimal+json":  {Name: "ucast", Dialect: "minimal"},
	"application/vnd.opa.ucast.linq+json":     {Name: "ucast", Dialect: "linq"},
	"application/vnd.opa.ucast.prisma+json":   {Name: "ucast", Dialect: "prisma"},
}

// multiTarget asks for several at once, which options.targetDialects names.
const multiTarget = "application/vnd.opa.multitarget+json"

// The one target of the shipped policy's filters: its tables are in PostgreSQL.
var postgresql = targets["application/vnd.opa.sql.postgresql+json"]

// compileRequest is the body of OPA's compile API.
type compileRequest struct {
	input           any
	unknowns        []string
	maskRule        string
	mappings        map[string]any
	disableInlining []string
	targets         []pdp.Target
	multi           bool
}

// compileResponse is its answer. No result means that no row can fit.
type compileResponse struct {
	Result  any            `json:"result,omitempty"`
	Metrics map[string]any `json:"metrics,omitempty"`
}

type compiledFilter struct {
	Query any            `json:"query"` // "" or {} where every row fits
	Masks map[string]any `json:"masks,omitempty"`
}

// compilePost is POST /v1/compile/{path}: a document of the policy as a filter
// for a database. With the shipped policy that is which clients somebody may do
// something on, over Chartgate's own tables; a user's own bundle is translated
// as OPA does, unless that would be wrong about NULL.
func (s *Server) compilePost(c *fiber.Ctx) error {
	start := time.Now()
	path, err := segmentsOf(c.Params("*"))
	if err != nil {
		return err
	}
	if len(path) == 0 {
		return web.Malformed("missing required 'path' parameter", "", "")
	}
	q, err := s.readCompile(c)
	if err != nil {
		return err
	}
	var filters map[pdp.Target]pdp.OwnFilter
	if s.pdp.Engine().OwnPolicy() {
		filters, err = s.ownFilters(c, path, q)
	} else {
		filters, err = s.clientFilter(c, path, q)
	}
	if err != nil {
		return failFilter(c, err)
	}
	response := compileResponse{Result: q.result(filters)}
	if flag(c, "metrics") || flag(c, "instrument") {
		response.Metrics = map[string]any{"timer_server_handler_ns": time.Since(start).Nanoseconds()}
	}
	accept := web.Copy(c.Get(fiber.HeaderAccept))
	if err := sendOPA(c, http.StatusOK, response); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, accept)
	return nil
}

// result puts filters in OPA's shape; nil where no row can fit.
func (q *compileRequest) result(filters map[pdp.Target]pdp.OwnFilter) any {
	if !q.multi {
		if f := filters[q.targets[0]]; f.Query != nil {
			return compiledFilter(f)
		}
		return nil
	}
	all := map[string]compiledFilter{}
	for _, t := range q.targets {
		name := t.Dialect
		if t.Name == "ucast" {
			name = t.Name // there is one of these, of the first dialect that was named
		}
		if _, done := all[name]; !done && filters[t].Query != nil {
			all[name] = compiledFilter(filters[t])
		}
	}
	return all
}

// ownFilters asks a user's own bundle.
func (s *Server) ownFilters(c *fiber.Ctx, path []string, q *compileRequest) (map[pdp.Target]pdp.OwnFilter, error) {
	ctx, cancel := deadline(c)
	defer cancel()
	filters, v, err := s.pdp.FilterOwn(ctx, pdp.OwnQuestion{Path: queryOf(path), Input: q.input, Unknowns: q.unknowns, MaskRule: q.maskRule,
		Mappings: q.mappings, DisableInlining: q.disableInlining, Targets: q.targets}, web.RequestID(c))
	if err != nil {
		return nil, err
	}
	setVerdictHeaders(c, v)
	return filters, nil
}

// clientFilter asks the shipped policy which clients of a practice the subject
// may do the action on.
func (s *Server) clientFilter(c *fiber.Ctx, path []string, q *compileRequest) (map[pdp.Target]pdp.OwnFilter, error) {
	name := strings.Join(path, "/")
	if name != "authz/allow" && name != "authz/decision" {
		return nil, web.Malformed("of this policy authz/allow is made a filter, and "+dotted(path)+" is not", "", "")
	}
	for _, t := range q.targets {
		if t != postgresql {
			return nil, web.Malformed(fmt.Sprintf("the filters of this policy are over Chartgate's own tables, which are in PostgreSQL: "+
				"ask for application/vnd.opa.sql.postgresql+json, not for %s %s", t.Name, t.Dialect), "", "")
		}
	}
	for _, unknown := range q.unknowns {
		if !slices.Contains([]string{"input.client", "input.grant", "input.resource.id", "input.resource.properties.client"}, unknown) {
			return nil, web.Malformed(unknown+" is unknown, but a filter of this policy can leave open the client only", "/unknowns", "may hold input.client")
		}
	}
	if q.maskRule != "" {
		return nil, web.Malformed("this policy masks no columns: leave options.maskRule out", "/options/maskRule", "must be left out")
	}
	alias, err := q.alias()
	if err != nil {
		return nil, err
	}
	request, err := requestOf(q.input, minRevisionOf(c))
	if err != nil {
		return nil, err
	}
	practice, err := practiceOf(request.Resource, scopeOf(c))
	if err != nil {
		return nil, err
	}
	request.Resource.ID = ""
	delete(request.Resource.Properties, "client")
	asked, err := json.Marshal(map[string]any{"path": name, "practice": practice, "table": alias, "request": request})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authz.ErrMalformed, err)
	}
	ctx, cancel := deadline(c)
	defer cancel()
	filter, v, err := s.pdp.FilterClients(ctx, scopeOf(c), pdp.ClientsQuestion{Request: request, Practice: practice, Alias: alias, Asked: asked}, web.RequestID(c))
	if err != nil {
		return nil, err
	}
	setVerdictHeaders(c, v)
	if filter.Never {
		return nil, nil
	}
	return map[pdp.Target]pdp.OwnFilter{postgresql: {Query: "WHERE " + filter.SQL}}, nil
}

// practiceOf is the practice whose clients are asked for: the one that the
// resource names, else the only one that the caller is bound to.
func practiceOf(r authz.Resource, scope pdp.Scope) (string, error) {
	if stated, ok := r.Properties["practice"]; ok {
		if s, _ := stated.(string); authz.ValidID(s) {
			return s, nil
		}
	} else if !scope.All && len(scope.Practices) == 1 {
		return scope.Practices[0], nil
	}
	return "", web.Malformed("input.resource.properties.practice must name the practice whose clients are asked for", "/input/resource/properties/practice",
		"must be the id of a practice")
}

// failFilter answers with OPA's error where the policy, or what is asked of it,
// cannot be made a filter: with each rule and reason.
func failFilter(c *fiber.Ctx, err error) error {
	var u *pdp.Unfilterable
	if !errors.As(err, &u) {
		return err
	}
	return sendOPA(c, http.StatusBadRequest, opaError{Code: "evaluation_error", Message: "error(s) occurred while evaluating query", Errors: u.Faults})
}
