package web

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"chartgate/internal/authz"

	"github.com/gofiber/fiber/v2"
)

const staticKey = "a-static-key-of-the-tests"

// newGuarded returns an app with one route that needs the scope ask and
// answers who calls and who acts.
func newGuarded(t *testing.T, a *Authenticator) *fiber.App {
	t.Helper()
	app, _ := newTestApp(t)
	app.Get("/x", a.Middleware(), Require(ScopeAsk), func(c *fiber.Ctx) error {
		actor, err := ActorOf(c)
		if err != nil {
			return err
		}
		return c.JSON(fiber.Map{"caller": CallerOf(c), "actor": actor})
	})
	return app
}

type who struct {
	Caller Caller
	Actor  authz.Subject
}

func whoOf(t *testing.T, body string) who {
	t.Helper()
	var w who
	if err := json.Unmarshal([]byte(body), &w); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return w
}

func staticOf(t *testing.T, caller Caller) *Authenticator {
	t.Helper()
	key, err := NewStaticKey(staticKey, caller)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{Static: key}
}

func TestCallersWithoutCredentialsGet401(t *testing.T) {
	app := newGuarded(t, staticOf(t, Caller{Scopes: []string{ScopeAsk}, AllPractices: true}))
	for _, tc := range []struct{ header, challenge string }{
		{"", `Bearer realm="chartgate"`},
		{"Basic dXNlcjpwYXNz", `Bearer realm="chartgate"`},
		{"Bearer", `Bearer realm="chartgate"`},
		{"Bearer ", `Bearer realm="chartgate"`},
		{staticKey, `Bearer realm="chartgate"`},
		{"Bearer wrong", `Bearer realm="chartgate", error="invalid_token"`},
		{"Bearer " + staticKey + "x", `Bearer realm="chartgate", error="invalid_token"`},
		{"Bearer " + staticKey[1:], `Bearer realm="chartgate", error="invalid_token"`},
		{"Bearer cg_abc_def", `Bearer realm="chartgate", error="invalid_token"`},
		{"Bearer a.b.c", `Bearer realm="chartgate", error="invalid_token"`},
	} {
		response, body := call(t, app, "GET", "/x", "", "Authorization", tc.header, HeaderActor, "admin-1")
		p := problemOf(t, response, body)
		if response.StatusCode != 401 || p["type"] != ProblemBase+"no-caller" || response.Header.Get("WWW-Authenticate") != tc.challenge {
			t.Errorf("%q: %d %q %s", tc.header, response.StatusCode, response.Header.Get("WWW-Authenticate"), body)
		}
	}
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		if response, body := call(t, app, "GET", "/x", "", "Authorization", scheme+staticKey, HeaderActor, "admin-1"); response.StatusCode != 200 {
			t.Errorf("%q: %d %s", scheme, response.StatusCode, body)
		}
	}
}

func TestCallersWithoutTheScopeGet403(t *testing.T) {
	app := newGuarded(t, staticOf(t, Caller{Scopes: []string{ScopeAdminister, "ask.other", "as"}, AllPractices: true}))
	response, body := call(t, app, "GET", "/x", "", "Authorization", "Bearer "+staticKey, HeaderActor, "admin-1")
	if response.StatusCode != 403 || response.Header.Get("WWW-Authenticate") != `Bearer realm="chartgate", error="insufficient_scope", scope="ask"` {
		t.Errorf("%d %q %s", response.StatusCode, response.Header.Get("WWW-Authenticate"), body)
	}
}

func TestARouteWithoutAuthenticatorHasNoCaller(t *testing.T) {
	app, _ := newTestApp(t)
	app.Get("/x", Require(ScopeAsk), func(c *fiber.Ctx) error { return c.SendString("in") })
	if response, body := call(t, app, "GET", "/x", "", "Authorization", "Bearer "+staticKey); response.StatusCode != 403 {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestActorOfAStaticKey(t *testing.T) {
	all := Caller{Scopes: Scopes, AllPractices: true}
	one := Caller{Scopes: Scopes, AllPractices: true, Person: "admin-1"}
	for _, tc := range []struct {
		name   string
		caller Caller
		header string
		status int
		typ    string
		actor  string
	}{
		{"named", all, "admin-1", 200, "", "admin-1"},
		{"named with blanks around", all, " admin-1 ", 200, "", "admin-1"},
		{"not named", all, "", 400, "actor-missing", ""},
		{"no id", all, strings.Repeat("x", 129), 400, "malformed", ""},
		{"key of one person", one, "", 200, "", "admin-1"},
		{"key of one person, who names himself", one, "admin-1", 200, "", "admin-1"},
		{"key of one person, who names another", one, "admin-2", 403, "not-allowed", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			response, body := call(t, newGuarded(t, staticOf(t, tc.caller)), "GET", "/x", "", "Authorization", "Bearer "+staticKey, HeaderActor, tc.header)
			if response.StatusCode != tc.status {
				t.Fatalf("%d %s", response.StatusCode, body)
			}
			if tc.status != 200 {
				if p := problemOf(t, response, body); p["type"] != ProblemBase+tc.typ {
					t.Errorf("type %v", p["type"])
				}
				return
			}
			if got := whoOf(t, body).Actor; got != (authz.Subject{Type: authz.SubjectUser, ID: tc.actor}) {
				t.Errorf("actor %+v", got)
			}
		})
	}
}

func TestStaticKeysMustBeKeys(t *testing.T) {
	for _, key := range []string{"", "short", strings.Repeat("x", MinStaticKey-1), "with a space in the middle", "with-a-line\nfeed-in-it", "with-ünicode-in-it-x"} {
		if _, err := NewStaticKey(key, Caller{}); err == nil {
			t.Errorf("taken: %q", key)
		}
	}
}

func TestPracticesOfACaller(t *testing.T) {
	bound, all, none := Caller{Practices: []string{"practice-1"}}, Caller{AllPractices: true}, Caller{}
	if !bound.MayAskAbout("practice-1") || bound.MayAskAbout("practice-2") || bound.MayAskAbout("") || !all.MayAskAbout("practice-2") || none.MayAskAbout("practice-1") || none.MayAskAbout("") {
		t.Error("a caller may ask about the wrong practices")
	}
}

func TestRequirePracticeHidesOthers(t *testing.T) {
	a := staticOf(t, Caller{Scopes: Scopes, Practices: []string{"practice-1"}})
	app, _ := newTestApp(t)
	app.Get("/p/:practice", a.Middleware(), func(c *fiber.Ctx) error { return RequirePractice(c, Copy(c.Params("practice"))) })
	for practice, status := range map[string]int{"practice-1": 200, "practice-2": 404, "practice-of-nobody": 404} {
		if response, _ := call(t, app, "GET", "/p/"+practice, "", "Authorization", "Bearer "+staticKey); response.StatusCode != status {
			t.Errorf("%s: %d", practice, response.StatusCode)
		}
	}
}

func TestIdentifyWithoutAnySource(t *testing.T) {
	if _, err := (&Authenticator{}).Identify(context.Background(), "cg_x_y"); !errors.Is(err, errUnknownCaller) {
		t.Errorf("%v", err)
	}
}
