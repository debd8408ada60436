package sidecar

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const allowed = `{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"}}`

const (
	singlePath = "/access/v1/evaluation"
	batchPath  = "/access/v1/evaluations"
)

// post sends a body and checks the status of the answer.
func (b bench) post(t *testing.T, want int, path, body string, header ...string) reply {
	t.Helper()
	r := b.do(t, "POST", path, body, header...)
	if r.status != want {
		t.Errorf("%s %.300s: %d, want %d: %s", path, body, r.status, want, r.body)
	}
	return r
}

// The AuthZEN 1.0 checklist, item by item: 1 to 8 are the information model and
// the single evaluation (sections 5 and 6 of the final document), 9 to 16 the
// batch (7), 32 to 39 the HTTPS binding (10), 40 to 42 security (11). For the
// searches, 17 to 25, see TestAuthZENChecklistSearch; for 26 to 31 TestMetadata.
func TestAuthZENChecklistSingle(t *testing.T) {
	b := shipped(t)
	t.Run("1 to 3 entities need type and id, or name", func(t *testing.T) {
		for _, tc := range []struct{ cut, put, names string }{
			{`"type":"user",`, "", "subject.type"}, {`,"id":"practitioner-1"`, "", "subject.id"},
			{`"name":"chart.open"`, "", "action.name"}, {`"type":"client",`, "", "resource.type"}, {`,"id":"client-1"`, "", "resource.id"},
			{`"id":"client-1"`, `"ID":"client-1"`, "resource.id"}, {`"id":"client-1"`, `"id":null`, "resource.id"},
		} {
			r := b.post(t, 400, singlePath, strings.Replace(allowed, tc.cut, tc.put, 1))
			if strings.ReplaceAll(strings.Fields(r.body)[0], "/", ".") != tc.names {
				t.Errorf("without %s: %q does not name %s", tc.names, r.body, tc.names)
			}
		}
	})
	t.Run("4 context is free", func(t *testing.T) {
		for _, context := range []string{`{}`, `{"time":"1985-10-26T01:22-07:00","deep":{"list":[1,null]}}`, `null`} {
			if allow, _ := b.ask(t, allowed[:len(allowed)-1]+`,"context":`+context+`}`); !allow {
				t.Errorf("context %s changes the decision", context)
			}
		}
	})
	t.Run("5 and 6 a decision and its context", func(t *testing.T) {
		r := b.post(t, 200, singlePath, allowed)
		if !strings.HasPrefix(r.body, `{"decision":true,"context":{"code":"assigned","bases":["assigned"],"reason_admin":{"en":"`) {
			t.Errorf("%s", r.body)
		}
		r = b.post(t, 200, singlePath, questionText("nobody", "chart.open", "client-1"))
		if !strings.HasPrefix(r.body, `{"decision":false,"context":{"code":"no_basis","bases":[],"reason_admin":{"en":"`) {
			t.Errorf("%s", r.body)
		}
		for _, sentence := range []string{"reason_admin", "reason_user"} {
			if said, _ := r.object(t)["context"].(map[string]any)[sentence].(map[string]any)["en"].(string); said == "" {
				t.Errorf("%s is empty: %s", sentence, r.body)
			}
		}
	})
	t.Run("7, 8 the endpoint has v1 and takes the specification's example", func(t *testing.T) {
		r := b.post(t, 200, singlePath, `{"subject":{"type":"user","id":"alice"},"action":{"name":"can_read","properties":{"method":"GET"}},
			"resource":{"type":"account","id":"123"},"context":{"time":"1985-10-26T01:22-07:00"}}`)
		if allow, code := decisionOf(t, r.object(t)); allow || code != "unknown_action" {
			t.Errorf("%s", r.body)
		}
	})
}

