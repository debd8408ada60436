package web

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

type grantRequest struct {
	User    string     `json:"user"`
	Scope   *string    `json:"scope,omitempty"`
	Expires *time.Time `json:"expires_at,omitempty"`
	Days    int        `json:"days,omitempty"`
	On      bool       `json:"on,omitempty"`
	Inner   struct {
		Tags []string `json:"tags"`
	} `json:"inner,omitempty"`
	Successors map[string]string `json:"successors,omitempty"`
	Grants     []grantRequest    `json:"grants,omitempty"`
	Nobody     *string           `json:"assigned,omitempty"`
	Overrides  map[string]any    `json:"overrides,omitempty"`
	Hidden     string
}

func read(t *testing.T, body string, header ...string) (grantRequest, error) {
	t.Helper()
	var into grantRequest
	var err error
	app, _ := newTestApp(t)
	app.Post("/x", func(c *fiber.Ctx) error { err = Read(c, &into); return nil })
	call(t, app, "POST", "/x", body, append([]string{"Content-Type", "application/json"}, header...)...)
	return into, err
}

func TestReadFillsAStruct(t *testing.T) {
	got, err := read(t, `{"user": "practitioner-1", "scope": "view", "expires_at": "2026-02-01T10:00:00+01:00", "days": 14, "on": true, "inner": {"tags": ["a", "b"]},
		"successors": {"client-1": "practitioner-2"}, "grants": [{"user": "x"}], "assigned": null, "overrides": {"n": null, "list": []}}`, "Content-Type", "application/json; charset=utf-8")
	if err != nil {
		t.Fatal(err)
	}
	view, end := "view", time.Date(2026, 2, 1, 9, 0, 0, 0, time.UTC)
	want := grantRequest{User: "practitioner-1", Scope: &view, Expires: &end, Days: 14, On: true, Successors: map[string]string{"client-1": "practitioner-2"},
		Grants: []grantRequest{{User: "x"}}, Overrides: map[string]any{"n": nil, "list": []any{}}}
	want.Inner.Tags = []string{"a", "b"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestReadNamesEveryWrongMember(t *testing.T) {
	_, err := read(t, `{"User": "a", "scope": 1, "expires_at": "tomorrow", "days": 1.5, "on": "yes", "inner": {"tags": ["a", 2, null]}, "successors": {"a/b": 1},
		"grants": [{"user": "x"}, {"user": null, "Scope": "view"}, 3], "hidden": 1, "Hidden": 1, "overrides": []}`)
	var p *authz.Problem
	if !errors.As(err, &p) || p.Type != "malformed" || !errors.Is(err, authz.ErrMalformed) {
		t.Fatalf("%v", err)
	}
	want := map[string]string{
		"/user": "is missing", "/User": "is not known here", "/scope": "must be a string", "/expires_at": "must be a time such as 2026-01-31T09:00:00Z",
		"/days": "must be a whole number", "/on": "must be true or false", "/inner/tags/1": "must be a string", "/inner/tags/2": "must be a string",
		"/successors/a~1b": "must be a string", "/grants/1/user": "must be a string", "/grants/1/Scope": "is not known here", "/grants/2": "must be an object",
		"/hidden": "is not known here", "/Hidden": "is not known here", "/overrides": "must be an object",
	}
	got := map[string]string{}
	for _, f := range p.Fields {
		got[f.Pointer] = f.Detail
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestReadRefusesWhatIsNoJSONObject(t *testing.T) {
	for name, tc := range map[string]struct {
		body   string
		header []string
		status int
	}{
		"nothing":     {"", nil, 0},
		"an array":    {"[]", nil, 0},
		"a duplicate": {`{"user": "a", "user": "b"}`, nil, 0},
		"a form":      {"user=a", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		"text":        {`{"user": "a"}`, []string{"Content-Type", "text/plain"}, 415},
		"no type":     {`{"user": "a"}`, []string{"Content-Type", ""}, 415},
		"compressed":  {`{"user": "a"}`, []string{"Content-Encoding", "gzip"}, 415},
	} {
		_, err := read(t, tc.body, tc.header...)
		var p *authz.Problem
		if !errors.As(err, &p) || !errors.Is(err, authz.ErrMalformed) || p.Status != tc.status {
			t.Errorf("%s: %v", name, err)
		}
	}
}
