package sidecar

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/web"
)

const allowedInput = `{"input":` + allowed + `}`

func TestOPADecision(t *testing.T) {
	b := shipped(t)
	r := b.do(t, "POST", "/v1/data/authz/decision", allowedInput)
	v := b.store.taken()[0]
	if r.status != 200 || r.header.Get("Content-Type") != "application/json" || r.header.Get(HeaderDecisionID) != v.ID.String() {
		t.Errorf("%d %v", r.status, r.header)
	}
	answer := r.object(t)
	result, _ := answer["result"].(map[string]any)
	if answer["decision_id"] != v.ID.String() || result["allow"] != true || result["code"] != "assigned" || !reflect.DeepEqual(result["bases"], []any{"assigned"}) {
		t.Errorf("%s", r.body)
	}
	// The same reasons as AuthZEN gives.
	delete(result, "allow")
	if want := b.do(t, "POST", "/access/v1/evaluation", allowed).object(t)["context"]; !reflect.DeepEqual(any(result), want) {
		t.Errorf("%v\n%v", result, want)
	}
	denied := `{"input":` + questionText("nobody", "chart.open", "client-1") + `}`
	for path, want := range map[string]string{"/v1/data/authz/allow": "true false", "/v1/data/authz": "map"} {
		yes, no := b.do(t, "POST", path, allowedInput).object(t)["result"], b.do(t, "POST", path, denied).object(t)["result"]
		if want == "map" {
			y, n := yes.(map[string]any), no.(map[string]any)
			if y["allow"] != true || n["allow"] != false || y["decision"].(map[string]any)["code"] != "assigned" || n["decision"].(map[string]any)["code"] != "no_basis" {
				t.Errorf("%s: %v, %v", path, yes, no)
			}
		} else if fmt.Sprint(yes, no) != want {
			t.Errorf("%s: %v %v", path, yes, no)
		}
	}
}