func TestAuthZENChecklistBatch(t *testing.T) {
	b := shipped(t)
	t.Run("9, 12 a batch with every item complete", func(t *testing.T) {
		wantDecisions(t, b.post(t, 200, batchPath, `{"evaluations":[`+allowed+`,`+questionText("practitioner-1", "chart.open", "client-2")+`]}`), true, false)
	})
	t.Run("10 evaluations absent or empty is the single form", func(t *testing.T) {
		want := b.post(t, 200, singlePath, allowed).body
		for _, more := range []string{"", `,"evaluations":[]`, `,"evaluations":null`, `,"evaluations":[],"options":{"evaluations_semantic":"execute_all"}`} {
			if r := b.post(t, 200, batchPath, allowed[:len(allowed)-1]+more+`}`); r.body != want {
				t.Errorf("%s: %s, want %s", more, r.body, want)
			}
		}
		b.post(t, 400, batchPath, `{}`)
		b.post(t, 400, batchPath, `{"evaluations":[],"subject":{"type":"user","id":"a"}}`)
	})
	t.Run("11 an entity of an item replaces the default as a whole", func(t *testing.T) {
		r := b.post(t, 200, batchPath, `{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"},"evaluations":[
			{}, {"resource":{"type":"client","id":"client-2"}}, {"resource":{"type":"client"}}, {"resource":{"id":"client-1"}}, {"subject":null}, {"action":{"name":"client.list"}}]}`)
		wantDecisions(t, r, true, false, false, false, false, true)
	})
	t.Run("13 options.evaluations_semantic", func(t *testing.T) {
		with := func(options string) string { return `{"options":` + options + `,"evaluations":[` + allowed + `]}` }
		for _, options := range []string{`{}`, `null`, `{"another_option":"value"}`, `{"evaluations_semantic":"deny_on_first_deny","x":[1]}`} {
			wantDecisions(t, b.post(t, 200, batchPath, with(options)), true)
		}
		for _, options := range []string{`{"evaluations_semantic":"all"}`, `{"evaluations_semantic":""}`, `{"evaluations_semantic":1}`, `{"evaluations_semantic":null}`, `"execute_all"`, `[]`} {
			b.post(t, 400, batchPath, with(options))
		}
	})
	t.Run("14 the three semantics", func(t *testing.T) {
		y, n, e := allowed, questionText("practitioner-1", "chart.open", "client-2"), `{"subject":{"type":"user"}}`
		for _, tc := range []struct {
			semantic string
			items    []string
			want     []bool
		}{
			{"execute_all", []string{y, n, e, y}, []bool{true, false, false, true}},
			{"deny_on_first_deny", []string{y, n, y}, []bool{true, false}},
			{"deny_on_first_deny", []string{y, e, y}, []bool{true, false}},
			{"deny_on_first_deny", []string{y, y}, []bool{true, true}},
			{"permit_on_first_permit", []string{n, e, y, n, y}, []bool{false, false, true}},
			{"permit_on_first_permit", []string{n, e}, []bool{false, false}},
			{"permit_on_first_permit", []string{y, n}, []bool{true}},
		} {
			b.store.taken()
			r := b.post(t, 200, batchPath, `{"options":{"evaluations_semantic":"`+tc.semantic+`"},"evaluations":[`+strings.Join(tc.items, ",")+`]}`)
			wantDecisions(t, r, tc.want...)
			if recorded := b.store.taken(); len(recorded) != len(tc.want) {
				t.Errorf("%s: %d answers, %d on record", tc.semantic, len(tc.want), len(recorded))
			}
		}
	})
}

func TestAuthZENChecklistBatchAnswers(t *testing.T) {
	b := shipped(t)
	t.Run("15 the answer of a batch has no decision of its own", func(t *testing.T) {
		if _, there := b.post(t, 200, batchPath, `{"evaluations":[`+allowed+`]}`).object(t)["decision"]; there {
			t.Error("there is one")
		}
	})
	t.Run("16 an incomplete item is a false item", func(t *testing.T) {
		r := b.post(t, 200, batchPath, `{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"evaluations":[{"resource":{"type":"client","id":"client-1"}},{}]}`)
		wantDecisions(t, r, true, false)
		item := r.object(t)["evaluations"].([]any)[1].(map[string]any)
		if want := map[string]any{"error": map[string]any{"status": 400.0, "message": "resource is missing"}}; !reflect.DeepEqual(item["context"], want) {
			t.Errorf("context %v", item["context"])
		}
		wantDecisions(t, b.post(t, 200, batchPath, `{"action":{"name":"chart.open"},"evaluations":[{"resource":{"type":"client","id":"client-1"}}]}`), false)
		for _, item := range []string{`5`, `null`, `"x"`, `[]`, `{"subject":"practitioner-1"}`, `{"resource":{"type":"client","id":7}}`, `{"context":[]}`} {
			wantDecisions(t, b.post(t, 200, batchPath, `{"subject":{"type":"user","id":"practitioner-1"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"},"evaluations":[`+item+`,{}]}`), false, true)
		}
	})
}

