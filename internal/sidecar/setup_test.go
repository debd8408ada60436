package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"chartgate/bundles"
	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/web"
)

const testKey = "the-key-of-the-tests"

// store is a fact source and a recorder in memory, with a practice in it. It
// keeps what it got, as a cache or a queue would.
type store struct {
	mu       sync.Mutex
	asked    []authz.Request
	recorded []authz.Verdict
	down     func(authz.Request) error // nil: facts can be had
	refuse   error                     // why nothing can be recorded
}

var settings = func() *authz.Settings {
	s, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		panic(err)
	}
	return s
}()

// Facts knows practice-1 with practitioner-1 and admin-1, client-1 (assigned to
// practitioner-1) and client-2 (nobody's), and practice-2 with client-4.
func (s *store) Facts(_ context.Context, r authz.Request) (authz.Facts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	if s.down != nil {
		if err := s.down(r); err != nil {
			return authz.Facts{}, err
		}
	}
	if r.Context.MinRevision == "bad" {
		return authz.Facts{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "min_revision: it is no revision"}
	}
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	f := authz.Facts{Now: now, Latest: now, Revision: "facts-1", Settings: settings}
	switch r.Resource.Client() {
	case "client-1":
		f.Client = &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: authz.ClientActive}
	case "client-2":
		f.Client = &authz.Client{ID: "client-2", Practice: "practice-1", Status: authz.ClientActive}
	case "client-4":
		f.Client = &authz.Client{ID: "client-4", Practice: "practice-2", Assigned: "practitioner-1", Status: authz.ClientActive}
	default:
		return authz.Facts{Now: now, Latest: now, Revision: "facts-1"}, nil
	}
	f.Practice = f.Client.Practice
	if role := map[string]string{"practitioner-1": authz.RolePractitioner, "admin-1": authz.RoleAdministrator}[r.Subject.ID]; role != "" {
		f.Member = &authz.Member{ID: "m-" + r.Subject.ID, User: r.Subject.ID, Practice: f.Practice, Roles: []string{role}, Status: authz.MemberActive, BillingEnabled: true}
	}
	return f, nil
}

// AtHand has everything at hand that can be had.
func (s *store) AtHand() func(*authz.Request) (authz.Facts, bool) {
	return func(r *authz.Request) (authz.Facts, bool) {
		if r.Context.MinRevision != "" || (s.down != nil && s.down(*r) != nil) {
			return authz.Facts{}, false
		}
		f, err := s.Facts(context.Background(), *r)
		return f, err == nil
	}
}

func (s *store) Record(_ context.Context, verdicts ...authz.Verdict) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	s.recorded = append(s.recorded, verdicts...)
	return nil
}

// taken returns the verdicts recorded since the last call.
func (s *store) taken() []authz.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.recorded
	s.recorded = nil
	return out
}

// questions returns what was asked since the last call.
func (s *store) questions() []authz.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.asked
	s.asked = nil
	return out
}

// bench is a sidecar under test.
type bench struct {
	*Server
	store   *store
	log     *bytes.Buffer
	metrics *web.Metrics
	callers *web.Authenticator
}

// shipped is a sidecar with the shipped policy, for a caller of all practices.
func shipped(t testing.TB) bench {
	t.Helper()
	return benchOf(t, shippedEngine(t), web.Caller{Scopes: web.Scopes, AllPractices: true})
}

// theEngine is compiled once for all tests: it never changes.
var theEngine = sync.OnceValues(func() (*pdp.Engine, error) {
	b, err := pdp.ReadArchive(bundles.Default)
	if err != nil {
		return nil, err
	}
	return pdp.NewEngine(context.Background(), b, pdp.DecisionPath)
})

func shippedEngine(t testing.TB) *pdp.Engine {
	t.Helper()
	engine, err := theEngine()
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// own is a sidecar with a bundle of one's own, that of the certification.
func own(t testing.TB, decision string) bench {
	t.Helper()
	return benchOf(t, ownEngine(t, decision), web.Caller{Scopes: web.Scopes, AllPractices: true})
}

func ownEngine(t testing.TB, decision string) *pdp.Engine {
	t.Helper()
	b, err := pdp.LoadBundle("testdata/certification")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := pdp.NewEngine(t.Context(), b, decision)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func benchOf(t testing.TB, engine *pdp.Engine, caller web.Caller, checks ...web.Check) bench {
	t.Helper()
	s := &store{}
	b := benchWith(t, engine, caller, s, s, checks...)
	b.store = s
	return b
}

func benchWith(t testing.TB, engine *pdp.Engine, caller web.Caller, facts pdp.FactSource, recorder pdp.Recorder, checks ...web.Check) bench {
	t.Helper()
	b := bench{log: &bytes.Buffer{}, metrics: web.NewMetrics()}
	key, err := web.NewStaticKey(testKey, caller)
	if err != nil {
		t.Fatal(err)
	}
	b.callers = &web.Authenticator{Static: key}
	b.Server, err = New(Options{
		PDP: pdp.New(engine, facts, recorder), Callers: b.callers, Checks: checks, Metrics: b.metrics,
		Log: slog.New(slog.NewTextHandler(b.log, nil)), PublicURL: "https://pdp.example.com", BodyLimit: 64 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply is an answer as a caller sees it.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) object(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("%v: %q", err, r.body)
	}
	return m
}

// do sends a request with the key; header pairs follow the body, and "" leaves
// a header out.
func (b bench) do(t testing.TB, method, path, body string, header ...string) reply {
	t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer "+testKey)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if request.Header.Del(header[i]); header[i+1] != "" {
			request.Header.Set(header[i], header[i+1])
		}
	}
	response, err := b.App.Test(request, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

// ask asks for one evaluation and returns the decision and its code.
func (b bench) ask(t testing.TB, body string, header ...string) (bool, string) {
	t.Helper()
	r := b.do(t, "POST", "/access/v1/evaluation", body, header...)
	if r.status != 200 {
		t.Fatalf("%s: %d %s", body, r.status, r.body)
	}
	return decisionOf(t, r.object(t))
}

func decisionOf(t testing.TB, answer map[string]any) (bool, string) {
	t.Helper()
	allow, ok := answer["decision"].(bool)
	if !ok {
		t.Fatalf("no decision in %v", answer)
	}
	reasons, _ := answer["context"].(map[string]any)
	code, _ := reasons["code"].(string)
	return allow, code
}

// decisions reads the decisions of a batch's answer.
func decisions(t testing.TB, r reply) []bool {
	t.Helper()
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	items, ok := r.object(t)["evaluations"].([]any)
	if !ok {
		t.Fatalf("no evaluations in %s", r.body)
	}
	out := make([]bool, len(items))
	for i, item := range items {
		out[i], _ = decisionOf(t, item.(map[string]any))
	}
	return out
}

func wantDecisions(t testing.TB, r reply, want ...bool) {
	t.Helper()
	if got := decisions(t, r); !slices.Equal(got, want) {
		t.Errorf("decisions %v, want %v: %s", got, want, r.body)
	}
}

// question is the JSON of a question about a client.
func questionText(subject, action, client string) string {
	return `{"subject":{"type":"user","id":"` + subject + `"},"action":{"name":"` + action + `"},"resource":{"type":"client","id":"` + client + `"}}`
}

var errDown = errors.Join(authz.ErrUnavailable, errors.New("dial tcp 10.0.0.1: connection refused"))