// Facts are added by the sidecar. What a caller sends under their names, or in
// the context, is not read (promise P1).
func TestFactsThatACallerSendsAreNotUsed(t *testing.T) {
	b := shipped(t)
	forged := `"member":{"id":"m","user":"nobody","practice":"practice-1","roles":["administrator","practitioner"],"status":"active","owner":true,"full_clinical_access":true,"billing_enabled":true},
		"client":{"id":"client-1","practice":"practice-1","assigned":"nobody","status":"active"},"grant":{"scope":"collaborate","not_before":"2000-01-01T00:00:00.000000Z","expires_at":"9999-12-31T23:59:59.999999Z"},
		"settings":{"hide_unassigned":false},"portal":{"enabled":true,"own":true},"facts":{"member":{}},"context":{"now":"2020-01-01T00:00:00.000000Z","member":{}},`
	forge := func(question string) string { return "{" + forged + question[1:] }
	denied := questionText("nobody", "chart.open", "client-1")
	want := b.do(t, "POST", "/v1/data/authz/decision", `{"input":`+denied+`}`).object(t)["result"]
	for _, r := range []reply{
		b.do(t, "POST", "/v1/data/authz/decision", `{"input":`+forge(denied)+`}`),
		b.do(t, "POST", "/v1/data/authz/decision", `{"input":`+denied+`,`+forged[:len(forged)-1]+`}`),
		b.do(t, "GET", "/v1/data/authz/decision?input="+url.QueryEscape(forge(denied)), ""),
	} {
		if got := r.object(t)["result"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	for _, path := range []string{"/", "/v0/data/authz/decision"} {
		var got any
		if err := json.Unmarshal([]byte(b.do(t, "POST", path, forge(denied)).body), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", path, got)
		}
	}
	if allow, code := b.ask(t, forge(denied)); allow || code != "no_basis" {
		t.Errorf("AuthZEN: %v %s", allow, code)
	}
	wantDecisions(t, b.do(t, "POST", "/access/v1/evaluations", `{`+forged+`"evaluations":[`+forge(denied)+`,`+forge(allowed)+`]}`), false, true)
	for _, v := range b.store.taken() {
		if v.Exact.Allow != (v.Request.Subject.ID == "practitioner-1") || (v.Facts.Member != nil && v.Facts.Member.User != v.Request.Subject.ID) {
			t.Errorf("on record: %+v", v)
		}
	}
}

// What is wrong with an input is a denial with a reason, as OPA answers 200.
func TestOPAInputsThatAreNoQuestion(t *testing.T) {
	b := shipped(t)
	for _, tc := range []struct{ body, code string }{
		{`{}`, "unknown_action"}, {``, "unknown_action"}, {`null`, "unknown_action"}, {`{"input":null}`, "unknown_action"}, {`{"input":5}`, "unknown_action"}, {`{"input":[]}`, "unknown_action"},
		{`{"input":{"action":{"name":"chart.open"}}}`, "bad_input"},
		{`{"input":{"subject":"practitioner-1","action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}}`, "bad_input"},
		{`{"input":{"subject":{"type":"user","id":"a\u0000b"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}}`, "bad_input"},
		{`{"input":{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":["client-1"]}}}`, "bad_input"},
		{`{"input":{"Subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}}`, "bad_input"},
		{`{"INPUT":` + allowed + `}`, "unknown_action"},
		{`{"input":{"subject":{"type":"user","id":"admin-1"},"SUBJECT":{"type":"user","id":"x"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}}`, "administrator"},
	} {
		r := b.do(t, "POST", "/v1/data/authz/decision", tc.body)
		result, _ := r.object(t)["result"].(map[string]any)
		if r.status != 200 || result["code"] != tc.code || result["allow"] != (tc.code == "administrator") {
			t.Errorf("%s: %d %s", tc.body, r.status, r.body)
		}
		if len(b.store.taken()) != 1 {
			t.Errorf("%s: not on record", tc.body)
		}
	}
}

// OPA's answers where input, path or both are missing, odd or undefined: these
// were compared with OPA 1.22.2.
func TestOPALeniency(t *testing.T) {
	const warned = `"warning":{"code":"api_usage_warning","message":"'input' key missing from the request"}`
	b := own(t, ownDecision)
	input := `{"input":` + recordQuestion("alice", "read", "record-1") + `}`
	noID := func(r reply) string {
		if i := strings.Index(r.body, `"decision_id":"`); i >= 0 {
			return r.body[:i] + strings.TrimPrefix(r.body[i+len(`"decision_id":"`)+36+1:], ",")
		}
		return r.body
	}
	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
	}{
		{"true", "POST", "/v1/data/authzen/allow", input, nil, 200, `{"result":true}`},
		{"false is a result", "POST", "/v1/data/authzen/allow", `{"input":{"x":1}}`, nil, 200, `{"result":false}`},
		{"undefined has no result", "POST", "/v1/data/authzen/undefined_decision", input, nil, 200, `{}`},
		{"unknown has no result", "POST", "/v1/data/nothing/at/all", input, nil, 200, `{}`},
		{"no input is warned of", "POST", "/v1/data/authzen/allow", `{}`, nil, 200, `{"result":false,` + warned + `}`},
		{"null is no input", "POST", "/v1/data/authzen/allow", `{"input":null}`, nil, 200, `{"result":false,` + warned + `}`},
		{"an empty body", "POST", "/v1/data/authzen/allow", ``, nil, 200, `{"result":false,` + warned + `}`},
		{"more top-level keys", "POST", "/v1/data/authzen/allow", `{"labels":{"a":1},` + input[1:], nil, 200, `{"result":true}`},
		{"trailing text", "POST", "/v1/data/authzen/allow", input + ` and more`, nil, 200, `{"result":true}`},
		{"no content type", "POST", "/v1/data/authzen/allow", input, []string{"Content-Type", ""}, 200, `{"result":true}`},
		{"any content type", "POST", "/v1/data/authzen/allow", input, []string{"Content-Type", "text/plain"}, 200, `{"result":true}`},
		{"YAML", "POST", "/v1/data/authzen/allow", "input:\n  subject: {type: user, id: alice}\n  action: {name: read}\n  resource: {type: record, id: record-1}\n", []string{"Content-Type", "application/x-yaml"}, 200, `{"result":true}`},
		{"empty YAML", "POST", "/v1/data/authzen/allow", "", []string{"Content-Type", "text/yaml"}, 200, `{"result":false,` + warned + `}`},
		{"gzip", "POST", "/v1/data/authzen/allow", packed(input), []string{"Content-Encoding", "gzip"}, 200, `{"result":true}`},
		{"a package", "POST", "/v1/data/system/health", `{"input":{"plugins_ready":true}}`, nil, 200, `{"result":{"live":true,"ready":true}}`},
		{"a quoted path", "POST", "/v1/data/authzen/%61llow", input, nil, 200, `{"result":true}`},
		{"empty parts", "POST", "/v1/data//authzen//allow", input, nil, 200, `{"result":true}`},
		{"a path that is a query", "POST", "/v1/data/authzen/allow;%20x%20:=%201", input, nil, 200, `{}`},
		{"a path with brackets", "POST", "/v1/data/authzen%5B_%5D", input, nil, 200, `{}`},
		{"an index", "POST", "/v1/data/authzen/list_decision/0", input, nil, 200, `{"result":true}`},
		{"GET", "GET", "/v1/data/authzen/allow?input=" + url.QueryEscape(recordQuestion("alice", "read", "record-1")), "", nil, 200, `{"result":true}`},
		{"GET without input", "GET", "/v1/data/authzen/allow", "", nil, 200, `{"result":false}`},
		{"the bare body", "POST", "/v0/data/authzen/allow", recordQuestion("alice", "read", "record-1"), nil, 200, `true`},
		{"the default decision", "POST", "/", recordQuestion("bob", "write", "record-1"), nil, 200, `false`},
		{"the default decision of nothing", "POST", "/", ``, nil, 200, `false`},
		{"a trailing slash", "POST", "/v1/data/authzen/allow/", input, nil, 301, ``},
		{"a trailing slash of GET", "GET", "/v1/data/", ``, nil, 301, ``},
		{"not a batch", "POST", "/v1/batch/data/authzen/allow", `{"inputs":{}}`, nil, 404, "404 page not found\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := b.do(t, tc.method, tc.path, tc.body, tc.header...)
			if got := noID(r); r.status != tc.status || strings.TrimSuffix(got, "\n") != strings.TrimSuffix(tc.want, "\n") {
				t.Errorf("%d %s, want %d %s", r.status, r.body, tc.status, tc.want)
			}
			if r.status == 301 && strings.HasSuffix(r.header.Get("Location"), "/") {
				t.Errorf("Location %q", r.header.Get("Location"))
			}
			if r.status == 200 && len(b.store.taken()) != 1 {
				t.Error("it is not on record")
			}
		})
	}
}