func TestAuthZENChecklistBinding(t *testing.T) {
	b := shipped(t)
	t.Run("32 success is 200 with application/json", func(t *testing.T) {
		if kind := b.post(t, 200, singlePath, allowed).header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("Content-Type %q", kind)
		}
		b.post(t, 400, singlePath, `[`+allowed+`]`)
		b.post(t, 400, batchPath, `[`+allowed+`]`)
	})
	t.Run("33 a denial is 200", func(t *testing.T) {
		b.post(t, 200, singlePath, questionText("practitioner-1", "chart.open", "client-2"))
	})
	t.Run("34 missing attributes are 400 with a plain message", func(t *testing.T) {
		for _, entity := range []string{"subject", "action", "resource"} {
			r := b.post(t, 400, singlePath, strings.Replace(allowed, `"`+entity+`"`, `"x`+entity+`"`, 1))
			if r.body != entity+" is missing" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
				t.Errorf("%q %q", r.header.Get("Content-Type"), r.body)
			}
		}
	})
	t.Run("35 unknown members are ignored, at any level and in any order", func(t *testing.T) {
		want := b.post(t, 200, singlePath, allowed).body
		r := b.post(t, 200, singlePath, `{"foo":"bar","futureField":{"nested":true},"SUBJECT":{"type":"user","id":"nobody"},"resource":{"x":1,"id":"client-1","TYPE":"x","type":"client","properties":{"status":"active","member":{}}},
			"action":{"y":[],"properties":{"method":"GET"},"name":"chart.open"},"subject":{"properties":{"department":"Sales","roles":["administrator"]},"id":"practitioner-1","type":"user","Id":"nobody"}}`)
		if r.body != want {
			t.Errorf("%s, want %s", r.body, want)
		}
		wantDecisions(t, b.post(t, 200, batchPath, `{"page":{},"evaluations":[`+strings.Replace(allowed, `{"subject"`, `{"z":1,"subject"`, 1)+`]}`), true)
	})
	t.Run("36 what is no request is 400, or 405", func(t *testing.T) {
		for _, body := range []string{``, ` `, `{`, `nonsense`, `null`, `5`, allowed + `x`, allowed + allowed, `{"subject":"alice","action":{"name":"read"},"resource":{"type":"record","id":"record-1"}}`} {
			b.post(t, 400, singlePath, body)
			b.post(t, 400, batchPath, body)
		}
		for _, swap := range []string{`"name":123`, `"name":null`, `"name":{}`, `"name":"x","properties":"y"`, `"name":"x","properties":[]`} {
			b.post(t, 400, singlePath, strings.Replace(allowed, `"name":"chart.open"`, swap, 1))
		}
		for _, context := range []string{`"x"`, `[]`, `1`, `true`} {
			b.post(t, 400, singlePath, allowed[:len(allowed)-1]+`,"context":`+context+`}`)
		}
		for _, body := range []string{`{"evaluations":{}}`, `{"evaluations":"x"}`, `{"subject":"alice","evaluations":[` + allowed + `]}`, `{"context":5,"evaluations":[` + allowed + `]}`} {
			b.post(t, 400, batchPath, body)
		}
		for _, kind := range []string{"text/plain", "", "application/x-www-form-urlencoded", "application/jsonx", "text/html; x"} {
			b.post(t, 400, singlePath, allowed, "Content-Type", kind)
		}
		for _, kind := range []string{"application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"} {
			b.post(t, 200, singlePath, allowed, "Content-Type", kind)
		}
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			if r := b.do(t, method, singlePath, ""); r.status != 405 || r.header.Get("Allow") != "POST" {
				t.Errorf("%s: %d, Allow %q", method, r.status, r.header.Get("Allow"))
			}
		}
	})
}

