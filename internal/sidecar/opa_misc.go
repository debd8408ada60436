package sidecar

import (
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

// notHere answers as OPA does where it has no such route. OPA's clients try the
// batch route of another product, and do without only on a plain 404.
func notHere(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.Status(http.StatusNotFound).SendString("404 page not found\n")
}

// readOnly refuses OPA's policy API: policies come as signed releases.
func readOnly(c *fiber.Ctx) error {
	return sendOPA(c, http.StatusMethodNotAllowed, opaError{Code: "invalid_operation",
		Message: "policies and data cannot be read or written here: policies are released by Chartgate's control"})
}

// statusOff answers as OPA without its status plugin.
func statusOff(c *fiber.Ctx) error {
	return sendOPA(c, http.StatusInternalServerError, opaError{Code: "internal_error", Message: "status plugin not enabled"})
}

// config answers as OPA does, with what an operator may want to know.
func (s *Server) config(c *fiber.Ctx) error {
	decision := "/"
	for i, part := range decisionSegments(s.pdp.Engine()) {
		if i > 0 {
			decision += "/"
		}
		decision += part
	}
	return sendOPA(c, http.StatusOK, fiber.Map{"result": fiber.Map{
		"default_decision": decision,
		"labels":           fiber.Map{"id": "chartgate", "version": s.build.Version},
	}})
}

// health answers OPA's health route: that the server lives; with ?bundles that
// its policy is loaded, with ?plugins that all it needs is there.
func (s *Server) health(c *fiber.Ctx) error {
	if flag(c, "plugins") {
		if ready, _ := s.Health.Ready(c.UserContext()); !ready {
			return unhealthy(c, "one or more plugins are not up")
		}
	}
	if (flag(c, "bundles") || flag(c, "bundle")) && s.pdp.Engine() == nil {
		return unhealthy(c, "one or more bundles are not activated")
	}
	return sendOPA(c, http.StatusOK, fiber.Map{})
}

// healthRule answers with data.system.health.<rule> of a user's own bundle.
func (s *Server) healthRule(c *fiber.Ctx) error {
	path := []string{"system", "health", web.Copy(c.Params("rule"))}
	engine := s.pdp.Engine()
	if !engine.OwnPolicy() {
		return unhealthy(c, fmt.Sprintf("health check (%s) was undefined", dotted(path)))
	}
	ctx, cancel := deadline(c)
	defer cancel()
	ready, _ := s.Health.Ready(ctx)
	input := map[string]any{"plugins_ready": ready, "plugin_state": map[string]any{}}
	switch value, defined, err := engine.Query(ctx, queryOf(path), input); {
	case err != nil:
		s.log.Warn("health check failed", "error", err)
		return unhealthy(c, fmt.Sprintf("health check (%s) failed", dotted(path)))
	case !defined:
		return unhealthy(c, fmt.Sprintf("health check (%s) was undefined", dotted(path)))
	case value != true:
		return unhealthy(c, fmt.Sprintf("health check (%s) returned unexpected value", dotted(path)))
	}
	return sendOPA(c, http.StatusOK, fiber.Map{})
}

func unhealthy(c *fiber.Ctx, why string) error {
	return sendOPA(c, http.StatusInternalServerError, fiber.Map{"error": why})
}

// build says what this program was built from.
type build struct {
	Version, Commit, Timestamp, Hostname string
}

// provenance is what OPA's clients are told of the program and its policy.
type provenance struct {
	Version   string                    `json:"version"`
	Commit    string                    `json:"build_commit"`
	Timestamp string                    `json:"build_timestamp"`
	Hostname  string                    `json:"build_hostname"`
	Bundles   map[string]bundleRevision `json:"bundles"`
}

type bundleRevision struct {
	Revision string `json:"revision"`
}

func (b build) provenance(revision string) *provenance {
	return &provenance{b.Version, b.Commit, b.Timestamp, b.Hostname, map[string]bundleRevision{"chartgate": {revision}}}
}

// readBuild reads what the Go tool stamped into the program. The timestamp is
// never empty, since OPA's TypeScript client refuses an answer without one.
func readBuild() build {
	b := build{Version: "devel"}
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			b.Version = info.Main.Version
		}
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				b.Commit = setting.Value
			case "vcs.time":
				b.Timestamp = setting.Value
			}
		}
	}
	if _, err := time.Parse(time.RFC3339, b.Timestamp); err != nil {
		b.Timestamp = programTime().UTC().Format(time.RFC3339)
	}
	return b
}

// programTime is when the program's file was written.
func programTime() time.Time {
	path, err := os.Executable()
	if err != nil {
		return time.Now()
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}
