package web

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
)

// logOf returns a logger and what it wrote.
func logOf(*testing.T) (*slog.Logger, *bytes.Buffer) {
	var text bytes.Buffer
	return slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})), &text
}

// newTestApp returns an app that answers with problem+json and logs to text.
func newTestApp(t *testing.T) (app *fiber.App, text *bytes.Buffer) {
	t.Helper()
	log, text := logOf(t)
	return NewApp(Options{Name: "test", Log: log, BodyLimit: 1000}), text
}

// call sends a request; header pairs follow the body.
func call(t *testing.T, app *fiber.App, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := app.Test(request, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// problemOf reads a problem+json answer.
func problemOf(t *testing.T, response *http.Response, body string) map[string]any {
	t.Helper()
	if kind := response.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Fatalf("Content-Type %q of %s", kind, body)
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if p["status"] != float64(response.StatusCode) {
		t.Errorf("status %v in the body of a %d", p["status"], response.StatusCode)
	}
	return p
}
