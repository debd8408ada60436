package sidecar

import (
	"fmt"
	"strings"
	"testing"

	"chartgate/internal/web"
)

const ownDecision = "data.authzen.allow"

// recordQuestion is a question of the certification scenario; properties are JSON.
func recordQuestion(subject, action, resource string, properties ...string) string {
	part := func(name string) string {
		for i := 0; i < len(properties); i += 2 {
			if properties[i] == name {
				return `,"properties":` + properties[i+1]
			}
		}
		return ""
	}
	return fmt.Sprintf(`{"subject":{"type":"user","id":%q%s},"action":{"name":%q%s},"resource":{"type":"record","id":%q%s}}`,
		subject, part("subject"), action, part("action"), resource, part("resource"))
}

// The decisions that the certification scenario of AuthZEN 1.0 validates, and
// its structural tests, on a bundle of one's own.
func TestAuthZENCertificationScenario(t *testing.T) {
	b := own(t, ownDecision)
	archived, soft, hard, admin := `{"status":"archived"}`, `{"soft":true}`, `{"soft":false}`, `{"role":"admin"}`
	for _, tc := range []struct {
		rule, body string
		want       bool
	}{
		{"1 alice reads", recordQuestion("alice", "read", "record-1"), true},
		{"2 alice writes", recordQuestion("alice", "write", "record-1"), true},
		{"3 bob reads", recordQuestion("bob", "read", "record-1"), true},
		{"4 bob writes", recordQuestion("bob", "write", "record-1"), false},
		{"5 alice writes what is archived", recordQuestion("alice", "write", "record-2", "resource", archived), false},
		{"6 an administrator writes what is archived", recordQuestion("bob", "write", "record-2", "subject", admin, "resource", archived), true},
		{"7 alice deletes softly", recordQuestion("alice", "delete", "record-1", "action", soft), true},
		{"8 alice deletes for good", recordQuestion("alice", "delete", "record-1", "action", hard), false},
		{"alice reads the other record", recordQuestion("alice", "read", "record-2"), true},
		{"additional properties", recordQuestion("alice", "read", "record-1", "subject", `{"department":"Sales","role":"manager"}`, "action", `{"method":"GET"}`, "resource", `{"status":"active","owner":"bob"}`), true},
		{"a context", strings.TrimSuffix(recordQuestion("alice", "read", "record-1"), "}") + `,"context":{"time":"2025-06-27T18:03-07:00","ip":"192.168.1.1"}}`, true},
		{"unknown fields", strings.TrimSuffix(recordQuestion("alice", "read", "record-1"), "}") + `,"foo":"bar","futureField":{"nested":true}}`, true},
		{"an unknown subject", recordQuestion("eve", "read", "record-1"), false},
		{"an unknown resource", recordQuestion("alice", "read", "record-9"), false},
	} {
		for range 3 { // the same request, the same whole body
			r := b.do(t, "POST", "/access/v1/evaluation", tc.body)
			if want := fmt.Sprintf(`{"decision":%v}`, tc.want); r.status != 200 || r.body != want {
				t.Errorf("%s: %d %s, want %s", tc.rule, r.status, r.body, want)
			}
		}
	}
	batch := func(body string) reply { return b.do(t, "POST", "/access/v1/evaluations", body) }
	wantDecisions(t, batch(`{"subject":{"type":"user","id":"bob"},"resource":{"type":"record","id":"record-1"},"evaluations":[{"action":{"name":"read"}},{"action":{"name":"write"}}]}`), true, false)
	wantDecisions(t, batch(`{"evaluations":[`+recordQuestion("alice", "read", "record-1")+`,`+recordQuestion("bob", "write", "record-1")+`]}`), true, false)
	wantDecisions(t, batch(`{"subject":{"type":"user","id":"alice"},"action":{"name":"write"},"evaluations":[
		{"resource":{"type":"record","id":"record-1","properties":{"status":"active"}}},{"resource":{"type":"record","id":"record-2","properties":{"status":"archived"}}}]}`), true, false)
	wantDecisions(t, batch(`{"action":{"name":"write"},"resource":{"type":"record","id":"record-2","properties":{"status":"archived"}},"evaluations":[
		{"subject":{"type":"user","id":"alice"}},{"subject":{"type":"user","id":"bob","properties":{"role":"admin"}}}]}`), false, true)
	wantDecisions(t, batch(`{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"evaluations":[{"resource":{"type":"record","id":"record-1"}},{}]}`), true, false)
	wantDecisions(t, batch(`{"subject":{"type":"user","id":"alice"},"action":{"name":"write"},"resource":{"type":"record","id":"record-2","properties":{"status":"archived"}},"evaluations":[
		{},{"resource":{"type":"record","id":"record-1"}},{"resource":{"id":"record-1"}}]}`), false, true, false)
	for _, more := range []string{"", `,"evaluations":[]`} {
		if r := batch(strings.TrimSuffix(recordQuestion("alice", "read", "record-1"), "}") + more + `}`); r.body != `{"decision":true}` {
			t.Errorf("%s", r.body)
		}
	}
}

