package sidecar

import (
	"encoding/json"
	"net/url"

	"chartgate/internal/search"

	"github.com/gofiber/fiber/v2"
)

const wellKnown = "/.well-known/authzen-configuration"

// metadata describes the endpoints that there are (AuthZEN 9). Its addresses
// come from the configuration, never from the request: a forged Host would
// send whoever enforces to another decision point.
func (s *Server) metadata(c *fiber.Ctx) error {
	m := struct {
		PolicyDecisionPoint       string `json:"policy_decision_point"`
		AccessEvaluationEndpoint  string `json:"access_evaluation_endpoint"`
		AccessEvaluationsEndpoint string `json:"access_evaluations_endpoint"`
		SearchSubjectEndpoint     string `json:"search_subject_endpoint,omitempty"`
		SearchResourceEndpoint    string `json:"search_resource_endpoint,omitempty"`
		SearchActionEndpoint      string `json:"search_action_endpoint,omitempty"`
	}{PolicyDecisionPoint: s.publicURL, AccessEvaluationEndpoint: s.publicURL + "/access/v1/evaluation",
		AccessEvaluationsEndpoint: s.publicURL + "/access/v1/evaluations"}
	if s.search != nil {
		m.SearchSubjectEndpoint = s.publicURL + searchPath + string(search.Subjects)
		m.SearchResourceEndpoint = s.publicURL + searchPath + string(search.Resources)
		m.SearchActionEndpoint = s.publicURL + searchPath + string(search.Actions)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(body)
}

// metadataPaths are where the metadata stand: for a public URL with a path the
// well-known part comes between host and path (AuthZEN 9.2).
func metadataPaths(public string) []string {
	paths := []string{wellKnown}
	if u, err := url.Parse(public); err == nil && u.Path != "" {
		paths = append(paths, wellKnown+u.EscapedPath())
	}
	return paths
}
