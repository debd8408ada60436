package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"
	"chartgate/internal/web"

	"github.com/jackc/pgx/v5/pgxpool"
)

// practices are two practices with a member of both.
const practices = `
INSERT INTO practices (id) VALUES ('practice-1'), ('practice-2');
INSERT INTO users (id) VALUES ('admin-1'), ('practitioner-1'), ('practitioner-2'), ('scheduler-1'), ('admin-2'), ('user-both');
INSERT INTO members (practice, user_id, name, roles, status) VALUES
  ('practice-1', 'admin-1', 'Admin One', '{administrator}', 'active'),
  ('practice-1', 'practitioner-1', 'Practitioner One', '{practitioner}', 'active'),
  ('practice-1', 'practitioner-2', 'Practitioner Two', '{practitioner}', 'active'),
  ('practice-1', 'scheduler-1', 'Scheduler One', '{scheduler}', 'active'),
  ('practice-1', 'user-both', 'Member of Both', '{practitioner}', 'active'),
  ('practice-2', 'user-both', 'Member of Both', '{administrator,practitioner}', 'active'),
  ('practice-2', 'admin-2', 'Admin Two', '{administrator}', 'active');
INSERT INTO clients (id, practice, assigned, first_name, last_name) VALUES
  ('client-1', 'practice-1', 'practitioner-1', 'Client', 'One'), ('client-2', 'practice-1', 'practitioner-2', 'Client', 'Two'),
  ('client-4', 'practice-2', 'user-both', 'Client', 'Four');
INSERT INTO grants (practice, client, user_id, not_before, granted_by) VALUES ('practice-1', 'client-1', 'practitioner-2', '2020-01-01Z', 'admin-1');`

// real is a sidecar on a real Postgres.
type real struct {
	bench
	owner *pgxpool.Pool
	facts *pgxpool.Pool // closing it is an outage of the facts
	rows  *pgxpool.Pool // closing it is an outage of the record
	keys  *web.KeyStore

	source *facts.Source
}