// A bundle of one's own gets the request unchanged, and only what is a decision
// allows (DESIGN 11, OPA paths).
func TestOwnBundleDecidesOnTheRequestAlone(t *testing.T) {
	for decision, want := range map[string]string{
		"explained":          `{"decision":true,"context":{"reason_admin":{"en":"By the fixture."}}}`,
		"undefined_decision": `{"decision":false}`,
		"text_decision":      `{"decision":false}`,
		"number_decision":    `{"decision":false}`,
		"list_decision":      `{"decision":false}`,
		"object_decision":    `{"decision":false}`,
		"worded_decision":    `{"decision":false}`,
		"spoilt_decision":    `{"decision":false}`,
		"echo":               `{"decision":false}`,
	} {
		b := own(t, "data.authzen."+decision)
		if r := b.do(t, "POST", "/access/v1/evaluation", recordQuestion("alice", "read", "record-1")); r.status != 200 || r.body != want {
			t.Errorf("%s: %d %s", decision, r.status, r.body)
		}
		recorded := b.store.taken()
		if len(recorded) != 1 || len(recorded[0].Input) == 0 || recorded[0].Exact.Allow != strings.Contains(want, "true") {
			t.Errorf("%s: on record %+v", decision, recorded)
		}
		if len(b.store.asked) != 0 {
			t.Errorf("%s: facts were asked for", decision)
		}
	}
	conflict := own(t, "data.authzen.conflict")
	for _, path := range []string{"/access/v1/evaluation", "/access/v1/evaluations"} {
		if r := conflict.do(t, "POST", path, recordQuestion("alice", "read", "record-1")); r.status != 503 || strings.Contains(r.body, "conflict") {
			t.Errorf("a policy that fails: %d %s", r.status, r.body)
		}
	}
}

func TestOwnBundleGetsTheWholeRequest(t *testing.T) {
	b := own(t, ownDecision)
	body := `{"input":` + strings.TrimSuffix(recordQuestion("alice", "read", "record-1", "resource", `{"a":1.50,"list":[null]}`), "}") + `,"extra":{"b":[1e2]},"context":{"now":"x"}}}`
	r := b.do(t, "POST", "/v1/data/authzen/echo", body)
	for _, part := range []string{`"a":1.50`, `"list":[null]`, `"extra":{"b":[1e2]}`, `"now":"x"`} {
		if !strings.Contains(r.body, part) {
			t.Errorf("%s does not hold %s", r.body, part)
		}
	}
}

// Nobody but the bundle knows which practice its input is about.
func TestOwnBundleNeedsACallerForAllPractices(t *testing.T) {
	b := benchOf(t, ownEngine(t, ownDecision), web.Caller{Scopes: web.Scopes, Practices: []string{"practice-1"}})
	for _, path := range []string{"/access/v1/evaluation", "/access/v1/evaluations", "/v1/data/authzen/allow", "/v0/data/authzen/allow", "/"} {
		if r := b.do(t, "POST", path, recordQuestion("alice", "read", "record-1")); r.status != 403 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if recorded := b.store.taken(); len(recorded) != 0 {
		t.Errorf("decided: %+v", recorded)
	}
}