func TestAuthZENChecklistHeadersAndBodies(t *testing.T) {
	b := shipped(t)
	t.Run("37 X-Request-ID", func(t *testing.T) {
		for _, tc := range []struct{ method, path, body string }{
			{"POST", singlePath, allowed}, {"POST", batchPath, allowed}, {"POST", singlePath, `{`}, {"GET", singlePath, ""}, {"POST", "/access/v1/nothing", ""},
			{"POST", singlePath, strings.Repeat(" ", 65<<10)}, {"GET", wellKnown, ""}, {"POST", "/v1/data/authz/allow", "{}"},
		} {
			if r := b.do(t, tc.method, tc.path, tc.body, "X-Request-ID", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"); r.header.Get("X-Request-ID") != "bfe9eb29-ab87-4ca3-be83-a1d5d8305716" {
				t.Errorf("%s %s: %d without it", tc.method, tc.path, r.status)
			}
		}
		if r := b.do(t, "POST", singlePath, allowed, "Authorization", "", "X-Request-ID", "r"); r.status != 401 || r.header.Get("X-Request-ID") != "r" {
			t.Errorf("401: %d %v", r.status, r.header)
		}
	})
	t.Run("39 identical requests have identical bodies", func(t *testing.T) {
		for _, path := range []string{singlePath, batchPath} {
			for _, body := range []string{allowed, questionText("nobody", "chart.open", "client-1")} {
				if path == batchPath {
					body = `{"evaluations":[` + body + `,{}]}`
				}
				want := b.post(t, 200, path, body)
				for range 3 {
					got := b.post(t, 200, path, body)
					if got.body != want.body {
						t.Errorf("%s\n%s", got.body, want.body)
					}
					if got.header.Get(HeaderDecisionID) == want.header.Get(HeaderDecisionID) {
						t.Error("two decisions have one id")
					}
				}
			}
		}
	})
	t.Run("40 an unknown caller is 401 with a challenge", func(t *testing.T) {
		for _, key := range []string{"", "Bearer wrong-key-wrong-key", "Basic eDp5"} {
			r := b.post(t, 401, singlePath, allowed, "Authorization", key)
			if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") || strings.Contains(r.body, "{") {
				t.Errorf("%v %s", r.header, r.body)
			}
		}
	})
	t.Run("41 I-JSON", func(t *testing.T) {
		for _, body := range []string{
			strings.Replace(allowed, `"id":"client-1"`, `"id":"client-2","id":"client-1"`, 1),
			strings.Replace(allowed, `{"subject"`, `{"subject":{"type":"user","id":"admin-1"},"subject"`, 1),
			strings.Replace(allowed, "client-1", "client-1\xff", 1),
			strings.Replace(allowed, "client-1", `client-1\ud800`, 1),
			strings.Replace(allowed, "client-1", `client-1\u0000`, 1),
			allowed[:len(allowed)-1] + `,"context":{"n":1e999}}`,
		} {
			b.post(t, 400, singlePath, body)
			b.post(t, 400, batchPath, `{"evaluations":[`+body+`]}`)
		}
	})
	t.Run("42 limits", func(t *testing.T) {
		b.post(t, 413, singlePath, allowed[:len(allowed)-1]+`,"context":{"x":"`+strings.Repeat("x", 64<<10)+`"}}`)
		b.post(t, 400, singlePath, allowed[:len(allowed)-1]+`,"context":{"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}}`)
		b.post(t, 400, batchPath, `{"evaluations":[{}`+strings.Repeat(",{}", maxEvaluations)+`]}`)
		if n := len(decisions(t, b.post(t, 200, batchPath, allowed[:len(allowed)-1]+`,"evaluations":[{}`+strings.Repeat(",{}", maxEvaluations-1)+`]}`))); n != maxEvaluations {
			t.Errorf("%d answers", n)
		}
	})
}

func TestMetadata(t *testing.T) {
	b := shipped(t)
	want := map[string]any{
		"policy_decision_point":       "https://pdp.example.com",
		"access_evaluation_endpoint":  "https://pdp.example.com/access/v1/evaluation",
		"access_evaluations_endpoint": "https://pdp.example.com/access/v1/evaluations",
	}
	for _, host := range []string{"pdp.example.com", "evil.example.net"} {
		r := b.do(t, "GET", "http://"+host+wellKnown, "", "Authorization", "", "X-Forwarded-Host", "evil.example.net")
		if r.status != 200 || r.header.Get("Content-Type") != "application/json" || !strings.Contains(r.header.Get("Cache-Control"), "max-age") {
			t.Errorf("%d %v", r.status, r.header)
		}
		if !reflect.DeepEqual(r.object(t), want) {
			t.Errorf("asked as %s: %s", host, r.body)
		}
	}
	// Every endpoint that is named is there, and every one that is there is named.
	for name, url := range want {
		if name == "policy_decision_point" {
			continue
		}
		if r := b.do(t, "POST", strings.TrimPrefix(fmt.Sprint(url), "https://pdp.example.com"), allowed); r.status != 200 {
			t.Errorf("%s: %d", name, r.status)
		}
	}
	for _, kind := range []string{"subject", "resource", "action"} {
		if r := b.do(t, "POST", "/access/v1/search/"+kind, allowed); r.status != 404 {
			t.Errorf("search/%s: %d, but the metadata do not name it", kind, r.status)
		}
	}
}

