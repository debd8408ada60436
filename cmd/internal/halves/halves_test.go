package halves_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/roster"
	"chartgate/internal/web"
	"chartgate/testdata/demo"
)

const key = "key-of-the-test-0001"

// config is for halves on a fresh database that holds the demo practices.
func config(t *testing.T) halves.Config {
	t.Helper()
	address := pgtest.URL(t)
	files, err := roster.Folder(demo.Files)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := roster.Load(t.Context(), pgtest.PoolAs(t, address, ""), files, roster.Options{Actor: "demo"}); err != nil {
		t.Fatal(err)
	}
	engine, err := halves.BuiltIn(t.Context(), pdp.DecisionPath)
	if err != nil {
		t.Fatal(err)
	}
	return halves.Config{DatabaseURL: address, APIKey: key, KeyScopes: web.Scopes, PublicURL: "http://127.0.0.1:8181",
		Engine: engine, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), SpoolDir: t.TempDir()}
}

// loggedInAs is the address of the same database for another login. On a server
// that is not ours alone the login stays, since the roles have no password there.
func loggedInAs(t *testing.T, address, role string) string {
	t.Helper()
	if os.Getenv("DATABASE_URL") != "" {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// serve runs a half until the test ends and returns its base URL.
func serve(t *testing.T, half *halves.Half) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- half.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		half.Close()
	})
	return halves.BaseURL(listener.Addr())
}

func call(t *testing.T, method, address, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Chartgate-Actor", "admin-1")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// becomesReady asks until a half is ready: a sidecar is, once its first poll of
// the change feed is complete.
func becomesReady(t *testing.T, base string) (int, string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		status, answer := call(t, http.MethodGet, base+"/readyz", "")
		if status == http.StatusOK || time.Now().After(deadline) {
			return status, answer
		}
	}
}

const question = `{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-2"}}`

func mayOpen(t *testing.T, sidecar string) bool {
	t.Helper()
	status, answer := call(t, http.MethodPost, sidecar+"/access/v1/evaluation", question)
	var d struct{ Decision bool }
	if err := json.Unmarshal([]byte(answer), &d); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	return d.Decision
}

