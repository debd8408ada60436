package sidecar

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"chartgate/internal/pdp"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
	"go.yaml.in/yaml/v3"
)

// dataResponse is the answer of OPA's data API.
type dataResponse struct {
	DecisionID string         `json:"decision_id,omitempty"`
	Provenance *provenance    `json:"provenance,omitempty"`
	Metrics    map[string]any `json:"metrics,omitempty"`
	Result     *any           `json:"result,omitempty"`
	Warning    *warning       `json:"warning,omitempty"`
}

type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

var inputMissing = warning{"api_usage_warning", "'input' key missing from the request"}

// opaError is OPA's error answer.
type opaError struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Errors  []pdp.Fault `json:"errors,omitempty"`
}

// writeOPAFailure puts a failure in OPA's form. OPA knows no 503: what could
// not be decided is its 500. What was not tried, since too much is under way, is
// a 503 all the same, so that whoever can tries again.
func writeOPAFailure(c *fiber.Ctx, f web.Failure) error {
	e := opaError{Code: "invalid_parameter", Message: f.Detail}
	status := f.Status
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Code, e.Message = "unauthorized", "request rejected by administrative policy: "+f.Detail
	case status == http.StatusNotFound:
		e.Code = "resource_not_found"
	case status == http.StatusMethodNotAllowed:
		e.Code = "invalid_operation"
	case f.Type == web.TypeBusy:
		e.Code = "internal_error"
	case status >= http.StatusInternalServerError:
		e.Code, status = "internal_error", http.StatusInternalServerError
	}
	return sendOPA(c, status, e)
}

// compressFrom is the size from which an answer is compressed, as OPA's.
const compressFrom = 1024

// sendOPA answers with JSON as OPA's clients may ask for it: indented with
// ?pretty, compressed where it is large and they take gzip.
func sendOPA(c *fiber.Ctx, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, failed := v.(opaError); failed || flag(c, "pretty") {
		var indented bytes.Buffer
		if err := json.Indent(&indented, body, "", "  "); err != nil {
			return err
		}
		body = indented.Bytes()
	}
	body = append(body, '\n')
	c.Status(status)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Vary(fiber.HeaderAcceptEncoding)
	if len(body) < compressFrom || !strings.Contains(c.Get(fiber.HeaderAcceptEncoding), "gzip") {
		return c.Send(body)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentEncoding, "gzip")
	return c.Send(packed.Bytes())
}

// flag reads a query parameter that is on when it stands alone or is "true".
func flag(c *fiber.Ctx, name string) bool {
	values := c.Context().QueryArgs().PeekMulti(name)
	if len(values) == 1 && len(values[0]) == 0 {
		return true
	}
	for _, v := range values {
		if strings.EqualFold(string(v), "true") {
			return true
		}
	}
	return false
}

// readInput reads {"input": …} as leniently as OPA: any content type, YAML
// where it says so, gzip, nothing at all, more after the first value.
func (s *Server) readInput(c *fiber.Ctx) (input any, given bool, err error) {
	var body map[string]any
	if err := s.readLenient(c, &body); err != nil {
		return nil, false, err
	}
	input = body["input"]
	return input, input != nil, nil
}

// readRawInput reads a body that is the input itself.
func (s *Server) readRawInput(c *fiber.Ctx) (input any, err error) {
	return input, s.readLenient(c, &input)
}

func (s *Server) readLenient(c *fiber.Ctx, into any) error {
	body, err := s.unpacked(c)
	if err != nil {
		return err
	}
	if strings.Contains(c.Get(fiber.HeaderContentType), "yaml") {
		if body, err = fromYAML(body); err != nil {
			return malformedInput("body contains malformed input document", err)
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil && err != io.EOF {
		return malformedInput("body contains malformed input document", err)
	}
	return nil
}

// unpacked returns the body, decompressed where it is gzip. It is larger than
// the limit neither packed nor unpacked.
func (s *Server) unpacked(c *fiber.Ctx) ([]byte, error) {
	body := c.Request().Body()
	if !strings.Contains(c.Get(fiber.HeaderContentEncoding), "gzip") {
		return body, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, malformedInput("could not decompress the body", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(s.bodyLimit)+1))
	if err != nil {
		return nil, malformedInput("could not decompress the body", err)
	}
	if len(plain) > s.bodyLimit {
		return nil, fiber.ErrRequestEntityTooLarge
	}
	return plain, nil
}

func fromYAML(body []byte) ([]byte, error) {
	var v any
	if err := yaml.Unmarshal(body, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func malformedInput(what string, err error) error {
	return web.Malformed(fmt.Sprintf("%s: %v", what, err), "", "")
}

// segmentsOf splits the path of a document, as OPA does: percent-encoding is
// undone for each part, empty parts do not count.
func segmentsOf(raw string) ([]string, error) {
	var path []string
	for part := range strings.SplitSeq(raw, "/") {
		if part == "" {
			continue
		}
		if plain, err := url.PathUnescape(part); err == nil {
			part = plain
		}
		if strings.Contains(part, `"`) || !utf8.ValidString(part) {
			return nil, web.Malformed("invalid path: invalid ref term '"+strings.ToValidUTF8(part, "?")+"'", "", "")
		}
		path = append(path, web.Copy(part))
	}
	return path, nil
}

// queryOf writes a path as a query: data["authz"]["allow"]. A whole number is
// an index, as OPA takes it.
func queryOf(path []string) string {
	var q strings.Builder
	q.WriteString("data")
	for _, part := range path {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil {
			fmt.Fprintf(&q, "[%d]", n)
			continue
		}
		quoted, err := json.Marshal(part)
		if err != nil {
			panic(errors.New("a string cannot fail to marshal"))
		}
		fmt.Fprintf(&q, "[%s]", quoted)
	}
	return q.String()
}

// dotted writes a path for people.
func dotted(path []string) string { return strings.Join(append([]string{"data"}, path...), ".") }

// decisionSegments is the path of the policy's decision.
func decisionSegments(e *pdp.Engine) []string {
	return strings.Split(strings.TrimPrefix(e.Decision(), "data."), ".")
}