func TestMetadataOfAnAddressWithAPath(t *testing.T) {
	paths := metadataPaths("https://pdp.example.com/tenant1")
	if !reflect.DeepEqual(paths, []string{wellKnown, wellKnown + "/tenant1"}) {
		t.Errorf("%v", paths)
	}
}

func TestPublicURLsAreChecked(t *testing.T) {
	for raw, want := range map[string]string{
		"https://pdp.example.com": "https://pdp.example.com", "https://pdp.example.com/": "https://pdp.example.com", "http://127.0.0.1:8181": "http://127.0.0.1:8181",
		"https://x/tenant/": "https://x/tenant", "": "", "pdp.example.com": "", "ftp://x": "", "https://": "", "https://x?a=b": "", "https://x/?": "", "https://x#f": "", "https://u:p@x": "",
	} {
		if got, err := readPublicURL(raw); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
}

func TestHeadersOfAnAnswer(t *testing.T) {
	b := shipped(t)
	r := b.do(t, "POST", "/access/v1/evaluation", allowed, "X-Request-ID", "r-1")
	v := b.store.taken()[0]
	if r.header.Get(HeaderDecisionID) != v.ID.String() || r.header.Get(HeaderPolicyRevision) != b.pdp.Engine().Revision() || r.header.Get(HeaderRevision) != "facts-1" {
		t.Errorf("%v", r.header)
	}
	if v.RequestID != "r-1" || !v.Exact.Allow {
		t.Errorf("on record: %+v", v)
	}
	r = b.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+allowed+`,{},`+allowed+`]}`)
	var ids []string
	for _, v := range b.store.taken() {
		ids = append(ids, v.ID.String())
	}
	if len(ids) != 3 || r.header.Get(HeaderDecisionID) != strings.Join(ids, ", ") {
		t.Errorf("%v, on record %v", r.header, ids)
	}
}

func TestMinRevision(t *testing.T) {
	b := shipped(t)
	last := func() string { return b.store.asked[len(b.store.asked)-1].Context.MinRevision }
	with := func(context string) string { return allowed[:len(allowed)-1] + `,"context":` + context + `}` }
	b.ask(t, with(`{"min_revision":"body","purpose":"treatment","now":"2020-01-01T00:00:00Z","portal_profile":"client-1"}`))
	if c := b.store.asked[0].Context; c.MinRevision != "body" || c.Purpose != "treatment" || c.PortalProfile != "client-1" {
		t.Errorf("%+v", c)
	}
	if b.ask(t, with(`{"min_revision":"body"}`), HeaderMinRevision, "header"); last() != "header" {
		t.Errorf("the header does not win: %q", last())
	}
	if b.ask(t, with(`{"min_revision":5}`), HeaderMinRevision, "header"); last() != "header" {
		t.Errorf("%q", last())
	}
	for _, r := range []reply{
		b.do(t, "POST", "/access/v1/evaluation", with(`{"min_revision":5}`)),
		b.do(t, "POST", "/access/v1/evaluation", allowed, HeaderMinRevision, "bad"),
		b.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+allowed+`]}`, HeaderMinRevision, "bad"),
	} {
		if r.status != 400 || !strings.Contains(r.body, "min_revision") {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	r := b.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+with(`{"min_revision":"bad"}`)+`,`+allowed+`]}`)
	wantDecisions(t, r, false, true)
	if !strings.Contains(r.body, `"error":{"status":400,"message":"min_revision: it is no revision"}`) {
		t.Errorf("%s", r.body)
	}
}

// A question with a fault in a batch is never asked as if it had none.
func TestHalfAQuestionIsNeverAllowed(t *testing.T) {
	b := shipped(t)
	r := b.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+strings.Replace(allowed, `"id":"client-1"`, `"id":"client-1","properties":5`, 1)+`]}`)
	wantDecisions(t, r, false)
	recorded := b.store.taken()
	if len(recorded) != 1 || recorded[0].Exact.Allow || recorded[0].Request.Subject.ID != "" {
		text, _ := json.Marshal(recorded)
		t.Errorf("on record: %s", text)
	}
}