func packed(text string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = io.WriteString(w, text) // to memory
	_ = w.Close()
	return out.String()
}

func TestOPAErrors(t *testing.T) {
	b := own(t, ownDecision)
	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"an array", "POST", "/v1/data/authzen/allow", `[1]`, nil, 400, "invalid_parameter"},
		{"half a body", "POST", "/v1/data/authzen/allow", `{"input":`, nil, 400, "invalid_parameter"},
		{"bad YAML", "POST", "/v1/data/authzen/allow", "a: [", []string{"Content-Type", "application/yaml"}, 400, "invalid_parameter"},
		{"YAML that is no JSON", "POST", "/v1/data/authzen/allow", "? [a]\n: b\n", []string{"Content-Type", "application/yaml"}, 400, "invalid_parameter"},
		{"a bad parameter", "GET", "/v1/data/authzen/allow?input=%7B", "", nil, 400, "invalid_parameter"},
		{"bad gzip", "POST", "/v1/data/authzen/allow", "not gzip", []string{"Content-Encoding", "gzip"}, 400, "invalid_parameter"},
		{"cut gzip", "POST", "/v1/data/authzen/allow", packed(`{"input":1}`)[:20], []string{"Content-Encoding", "gzip"}, 400, "invalid_parameter"},
		{"a gzip bomb", "POST", "/v1/data/authzen/allow", packed(strings.Repeat(" ", 1<<20)), []string{"Content-Encoding", "gzip"}, 413, "invalid_parameter"},
		{"a bad path", "GET", "/v1/data/a/%22x", "", nil, 400, "invalid_parameter"},
		{"undefined in v0", "POST", "/v0/data/authzen/undefined_decision", `{}`, nil, 404, "undefined_document"},
		{"a write", "PUT", "/v1/data/authzen", `{}`, nil, 405, "invalid_operation"},
		{"a patch", "PATCH", "/v1/data/authzen", `[]`, nil, 405, "invalid_operation"},
		{"a delete", "DELETE", "/v1/data/authzen", ``, nil, 405, "invalid_operation"},
		{"a policy", "PUT", "/v1/policies/mine", `package mine`, nil, 405, "invalid_operation"},
		{"a policy's end", "DELETE", "/v1/policies/mine", ``, nil, 405, "invalid_operation"},
		{"GET of v0", "GET", "/v0/data/authzen/allow", ``, nil, 405, "invalid_operation"},
		{"a filter for no database", "POST", "/v1/compile/authzen/allow", `{}`, nil, 400, "invalid_parameter"},
		{"a query", "POST", "/v1/query", `{"query":"x = 1"}`, nil, 404, "resource_not_found"},
		{"no such route", "GET", "/v1/nothing", ``, nil, 404, "resource_not_found"},
		{"no status", "GET", "/v1/status", ``, nil, 500, "internal_error"},
		{"no key", "POST", "/v1/data/authzen/allow", `{}`, []string{"Authorization", ""}, 401, "unauthorized"},
		{"too large", "POST", "/v1/data/authzen/allow", strings.Repeat(" ", 65<<10), nil, 413, "invalid_parameter"},
		{"a policy that fails", "POST", "/v1/data/authzen/conflict", `{"input":{"subject":1}}`, nil, 500, "internal_error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := b.do(t, tc.method, tc.path, tc.body, tc.header...)
			if e := r.object(t); r.status != tc.status || e["code"] != tc.code || e["message"] == "" || r.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s, want %d %s", r.status, r.body, tc.status, tc.code)
			}
		})
	}
	conflict := b.do(t, "POST", "/v1/data/authzen/conflict", `{"input":{"subject":1}}`).object(t)["errors"].([]any)[0].(map[string]any)
	if conflict["code"] != "eval_conflict_error" || conflict["location"].(map[string]any)["row"] == 0.0 {
		t.Errorf("%v", conflict)
	}
	if r := b.do(t, "HEAD", "/v1/data/authzen/allow", ""); r.status != 405 {
		t.Errorf("HEAD: %d", r.status)
	}
}