// The halves work apart, each logged in as its own role and nothing more: what
// control grants and takes back the sidecar answers by.
func TestHalvesApart(t *testing.T) {
	both := config(t)
	both.RedisURL = pgtest.Redis(t)
	own := both
	own.DatabaseURL = loggedInAs(t, both.DatabaseURL, postgres.RoleSidecar)
	half, err := halves.Sidecar(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	sidecar := serve(t, half)
	own.DatabaseURL = loggedInAs(t, both.DatabaseURL, postgres.RoleControl)
	if half, err = halves.Control(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	control := serve(t, half)
	for _, base := range []string{sidecar, control} {
		if status, answer := becomesReady(t, base); status != http.StatusOK {
			t.Errorf("%d %s", status, answer)
		}
	}

	if mayOpen(t, sidecar) {
		t.Error("allowed before it was granted")
	}
	grants := control + "/api/v1/practices/practice-1/clients/client-2/grants"
	status, answer := call(t, http.MethodPost, grants, `{"user":"practitioner-1","reason":"cover"}`)
	var grant struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &grant); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	if !mayOpen(t, sidecar) {
		t.Error("denied after it was granted")
	}
	if status, answer := call(t, http.MethodDelete, grants+"/"+grant.ID, ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	if mayOpen(t, sidecar) {
		t.Error("allowed after it was taken back")
	}
}

// Both halves make lists, each in its own role: who can see a chart, what a
// member can see, and the searches that the metadata name.
func TestHalvesList(t *testing.T) {
	c := config(t)
	formulas, err := compile.Compile(t.Context(), c.Engine.Source())
	if err != nil {
		t.Fatal(err)
	}
	c.Engine.Attach(compile.Assemble(formulas)) // rather than wait until it is certified
	half, err := halves.Sidecar(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	sidecar := serve(t, half)
	if half, err = halves.Control(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	control := serve(t, half) + "/api/v1/practices/practice-1"
	_, metadata := call(t, http.MethodGet, sidecar+"/.well-known/authzen-configuration", "")
	for kind, part := range map[string]string{"subject": `"user","id":"practitioner-2"`, "resource": `"client","id":"client-2"`, "action": `"name":"chart.open"`} {
		body := strings.ReplaceAll(question, "practitioner-1", "practitioner-2")
		if status, answer := call(t, http.MethodPost, sidecar+"/access/v1/search/"+kind, body); status != http.StatusOK || !strings.Contains(answer, part) {
			t.Errorf("%s: %d %s", kind, status, answer)
		}
		if !strings.Contains(metadata, "/access/v1/search/"+kind) {
			t.Errorf("%s", metadata)
		}
	}
	for path, part := range map[string]string{"/clients/client-2/members?action=chart.open": `"practitioner-2"`, "/members/practitioner-2/clients?action=chart.open": `"client-2"`,
		"/clients": `"client-2"`, "/clients/client-2/members?action=chart.open&as_of=2026-01-01T00:00:00Z": `"members":[]`} {
		if status, answer := call(t, http.MethodGet, control+path, ""); status != http.StatusOK || !strings.Contains(answer, part) {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
}

// A login that may do everything is held to the half's role.
func TestHalvesTakeTheirRole(t *testing.T) {
	c := config(t)
	half, err := halves.Sidecar(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	sidecar := serve(t, half)
	if _, err := pgtest.PoolAs(t, c.DatabaseURL, "").Exec(t.Context(), `REVOKE SELECT (status) ON clients FROM chartgate_sidecar`); err != nil {
		t.Fatal(err)
	}
	if status, answer := call(t, http.MethodPost, sidecar+"/access/v1/evaluation", question); status != http.StatusServiceUnavailable {
		t.Errorf("facts that the role may not read: %d %s", status, answer)
	}
}

// A Redis that is not there is no fault: answers are right, and /readyz says it.
func TestSidecarWithoutRedis(t *testing.T) {
	c := config(t)
	c.RedisURL = "redis://127.0.0.1:1"
	half, err := halves.Sidecar(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	sidecar := serve(t, half)
	if mayOpen(t, sidecar) {
		t.Error("allowed")
	}
	status, answer := becomesReady(t, sidecar)
	if status != http.StatusOK || !strings.Contains(answer, "redis does not answer") {
		t.Errorf("%d %s", status, answer)
	}
}

// A half whose database was not migrated does not start, and says what to do.
func TestHalvesNeedTheirSchema(t *testing.T) {
	c := config(t)
	c.DatabaseURL = pgtest.EmptyURL(t)
	for name, build := range map[string]func(context.Context, halves.Config) (*halves.Half, error){"sidecar": halves.Sidecar, "control": halves.Control} {
		if _, err := build(t.Context(), c); err == nil || !strings.Contains(err.Error(), "chartgate migrate") || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckAddr(t *testing.T) {
	for _, good := range []string{"127.0.0.1:8181", "0.0.0.0:0", "[::1]:80", ":8181", "localhost:65535"} {
		if err := halves.CheckAddr("--addr", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "8181", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80"} {
		if err := halves.CheckAddr("--addr", bad); err == nil || !strings.HasPrefix(err.Error(), "--addr: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestBaseURL(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8181": "http://127.0.0.1:8181",
		"0.0.0.0:8181":   "http://127.0.0.1:8181",
		"[::]:8181":      "http://127.0.0.1:8181",
		"[::1]:8181":     "http://[::1]:8181",
	} {
		resolved, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := halves.BaseURL(resolved); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestTokensFaults(t *testing.T) {
	good := halves.Tokens{JWKSURL: "https://issuer.example.com/keys", Issuer: "https://issuer.example.com", Audience: "chartgate"}
	for name, c := range map[string]struct {
		tokens halves.Tokens
		faults int
	}{
		"none":             {halves.Tokens{}, 0},
		"good":             {good, 0},
		"no keys":          {halves.Tokens{Issuer: "i", Audience: "a"}, 1},
		"no audience":      {halves.Tokens{JWKSURL: good.JWKSURL, Issuer: good.Issuer}, 1},
		"shared secret":    {halves.Tokens{JWKSURL: good.JWKSURL, Issuer: good.Issuer, Audience: good.Audience, Algorithms: []string{"HS256"}}, 1},
		"no algorithm":     {halves.Tokens{JWKSURL: good.JWKSURL, Issuer: good.Issuer, Audience: good.Audience, Algorithms: []string{"none"}}, 1},
		"keys from a file": {halves.Tokens{JWKSURL: "file:///etc/keys", Issuer: good.Issuer, Audience: good.Audience}, 1},
	} {
		if faults := c.tokens.Faults(); len(faults) != c.faults {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

// Control takes no database that may lose what it has committed, unless it is
// for development (freshness, schedule 8).
func TestControlNeedsADatabaseThatKeepsWhatItCommits(t *testing.T) {
	c := config(t)
	var keeps bool
	if err := pgtest.PoolAs(t, c.DatabaseURL, "").QueryRow(t.Context(), `SELECT current_setting('fsync') = 'on'`).Scan(&keeps); err != nil {
		t.Fatal(err)
	}
	c.Durable = true
	half, err := halves.Control(t.Context(), c)
	if (err == nil) != keeps || (err != nil && !strings.Contains(err.Error(), "fsync")) {
		t.Errorf("fsync is on: %v; control says %v", keeps, err)
	}
	if half != nil {
		half.Close()
	}
}
