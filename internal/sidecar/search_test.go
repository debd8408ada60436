package sidecar

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/pdp/policytest"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/search"
	"chartgate/internal/web"
)

// searching is a sidecar on a real Postgres that can be searched.
func searching(t *testing.T) real {
	t.Helper()
	e, err := policytest.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	return searchingWith(t, e)
}

func searchingWith(t *testing.T, e *pdp.Engine) real {
	t.Helper()
	r := onPostgres(t)
	deployment, err := feed.ReadDeployment(t.Context(), r.facts)
	if err != nil {
		t.Fatal(err)
	}
	static, err := web.NewStaticKey(testKey, web.Caller{ID: "static", Scopes: []string{web.ScopeAsk}, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	decider := pdp.New(e, r.source, r.spool)
	r.Server, err = New(Options{PDP: decider, Callers: &web.Authenticator{Static: static, Keys: r.keys}, PublicURL: "https://pdp.example.com",
		Search: &search.Service{Pool: r.facts, Deployment: deployment, PDP: decider, Facts: r.source, Recorder: r.spool}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ownSearching is a sidecar with a bundle of one's own that can be searched.
func ownSearching(t *testing.T, e *pdp.Engine) bench {
	t.Helper()
	deployment, err := feed.ReadDeployment(t.Context(), pgtest.Pool(t))
	if err != nil {
		t.Fatal(err)
	}
	static, err := web.NewStaticKey(testKey, web.Caller{ID: "static", Scopes: web.Scopes, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{store: &store{}}
	decider := pdp.New(e, b.store, b.store)
	b.Server, err = New(Options{PDP: decider, Callers: &web.Authenticator{Static: static}, PublicURL: "https://pdp.example.com",
		Search: &search.Service{Deployment: deployment, PDP: decider, Facts: b.store, Recorder: b.store}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// resultsOf returns the results of a page as texts, and the token of the next.
func resultsOf(t *testing.T, r reply) (results []string, next string) {
	t.Helper()
	var a struct {
		Page *struct {
			Next  *string `json:"next_token"`
			Count *int    `json:"count"`
		}
		Results []map[string]string
	}
	if err := json.Unmarshal([]byte(r.body), &a); err != nil || r.status != 200 || a.Page == nil || a.Page.Next == nil || a.Results == nil {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if a.Page.Count == nil || *a.Page.Count != len(a.Results) || !strings.HasPrefix(r.body, `{"page":`) || strings.Contains(r.body, `"total"`) {
		t.Errorf("page of %s", r.body)
	}
	results = []string{}
	for _, one := range a.Results {
		results = append(results, strings.TrimSpace(one["type"]+" "+one["id"]+one["name"]))
	}
	return results, *a.Page.Next
}

func (b bench) finds(t *testing.T, kind, body string, want ...string) {
	t.Helper()
	got, next := resultsOf(t, b.do(t, "POST", searchPath+kind, body))
	if !slices.Equal(got, append([]string{}, want...)) || next != "" {
		t.Errorf("%s %s: %q and next %q, want %q", kind, body, got, next, want)
	}
}

func searchText(subject, action, resource string) string {
	body := `{"subject":` + subject + `,"resource":` + resource
	if action != "" {
		body += `,"action":{"name":"` + action + `"}`
	}
	return body + `}`
}

const (
	practitioner1 = `{"type":"user","id":"practitioner-1"}`
	anyUser       = `{"type":"user"}`
	anyClient     = `{"type":"client"}`
	client1       = `{"type":"client","id":"client-1"}`
)

// AuthZEN 1.0's checklist, 17 to 25: the searches (section 8 of the final
// document).
func TestAuthZENChecklistSearch(t *testing.T) {
	b := searching(t)
	t.Run("17 what is searched for has a type, the rest an id", func(t *testing.T) {
		b.finds(t, "subject", searchText(anyUser, "chart.open", client1), "user admin-1", "user practitioner-1", "user practitioner-2")
		b.finds(t, "subject", searchText(practitioner1, "chart.open", client1), "user admin-1", "user practitioner-1", "user practitioner-2")
		b.finds(t, "subject", searchText(`{"type":"user","id":7}`, "chart.open", client1), "user admin-1", "user practitioner-1", "user practitioner-2")
		b.finds(t, "resource", searchText(`{"type":"user","id":"practitioner-2"}`, "chart.open", client1), "client client-1", "client client-2")
		b.finds(t, "action", strings.Replace(searchText(`{"type":"user","id":"scheduler-1"}`, "stray", client1), `"name":"stray"`, `"nonsense":1`, 1),
			"appointment.manage", "appointment.read", "client.list")
		for kind, bodies := range map[string][]string{
			"subject":  {searchText(`{}`, "chart.open", client1), searchText(anyUser, "", client1), searchText(anyUser, "chart.open", anyClient), `{}`, ``, `[]`, `{"subject":"x"}`},
			"resource": {searchText(anyUser, "chart.open", anyClient), searchText(practitioner1, "", anyClient), searchText(practitioner1, "chart.open", `{}`), `5`},
			"action":   {searchText(anyUser, "", client1), searchText(practitioner1, "", anyClient), `{"subject":` + practitioner1 + `}`},
		} {
			for _, body := range bodies {
				b.post(t, 400, searchPath+kind, body)
			}
		}
		for _, method := range []string{"GET", "PUT"} {
			if r := b.do(t, method, searchPath+"subject", searchText(anyUser, "chart.open", client1)); r.status != 405 {
				t.Errorf("%s: %d", method, r.status)
			}
		}
		b.post(t, 401, searchPath+"subject", searchText(anyUser, "chart.open", client1), "Authorization", "Bearer wrong")
	})
	t.Run("18 and 19 every result evaluates to true", func(t *testing.T) {
		for _, client := range []string{"client-1", "client-2", "client-4"} {
			results, _ := resultsOf(t, b.do(t, "POST", searchPath+"subject", searchText(anyUser, "note.read", `{"type":"note","id":"note-1","properties":{"client":"`+client+`","kind":"progress","author":"x","signed":true}}`)))
			for _, user := range []string{"admin-1", "practitioner-1", "practitioner-2", "scheduler-1", "user-both", "admin-2"} {
				allow, _ := b.ask(t, `{"subject":{"type":"user","id":"`+user+`"},"action":{"name":"note.read"},"resource":{"type":"note","id":"note-1","properties":{"client":"`+client+`","kind":"progress","author":"x","signed":true}}}`)
				if allow != slices.Contains(results, "user "+user) {
					t.Errorf("%s on %s: %v, results %q", user, client, allow, results)
				}
			}
		}
	})
	t.Run("20 what is unknown has no results", func(t *testing.T) {
		b.finds(t, "subject", searchText(anyUser, "chart.open", `{"type":"client","id":"client-9"}`))
		b.finds(t, "subject", searchText(`{"type":"robot"}`, "chart.open", client1))
		b.finds(t, "subject", searchText(anyUser, "chart.open", `{"type":"account","id":"1"}`))
		b.finds(t, "subject", searchText(anyUser, "no.such", client1))
		b.finds(t, "resource", searchText(`{"type":"user","id":"nobody"}`, "chart.open", anyClient))
		b.finds(t, "resource", searchText(practitioner1, "chart.open", `{"type":"account"}`))
		b.finds(t, "action", searchText(`{"type":"robot","id":"1"}`, "", client1))
		b.finds(t, "action", searchText(practitioner1, "", `{"type":"account","id":"1"}`))
		// Why, where the question itself is at fault: that tells nobody's secret.
		r := b.post(t, 200, searchPath+"subject", searchText(anyUser, "no.such", client1))
		if context, _ := r.object(t)["context"].(map[string]any); context["code"] != "unknown_action" {
			t.Errorf("%s", r.body)
		}
	})
	t.Run("a type of things that are kept elsewhere is an error, not an empty answer", func(t *testing.T) {
		if r := b.post(t, 501, searchPath+"resource", searchText(practitioner1, "note.read", `{"type":"note"}`)); !strings.Contains(r.body, "note") {
			t.Errorf("%s", r.body)
		}
	})
}

func TestAuthZENChecklistSearchPages(t *testing.T) {
	b := searching(t)
	whole := searchText(anyUser, "chart.open", client1)
	with := func(page string) string { return strings.TrimSuffix(whole, "}") + `,"page":` + page + `}` }
	t.Run("21 and 22 pages", func(t *testing.T) {
		for _, page := range []string{`{}`, `null`, `{"limit":3}`, `{"limit":1000000}`, `{"token":""}`, `{"properties":{"a":1},"other":[]}`} {
			b.finds(t, "subject", with(page), "user admin-1", "user practitioner-1", "user practitioner-2")
		}
		first, next := resultsOf(t, b.do(t, "POST", searchPath+"subject", with(`{"limit":2}`)))
		if len(first) != 2 || next == "" {
			t.Fatalf("%q, %q", first, next)
		}
		// 23: with the same limit, or none: both go on.
		for _, page := range []string{`{"limit":2,"token":"` + next + `"}`, `{"token":"` + next + `"}`} {
			b.finds(t, "subject", with(page), "user practitioner-2")
		}
		b.post(t, 400, searchPath+"subject", with(`{"limit":3,"token":"`+next+`"}`))
		none, next := resultsOf(t, b.do(t, "POST", searchPath+"subject", with(`{"limit":0}`)))
		if len(none) != 0 || next == "" {
			t.Errorf("a page of none: %q, %q", none, next)
		}
	})
	t.Run("pages that cannot be read", func(t *testing.T) {
		for _, page := range []string{`[]`, `"x"`, `{"limit":-1}`, `{"limit":"2"}`, `{"limit":1.5}`, `{"limit":1e99}`, `{"token":7}`, `{"properties":[]}`, `{"token":"x"}`} {
			b.post(t, 400, searchPath+"subject", with(page))
		}
	})
	t.Run("39 the same search, the same bytes", func(t *testing.T) {
		want := b.post(t, 200, searchPath+"subject", with(`{"limit":1}`)).body
		for range 3 {
			if got := b.post(t, 200, searchPath+"subject", with(`{"limit":1}`)).body; got != want {
				t.Errorf("%s\n%s", got, want)
			}
		}
	})
}

// A token is good for its own search and its own caller.
func TestTokensOfSearchesAreBound(t *testing.T) {
	b := searching(t)
	paged := func(body, token string) string {
		return strings.TrimSuffix(body, "}") + `,"page":{"token":"` + token + `"}}`
	}
	subject := searchText(anyUser, "chart.open", client1)
	_, next := resultsOf(t, b.do(t, "POST", searchPath+"subject", strings.TrimSuffix(subject, "}")+`,"page":{"limit":1}}`))
	b.post(t, 200, searchPath+"subject", paged(subject, next))
	for _, c := range [][2]string{
		{"subject", searchText(anyUser, "demographics.read", client1)}, {"subject", searchText(anyUser, "chart.open", `{"type":"client","id":"client-2"}`)},
		{"subject", searchText(anyUser, "chart.open", `{"type":"client","id":"client-1","properties":{"practice":"practice-1"}}`)},
		{"subject", searchText(`{"type":"portal_user"}`, "chart.open", client1)}, {"subject", strings.TrimSuffix(subject, "}") + `,"context":{"purpose":"treatment"}}`},
		{"resource", searchText(practitioner1, "chart.open", anyClient)}, {"action", searchText(practitioner1, "", client1)},
	} {
		if r := b.post(t, 400, searchPath+c[0], paged(c[1], next)); !strings.Contains(r.body, "cursor") {
			t.Errorf("%s", r.body)
		}
	}
	for i := 0; i < len(next); i += 5 {
		altered := next[:i] + map[bool]string{true: "B", false: "A"}[next[i] == 'A'] + next[i+1:]
		b.post(t, 400, searchPath+"subject", paged(subject, altered))
	}
	for _, caller := range []web.NewKey{{Scopes: []string{web.ScopeAsk}, AllPractices: true}, {Scopes: []string{web.ScopeAsk}, Practices: []string{"practice-1"}}} {
		_, key, err := b.keys.Make(t.Context(), caller)
		if err != nil {
			t.Fatal(err)
		}
		b.post(t, 400, searchPath+"subject", paged(subject, next), "Authorization", "Bearer "+key)
	}
}

// Searches go through all practices of the caller's scope, and show nothing of
// others (promises P5, P8).
func TestSearchesAcrossPractices(t *testing.T) {
	b := searching(t)
	if _, err := b.owner.Exec(t.Context(), `INSERT INTO clients (id, practice, assigned, first_name, last_name)
		SELECT p || '-client-' || n, p, 'user-both', 'Client', 'More' FROM generate_series(1, 5) n, unnest('{practice-1,practice-2}'::text[]) p`); err != nil {
		t.Fatal(err)
	}
	both := searchText(`{"type":"user","id":"user-both"}`, "client.list", anyClient)
	var want []string
	for _, practice := range []string{"practice-1", "practice-2"} {
		if practice == "practice-2" {
			want = append(want, "client client-4")
		}
		for n := range 5 {
			want = append(want, fmt.Sprintf("client %s-client-%d", practice, n+1))
		}
	}
	b.finds(t, "resource", both, want...)
	for _, limit := range []int{1, 2, 5, 6, 7} {
		var got []string
		for page := fmt.Sprintf(`{"limit":%d}`, limit); page != ""; {
			results, next := resultsOf(t, b.do(t, "POST", searchPath+"resource", strings.TrimSuffix(both, "}")+`,"page":`+page+`}`))
			got = append(got, results...)
			if page = ""; next != "" {
				page = `{"token":"` + next + `"}`
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %q", limit, got)
		}
	}
	named := strings.Replace(both, anyClient, `{"type":"client","properties":{"practice":"practice-2"}}`, 1)
	b.finds(t, "resource", named, want[5:]...)
	_, key, err := b.keys.Make(t.Context(), web.NewKey{Scopes: []string{web.ScopeAsk}, Practices: []string{"practice-1"}})
	if err != nil {
		t.Fatal(err)
	}
	as := func(kind, body string) reply {
		return b.do(t, "POST", searchPath+kind, body, "Authorization", "Bearer "+key)
	}
	if got, _ := resultsOf(t, as("resource", both)); !slices.Equal(got, want[:5]) {
		t.Errorf("bound to practice-1: %q", got)
	}
	// What the caller may not know of looks like what does not exist.
	for kind, pair := range map[string][2]string{
		"subject":  {searchText(anyUser, "chart.open", `{"type":"client","id":"client-4"}`), searchText(anyUser, "chart.open", `{"type":"client","id":"client-9"}`)},
		"action":   {searchText(`{"type":"user","id":"user-both"}`, "", `{"type":"client","id":"client-4"}`), searchText(`{"type":"user","id":"user-both"}`, "", `{"type":"client","id":"client-9"}`)},
		"resource": {searchText(`{"type":"user","id":"admin-2"}`, "chart.open", anyClient), searchText(`{"type":"user","id":"nobody"}`, "chart.open", anyClient)},
	} {
		if there, none := shapeOf(as(kind, pair[0])), shapeOf(as(kind, pair[1])); there != none {
			t.Errorf("%s can tell:\n%s\n%s", kind, there, none)
		}
	}
	if there, none := shapeOf(as("resource", named)), shapeOf(as("resource", strings.Replace(named, "practice-2", "practice-9", 1))); there != none {
		t.Errorf("resource can tell a practice:\n%s\n%s", there, none)
	}
}

// Each page is on record before it leaves, one entry for each practice.
func TestSearchesAreOnRecord(t *testing.T) {
	b := searching(t)
	for kind, c := range map[string]struct{ body, where string }{
		"subject":  {searchText(anyUser, "chart.open", client1), `client = 'client-1' AND practice = 'practice-1' AND subject_id = '' AND action = 'chart.open'`},
		"resource": {searchText(`{"type":"user","id":"user-both"}`, "chart.open", anyClient), `client IS NULL AND subject_id = 'user-both' AND resource_type = 'client' AND action = 'chart.open' AND practice IN ('practice-1', 'practice-2')`},
		"action":   {searchText(practitioner1, "", client1), `client = 'client-1' AND subject_id = 'practitioner-1' AND action = ''`},
	} {
		before := b.count(t, "true")
		r := b.post(t, 200, searchPath+kind, c.body)
		ids := strings.Split(r.header.Get(HeaderDecisionID), ", ")
		if got := b.count(t, "true") - before; got != len(ids) || got != map[bool]int{true: 2, false: 1}[kind == "resource"] {
			t.Errorf("%s: %d entries, the header names %d", kind, got, len(ids))
		}
		if got := b.count(t, `code = 'listed' AND NOT allow AND id::text IN ('`+strings.Join(ids, "','")+`') AND `+c.where); got != len(ids) {
			t.Errorf("%s: %d of %d entries say what was asked", kind, got, len(ids))
		}
		if r.header.Get(HeaderPolicyRevision) == "" || r.header.Get(HeaderRevision) == "" {
			t.Errorf("%s: %v", kind, r.header)
		}
	}
	token := b.post(t, 200, searchPath+"subject", searchText(anyUser, "chart.open", client1)).header.Get(HeaderRevision)
	b.post(t, 200, searchPath+"subject", searchText(anyUser, "chart.open", client1), HeaderMinRevision, token)
	b.post(t, 400, searchPath+"subject", searchText(anyUser, "chart.open", client1), HeaderMinRevision, "bad")
	b.spool.Close()
	for kind, body := range map[string]string{"subject": searchText(anyUser, "chart.open", client1), "action": searchText(practitioner1, "", client1)} {
		b.post(t, 503, searchPath+kind, body)
	}
}

func TestSearchesWithoutAPart(t *testing.T) {
	r := searchingWith(t, shippedEngine(t)) // not compiled
	for kind, body := range map[string]string{"subject": searchText(anyUser, "chart.open", client1), "resource": searchText(practitioner1, "chart.open", anyClient)} {
		if a := r.post(t, 503, searchPath+kind, body); !strings.Contains(a.body, "compiled") {
			t.Errorf("%s", a.body)
		}
	}
	r.finds(t, "action", searchText(`{"type":"user","id":"scheduler-1"}`, "", client1), "appointment.manage", "appointment.read", "client.list")
	r.facts.Close()
	for kind, body := range map[string]string{"subject": searchText(anyUser, "chart.open", client1), "resource": searchText(practitioner1, "chart.open", anyClient), "action": searchText(practitioner1, "", client1)} {
		r.post(t, 503, searchPath+kind, body)
	}
}

// The metadata name the searches where there are any, and nowhere else.
func TestMetadataNameTheSearches(t *testing.T) {
	b := searching(t)
	m := b.do(t, "GET", wellKnown, "").object(t)
	for _, kind := range []string{"subject", "resource", "action"} {
		if m["search_"+kind+"_endpoint"] != "https://pdp.example.com"+searchPath+kind {
			t.Errorf("%v", m)
		}
	}
}