// The shipped policy shows its decision and its tables, and nothing else.
func TestOPAPathsOfTheShippedPolicy(t *testing.T) {
	b := shipped(t)
	for _, path := range []string{"/v1/data", "/v1/data/authz/bases", "/v1/data/authz/permitted", "/v1/data/rules/assigned", "/v1/data/lib", "/v1/data/authz/decision/allow", "/v1/data/schemas"} {
		r := b.do(t, "POST", path, allowedInput)
		if r.status != 200 || strings.TrimSpace(r.body) != `{}` {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if r := b.do(t, "GET", "/v1/data/tables/actions", ""); !strings.Contains(r.body, `"chart.open":{"on":"client"}`) {
		t.Errorf("%s", r.body)
	}
	if recorded := b.store.taken(); len(recorded) != 0 {
		t.Errorf("decided: %+v", recorded)
	}
	for _, path := range []string{"/", "/v0/data/authz/decision"} {
		if r := b.do(t, "POST", path, allowed); !strings.HasPrefix(r.body, `{"allow":true,"code":"assigned"`) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
}

func TestOPAParameters(t *testing.T) {
	b := shipped(t)
	r := b.do(t, "POST", "/v1/data/authz/allow?provenance&metrics=TRUE&pretty=true&instrument=false", allowedInput)
	answer := r.object(t)
	if !strings.HasPrefix(r.body, "{\n  \"decision_id\"") {
		t.Errorf("not pretty: %s", r.body)
	}
	if took, _ := answer["metrics"].(map[string]any)["timer_server_handler_ns"].(float64); took <= 0 {
		t.Errorf("metrics %v", answer["metrics"])
	}
	p, _ := answer["provenance"].(map[string]any)
	if _, err := time.Parse(time.RFC3339, fmt.Sprint(p["build_timestamp"])); err != nil || p["version"] == "" {
		t.Errorf("provenance %v: %v", p, err)
	}
	if revision := p["bundles"].(map[string]any)["chartgate"].(map[string]any)["revision"]; revision != b.pdp.Engine().Revision() {
		t.Errorf("revision %v", revision)
	}
	for _, query := range []string{"", "?provenance=false&metrics=0&pretty=no"} {
		answer := b.do(t, "POST", "/v1/data/authz/allow"+query, allowedInput).object(t)
		if len(answer) != 2 {
			t.Errorf("%q: %v", query, answer)
		}
	}
}

func TestOPACompressesLargeAnswers(t *testing.T) {
	b := shipped(t)
	plain := b.do(t, "GET", "/v1/data/tables", "")
	r := b.do(t, "GET", "/v1/data/tables", "", "Accept-Encoding", "deflate, gzip")
	if plain.header.Get("Content-Encoding") != "" || r.header.Get("Content-Encoding") != "gzip" || r.header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("%v %v", plain.header, r.header)
	}
	reader, err := gzip.NewReader(strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != plain.body {
		t.Errorf("%v: %.80s", err, text)
	}
	if r := b.do(t, "POST", "/v1/data/authz/allow", allowedInput, "Accept-Encoding", "gzip"); r.header.Get("Content-Encoding") != "" {
		t.Error("a small answer is compressed")
	}
}

func TestHealth(t *testing.T) {
	var down error
	check := web.Check{Name: "postgres", Hint: "Postgres cannot be reached", Probe: func(context.Context) error { return down }}
	caller := web.Caller{Scopes: web.Scopes, AllPractices: true}
	ask := func(b bench, path string) (int, string) {
		r := b.do(t, "GET", path, "", "Authorization", "")
		return r.status, strings.TrimSpace(r.body)
	}
	for _, down = range []error{nil, errors.New("dial tcp 10.0.0.1")} {
		b := benchOf(t, ownEngine(t, ownDecision), caller, check)
		for path, status := range map[string]int{
			"/livez": 200, "/health": 200, "/health?bundles": 200, "/health/live": 200,
			"/readyz": 503, "/health?plugins": 500, "/health?bundles=true&plugins=true": 500, "/health/ready": 500, "/health/nothing": -1,
		} {
			want := status
			if down == nil && status != -1 {
				want = 200
			} else if status == -1 {
				want = 500
			}
			if got, body := ask(b, path); got != want || strings.Contains(body, "10.0.0.1") || (want == 200 && strings.HasPrefix(path, "/health") && body != "{}") {
				t.Errorf("down: %v, %s: %d %s", down, path, got, body)
			}
		}
	}
	if status, body := ask(shipped(t), "/health/live"); status != 500 || body != `{"error":"health check (data.system.health.live) was undefined"}` {
		t.Errorf("%d %s", status, body)
	}
}

func TestMetricsNeedOperate(t *testing.T) {
	b := shipped(t)
	b.do(t, "POST", "/v1/data/authz/allow", allowedInput)
	b.do(t, "POST", "/access/v1/evaluation", allowed)
	r := b.do(t, "GET", "/metrics", "")
	for _, want := range []string{`{code="200",handler="v1/data",method="post"} 1`, `{code="200",handler="access/v1/evaluation",method="post"} 1`} {
		if !strings.Contains(r.body, "http_request_duration_seconds_count"+want) {
			t.Errorf("%d: no %s", r.status, want)
		}
	}
	asker := benchOf(t, shippedEngine(t), web.Caller{Scopes: []string{web.ScopeAsk}, AllPractices: true})
	for _, path := range []string{"/metrics", "/v1/config", "/v1/status", "/v1/policies"} {
		if r := asker.do(t, "GET", path, ""); r.status != 403 {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if r := b.do(t, "GET", "/v1/config", ""); !strings.Contains(r.body, `"default_decision":"/authz/decision"`) {
		t.Errorf("%s", r.body)
	}
	mute := benchOf(t, shippedEngine(t), web.Caller{Scopes: []string{web.ScopeAdminister}, AllPractices: true})
	for _, path := range []string{"/access/v1/evaluation", "/access/v1/evaluations", "/v1/data/authz/allow", "/v0/data/authz/allow", "/"} {
		if r := mute.do(t, "POST", path, allowed); r.status != 403 || len(mute.store.taken()) != 0 {
			t.Errorf("%s without the scope ask: %d", path, r.status)
		}
	}
}

// OPA knows no 503: what could not be decided is its 500, and says nothing of
// the inside.
func TestOPAStoreDown(t *testing.T) {
	b := shipped(t)
	b.store.down = func(authz.Request) error { return errDown }
	for _, path := range []string{"/v1/data/authz/allow", "/v0/data/authz/allow", "/"} {
		r := b.do(t, "POST", path, allowedInput)
		if r.status != 500 || r.object(t)["code"] != "internal_error" || strings.Contains(r.body, "10.0.0.1") || strings.Contains(r.body, "result") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if !strings.Contains(b.log.String(), "10.0.0.1") {
		t.Error("the log does not say why")
	}
}