func onPostgres(t *testing.T) real {
	t.Helper()
	url := pgtest.URL(t)
	r := real{owner: pgtest.PoolAs(t, url, ""), facts: pgtest.PoolAs(t, url, postgres.RoleSidecar), rows: pgtest.PoolAs(t, url, postgres.RoleSidecar)}
	if _, err := r.owner.Exec(t.Context(), practices); err != nil {
		t.Fatal(err)
	}
	deployment, err := feed.ReadDeployment(t.Context(), r.facts)
	if err != nil {
		t.Fatal(err)
	}
	source, err := facts.NewSource(r.facts, r.facts, deployment, facts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.source = source
	recorder := record.NewRecorder(r.rows)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- recorder.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	static, err := web.NewStaticKey(testKey, web.Caller{Scopes: []string{web.ScopeAsk}, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	r.keys = web.NewKeyStore(r.owner)
	r.log = &bytes.Buffer{}
	r.Server, err = New(Options{
		PDP: pdp.New(shippedEngine(t), source, recorder), Callers: &web.Authenticator{Static: static, Keys: r.keys},
		Checks: []web.Check{{Name: "postgres", Hint: "Postgres cannot be reached", Probe: func(ctx context.Context) error { return postgres.CheckSchema(ctx, r.facts) }}},
		Log:    slog.New(slog.NewTextHandler(r.log, nil)), PublicURL: "https://pdp.example.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r real) count(t *testing.T, where string) int {
	t.Helper()
	var n int
	if err := r.owner.QueryRow(t.Context(), `SELECT count(*) FROM decisions WHERE `+where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// asCode asks with a key and returns "allow <basis>" or "deny <code>".
func (r real) asCode(t *testing.T, question string, header ...string) string {
	t.Helper()
	allow, code := r.ask(t, question, header...)
	if allow {
		return "allow " + code
	}
	return "deny " + code
}

// DOMAIN rule 109: a token scoped to one practice cannot ask about another,
// whatever the body names.
func TestRule109AKeyForOnePracticeCannotAskAboutAnother(t *testing.T) {
	r := onPostgres(t)
	_, key, err := r.keys.Make(t.Context(), web.NewKey{Scopes: []string{web.ScopeAsk}, Practices: []string{"practice-1"}})
	if err != nil {
		t.Fatal(err)
	}
	bound := []string{"Authorization", "Bearer " + key}
	on := func(kind, id, properties string) string {
		return `{"subject":{"type":"user","id":"user-both"},"action":{"name":"` + map[string]string{"client": "chart.open", "practice": "member.list", "note": "note.read", "member": "member.out_of_office"}[kind] +
			`"},"resource":{"type":"` + kind + `","id":"` + id + `"` + properties + `}}`
	}
	for _, question := range []string{
		on("client", "client-4", ""), on("practice", "practice-2", ""), on("member", "admin-2", `,"properties":{"practice":"practice-2"}`),
		on("note", "note-1", `,"properties":{"client":"client-4","author":"user-both","kind":"progress","signed":false}`),
	} {
		if got := r.asCode(t, question); !strings.HasPrefix(got, "allow ") {
			t.Errorf("a caller for all practices, %s: %s", question, got)
		}
		if got := r.asCode(t, question, bound...); strings.HasPrefix(got, "allow ") {
			t.Errorf("a caller for practice-1, %s: %s", question, got)
		}
		wantDecisions(t, r.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+question+`,`+questionText("practitioner-1", "chart.open", "client-1")+`]}`, bound...), false, true)
		if result := r.do(t, "POST", "/v1/data/authz/allow", `{"input":`+question+`}`, bound...).object(t)["result"]; result != false {
			t.Errorf("OPA, %s: %v", question, result)
		}
	}
	// Another practice's client and one that does not exist: the same bytes.
	foreign := r.do(t, "POST", "/access/v1/evaluation", on("client", "client-4", ""), bound...)
	if nothing := r.do(t, "POST", "/access/v1/evaluation", on("client", "client-9", ""), bound...); nothing.body != foreign.body {
		t.Errorf("%s\n%s", nothing.body, foreign.body)
	}
	if got := r.asCode(t, questionText("practitioner-1", "chart.open", "client-1"), bound...); got != "allow assigned" {
		t.Errorf("its own practice: %s", got)
	}
}

// hidden matches the ids of decisions, which differ between any two answers, as
// do the time and the token of the facts, which tell what ran beside them.
var hidden = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

func shapeOf(r reply) string {
	header := r.header.Clone()
	header.Del("Date")
	if header.Get(HeaderRevision) != "" {
		header.Set(HeaderRevision, "token")
	}
	return hidden.ReplaceAllString(fmt.Sprint(r.status, header, r.body), "<id>")
}

// DOMAIN rule 114, promise P8: for who may not list a client, a client that
// exists and one that does not have the same code, body and shape.
func TestRule114ADeniedClientAndNoClientLookTheSame(t *testing.T) {
	r := onPostgres(t)
	for _, subject := range []string{"user-both", "practitioner-1", "admin-2", "nobody"} {
		for _, action := range []string{"client.list", "chart.open", "demographics.write", "client.archive", "note.read", "note.write"} {
			ask := func(client string) string {
				if strings.HasPrefix(action, "note.") {
					return `{"subject":{"type":"user","id":"` + subject + `"},"action":{"name":"` + action + `"},"resource":{"type":"note","id":"note-1","properties":{"client":"` +
						client + `","author":"practitioner-2","kind":"psychotherapy","signed":true,"practice":"practice-1"}}}`
				}
				return questionText(subject, action, client)
			}
			for _, path := range []string{"/access/v1/evaluation", "/access/v1/evaluations", "/v1/data/authz/decision", "/v0/data/authz/decision", "/"} {
				body := func(client string) string {
					switch path {
					case "/access/v1/evaluations":
						return `{"evaluations":[` + ask(client) + `,` + ask("client-9") + `]}`
					case "/v1/data/authz/decision":
						return `{"input":` + ask(client) + `}`
					}
					return ask(client)
				}
				there, nothing := r.do(t, "POST", path, body("client-2")), r.do(t, "POST", path, body("client-8"))
				if there.status != 200 || shapeOf(there) != shapeOf(nothing) {
					t.Errorf("%s %s by %s:\n%s\n%s", path, action, subject, shapeOf(there), shapeOf(nothing))
				}
			}
		}
	}
	if n := r.count(t, `code = 'other_practice'`); n == 0 {
		t.Error("the record does not hold the exact code")
	}
}

// DOMAIN rule 118: unknown words and missing fields are denied, and roles that
// the caller sends are ignored.
func TestRule118UnknownWordsAndSentRoles(t *testing.T) {
	r := onPostgres(t)
	for question, want := range map[string]string{
		questionText("admin-1", "chart.steal", "client-1"):                                 "deny unknown_action",
		questionText("admin-1", "Chart.Open", "client-1"):                                  "deny unknown_action",
		questionText("admin-1", "", "client-1"):                                            "deny unknown_action",
		questionText("admin-1", "break_glass.open", "client-1"):                            "deny unknown_action",
		questionText("", "chart.open", "client-1"):                                         "deny bad_input",
		questionText("admin-1", "chart.open", ""):                                          "deny bad_input",
		strings.Replace(questionText("admin-1", "chart.open", "client-1"), "user", "x", 1): "deny bad_input",
		`{"subject":{"type":"user","id":"admin-1"},"action":{"name":"note.read"},"resource":{"type":"note","id":"n","properties":{"client":"client-1"}}}`:                                                                        "deny bad_input",
		`{"subject":{"type":"user","id":"scheduler-1","properties":{"roles":["administrator"]}},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"},"roles":["administrator"]}`:                          "deny no_basis",
		`{"subject":{"type":"user","id":"scheduler-1","roles":["administrator"]},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1","properties":{"assigned":"scheduler-1"}},"context":{"roles":["x"]}}`: "deny no_basis",
		`{"subject":{"type":"user","id":"stranger"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"},"member":{"roles":["administrator"]}}`:                                                           "deny no_basis",
		questionText("admin-1", "chart.open", "client-1"): "allow administrator",
	} {
		if got := r.asCode(t, question); got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
}

// DOMAIN rule 119: a store that is down is a 503 (OPA's 500), never an answer,
// and the outage is logged.
func TestRule119AStoreThatIsDownIsNoAnswer(t *testing.T) {
	for part, stop := range map[string]func(real){
		"facts":  func(r real) { r.facts.Close() },
		"record": func(r real) { r.rows.Close() },
	} {
		t.Run(part, func(t *testing.T) {
			r := onPostgres(t)
			question := questionText("practitioner-1", "chart.open", "client-1")
			if got := r.asCode(t, question); got != "allow assigned" {
				t.Fatal(got)
			}
			stop(r)
			for path, body := range map[string]string{
				"/access/v1/evaluation": question, "/access/v1/evaluations": `{"evaluations":[` + question + `,` + question + `]}`,
				"/v1/data/authz/allow": `{"input":` + question + `}`, "/v1/data/authz/decision": `{}`, "/v0/data/authz/allow": question, "/": question,
			} {
				want := http.StatusServiceUnavailable
				if isOPA(path) {
					want = http.StatusInternalServerError
				}
				answer := r.do(t, "POST", path, body, "X-Request-ID", "r-1")
				for _, word := range []string{"decision", "true", "result", "pool", "closed"} {
					if strings.Contains(answer.body, word) {
						t.Errorf("%s says %q: %s", path, word, answer.body)
					}
				}
				if answer.status != want || answer.header.Get("X-Request-ID") != "r-1" {
					t.Errorf("%s: %d, want %d: %s", path, answer.status, want, answer.body)
				}
			}
			if !strings.Contains(r.log.String(), "closed pool") {
				t.Errorf("the log does not tell of the outage: %s", r.log)
			}
			if ready := r.do(t, "GET", "/readyz", "").status; (ready == 503) != (part == "facts") {
				t.Errorf("readyz: %d", ready)
			}
			if live := r.do(t, "GET", "/livez", "").status; live != 200 {
				t.Errorf("livez: %d", live)
			}
		})
	}
}

// Where only some items of a batch cannot be decided, those are false with
// context.error, and on record as unavailable (DESIGN 11, not a denial).
func TestRule119SomeItemsOfABatch(t *testing.T) {
	b := shipped(t)
	b.store.down = func(r authz.Request) error {
		if r.Resource.ID == "client-2" {
			return errDown
		}
		return nil
	}
	down, fine := questionText("admin-1", "chart.open", "client-2"), allowed
	r := b.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+fine+`,`+down+`,`+fine+`]}`)
	wantDecisions(t, r, true, false, true)
	if !strings.Contains(r.body, `{"decision":false,"context":{"error":{"status":503,"message":"`) || strings.Contains(r.body, "10.0.0.1") {
		t.Errorf("%s", r.body)
	}
	var codes []string
	for _, v := range b.store.taken() {
		codes = append(codes, v.Exact.Code)
	}
	if fmt.Sprint(codes) != "[assigned unavailable assigned]" {
		t.Errorf("on record: %v", codes)
	}
	wantDecisions(t, b.do(t, "POST", "/access/v1/evaluations", `{"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[`+fine+`,`+down+`,`+fine+`]}`), true, false)
	wantDecisions(t, b.do(t, "POST", "/access/v1/evaluations", `{"options":{"evaluations_semantic":"permit_on_first_permit"},"evaluations":[`+down+`,`+fine+`,`+fine+`]}`), false, true)
	if r := b.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+down+`,`+down+`]}`); r.status != 503 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// DOMAIN rule 120: a batch of n answers as n single questions do.
func TestRule120ABatchAnswersAsItsSingles(t *testing.T) {
	r := onPostgres(t)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	for range 10 {
		var questions []string
		for range 40 {
			questions = append(questions, questionText(pick("admin-1", "practitioner-1", "practitioner-2", "scheduler-1", "user-both", "admin-2", "nobody", ""),
				pick("client.list", "chart.open", "demographics.write", "billing.read", "appointment.manage", "access.manage", "client.merge", "unknown"),
				pick("client-1", "client-2", "client-4", "client-9", "")))
		}
		before := r.count(t, "true")
		batch := r.do(t, "POST", "/access/v1/evaluations", `{"evaluations":[`+strings.Join(questions, ",")+`]}`)
		if n := r.count(t, "true") - before; n != len(questions) {
			t.Errorf("%d of %d are on record", n, len(questions))
		}
		var answer struct{ Evaluations []json.RawMessage }
		if err := json.Unmarshal([]byte(batch.body), &answer); err != nil || len(answer.Evaluations) != len(questions) {
			t.Fatalf("%v: %s", err, batch.body)
		}
		for i, question := range questions {
			if single := r.do(t, "POST", "/access/v1/evaluation", question); single.body != string(answer.Evaluations[i]) {
				t.Errorf("%s\nsingle %s\nbatch  %s", question, single.body, answer.Evaluations[i])
			}
		}
	}
}
