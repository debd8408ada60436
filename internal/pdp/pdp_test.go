package pdp_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

// policy is as small as a policy on Chartgate's facts can be: the assigned
// practitioner may do everything, and an archived client is read only.
const policy = `package authz

bases contains "assigned" if {
	input.client.assigned == input.member.user
	input.client.practice == input.member.practice
	input.action.name in {"chart.open", "client.list", "note.write"}
}

default code := "no_basis"

code := "archived" if {
	input.client.status == "archived"
	input.action.name == "note.write"
}

allow if {
	"assigned" in bases
	code != "archived"
}

decision := {"allow": true, "code": "assigned", "bases": ["assigned"], "reason_admin": {"en": "A"}, "reason_user": {"en": "U"}} if allow

decision := {"allow": false, "code": code, "bases": [], "reason_admin": {"en": "N"}, "reason_user": {"en": "N"}} if not allow
`

func engineOf(t *testing.T, source, decision string) *pdp.Engine {
	t.Helper()
	e, err := tryEngine(t, source, decision)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func tryEngine(t *testing.T, source, decision string) (*pdp.Engine, error) {
	t.Helper()
	b, err := pdp.ReadFolder(fstest.MapFS{
		"authz/authz.rego":         {Data: []byte(source)},
		"tables/reasons/data.json": {Data: []byte(`{"no_basis": {"admin": "No basis.", "user": "Ask."}}`)},
	})
	if err != nil {
		return nil, err
	}
	return pdp.NewEngine(t.Context(), b, decision)
}

// store is a fact source and a recorder of one test.
type store struct {
	facts    authz.Facts
	err      error
	refuse   error
	recorded []authz.Verdict
}

func (s *store) Facts(context.Context, authz.Request) (authz.Facts, error) { return s.facts, s.err }

func (s *store) Record(_ context.Context, verdicts ...authz.Verdict) error {
	if s.refuse != nil {
		return s.refuse
	}
	s.recorded = append(s.recorded, verdicts...)
	return nil
}

func factsOf(assigned, status string) authz.Facts {
	return authz.Facts{Now: time.Now(), Revision: "r1", Practice: "practice-1",
		Member: &authz.Member{ID: "m", User: "practitioner-1", Practice: "practice-1", Roles: []string{"practitioner"}, Status: "active"},
		Client: &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: assigned, Status: status}}
}

func ask(action string) authz.Request {
	return authz.Request{Subject: authz.Subject{Type: "user", ID: "practitioner-1"}, Action: action,
		Resource: authz.Resource{Type: "client", ID: "client-1"}}
}

var everywhere = pdp.Scope{All: true}

func TestDecideAllowsAndRecords(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "active")}
	v, err := pdp.New(engineOf(t, policy, pdp.DecisionPath), s, s).Decide(t.Context(), everywhere, ask("chart.open"), "call")
	if err != nil || !v.Shown.Allow || v.Shown.Code != "assigned" || v.Shown.ReasonUser != "U" {
		t.Fatalf("%+v, %v", v.Shown, err)
	}
	if len(s.recorded) != 1 || s.recorded[0].ID != v.ID || !s.recorded[0].Exact.Allow || s.recorded[0].Release != v.Release {
		t.Errorf("recorded %+v", s.recorded)
	}
}

func TestNoAnswerWithoutRecord(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "active"), refuse: fmt.Errorf("%w: disk full", authz.ErrUnavailable)}
	p := pdp.New(engineOf(t, policy, pdp.DecisionPath), s, s)
	if v, err := p.Decide(t.Context(), everywhere, ask("chart.open"), ""); !errors.Is(err, authz.ErrUnavailable) || v.Shown.Allow {
		t.Errorf("%+v, %v", v, err)
	}
	var answers pdp.Answers
	if err := p.DecideAll(t.Context(), everywhere, []authz.Request{ask("chart.open")}, "", nil, &answers); !errors.Is(err, authz.ErrUnavailable) || len(answers.Verdicts) > 0 {
		t.Errorf("batch: %+v, %v", answers, err)
	}
}

func TestWhatMayNotBeSeenDoesNotShow(t *testing.T) {
	engine := engineOf(t, policy, pdp.DecisionPath)
	hidden := &store{facts: factsOf("practitioner-2", "archived")}
	v, err := pdp.New(engine, hidden, hidden).Decide(t.Context(), everywhere, ask("note.write"), "")
	if err != nil || v.Shown.Code != "no_basis" || v.Shown.ReasonAdmin != "No basis." || v.Shown.ReasonUser != "Ask." {
		t.Errorf("shown %+v, %v", v.Shown, err)
	}
	if hidden.recorded[0].Exact.Code != "archived" {
		t.Errorf("recorded %+v", hidden.recorded[0].Exact)
	}
	seen := &store{facts: factsOf("practitioner-1", "archived")}
	if v, err := pdp.New(engine, seen, seen).Decide(t.Context(), everywhere, ask("note.write"), ""); err != nil || v.Shown.Code != "archived" {
		t.Errorf("to one who may list the client: %+v, %v", v.Shown, err)
	}
}

func TestScopeHidesOtherPractices(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "active")}
	p := pdp.New(engineOf(t, policy, pdp.DecisionPath), s, s)
	v, err := p.Decide(t.Context(), pdp.Scope{Practices: []string{"practice-2"}}, ask("chart.open"), "")
	if err != nil || v.Shown.Allow || v.Facts.Client != nil || v.Facts.Member != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := p.Decide(t.Context(), pdp.Scope{Practices: []string{"practice-2", "practice-1"}}, ask("chart.open"), ""); err != nil || !v.Shown.Allow {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestABatchIsItsSingles(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "archived")}
	p := pdp.New(engineOf(t, policy, pdp.DecisionPath), s, s)
	questions := []authz.Request{ask("chart.open"), ask("note.write"), ask("nothing"), ask("client.list")}
	var answers pdp.Answers
	if err := p.DecideAll(t.Context(), everywhere, questions, "", nil, &answers); err != nil || len(answers.Verdicts) != len(questions) || len(s.recorded) != len(questions) {
		t.Fatalf("%d answers, %d recorded, %v", len(answers.Verdicts), len(s.recorded), err)
	}
	for i, q := range questions {
		v, err := p.Decide(t.Context(), everywhere, q, "")
		if err != nil || v.Shown.Code != answers.Verdicts[i].Shown.Code || v.Shown.Allow != answers.Verdicts[i].Shown.Allow {
			t.Errorf("%d: single %+v, in the batch %+v, %v", i, v.Shown, answers.Verdicts[i].Shown, err)
		}
	}
	firstDeny := func(v *authz.Verdict, _ error) bool { return !v.Shown.Allow }
	if err := p.DecideAll(t.Context(), everywhere, questions, "", firstDeny, &answers); err != nil || len(answers.Verdicts) != 2 {
		t.Errorf("stopped after %d, %v", len(answers.Verdicts), err)
	}
}

// Questions of different callers that are asked together get what each gets
// alone: their own scope, their own error, and one record each; nobody is
// answered twice.
func TestTogetherIsEachAlone(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "archived")}
	down := factsFunc(func(ctx context.Context, r authz.Request) (authz.Facts, error) {
		if r.Action == "down" {
			return authz.Facts{}, authz.ErrUnavailable
		}
		return s.Facts(ctx, r)
	})
	for name, source := range map[string]pdp.FactSource{"one by one": down, "in rounds": rounds{down}} {
		p := pdp.New(engineOf(t, policy, pdp.DecisionPath), source, s)
		asked := []pdp.Asked{{Scope: everywhere, Request: ask("chart.open"), RequestID: "r-0"}, {Scope: everywhere, Request: ask("down")},
			{Scope: pdp.Scope{Practices: []string{"practice-2"}}, Request: ask("chart.open")}, {Scope: everywhere, Request: ask("note.write")}}
		for range 2 { // where other answers stood
			var answers pdp.Answers
			times, records := make([]int, len(asked)), 0
			s.recorded = nil
			p.DecideTogether(t.Context(), asked, &answers, func(places []int) {
				for _, i := range places {
					if times[i]++; answers.Errs[i] == nil {
						records++
					}
				}
				if len(s.recorded) != records {
					t.Errorf("%s: %d are answered, %d on record", name, records, len(s.recorded))
				}
			})
			for i, q := range asked {
				v, err := p.Decide(t.Context(), q.Scope, q.Request, q.RequestID)
				got := answers.Verdicts[i]
				if times[i] != 1 || !errors.Is(answers.Errs[i], err) || got.Shown.Code != v.Shown.Code || got.Shown.Allow != v.Shown.Allow || got.RequestID != v.RequestID {
					t.Errorf("%s: %d, %d times: alone %+v, %v; together %+v, %v", name, i, times[i], v.Shown, err, got.Shown, answers.Errs[i])
				}
			}
		}
		s.refuse = authz.ErrUnavailable
		var answers pdp.Answers
		p.DecideTogether(t.Context(), asked, &answers, func([]int) {})
		for i := range asked {
			if !errors.Is(answers.Errs[i], authz.ErrUnavailable) || answers.Verdicts[i].Shown.Allow {
				t.Errorf("%s: without a record, %d: %+v, %v", name, i, answers.Verdicts[i].Shown, answers.Errs[i])
			}
		}
		s.refuse = nil
	}
}

// rounds brings every second question first.
type rounds struct{ pdp.FactSource }

func (s rounds) Together(ctx context.Context, list []authz.Lookup) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		for first := range 2 {
			var places []int
			for i := first; i < len(list); i += 2 {
				list[i].Facts, list[i].Err = s.Facts(ctx, *list[i].Request)
				places = append(places, i)
			}
			if len(places) > 0 && !yield(places) {
				return
			}
		}
	}
}

// The facts of a batch are read ahead, each once, and no more than that of a
// batch that stops.
func TestABatchReadsAhead(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "active")}
	asked := 0
	source := rounds{factsFunc(func(ctx context.Context, r authz.Request) (authz.Facts, error) {
		asked++
		return s.Facts(ctx, r)
	})}
	p := pdp.New(engineOf(t, policy, pdp.DecisionPath), source, s)
	questions := slices.Repeat([]authz.Request{ask("chart.open"), ask("nothing")}, 100)
	var answers pdp.Answers
	if err := p.DecideAll(t.Context(), everywhere, questions, "", nil, &answers); err != nil || asked != len(questions) || len(s.recorded) != len(questions) {
		t.Errorf("%d questions, asked for %d, recorded %d, %v", len(questions), asked, len(s.recorded), err)
	}
	for i, v := range answers.Verdicts {
		if v.Shown.Allow != (i%2 == 0) {
			t.Fatalf("answer %d is %t", i, v.Shown.Allow)
		}
	}
	asked, s.recorded = 0, nil
	stop := func(v *authz.Verdict, _ error) bool { return !v.Shown.Allow }
	if err := p.DecideAll(t.Context(), everywhere, questions, "", stop, &answers); err != nil || len(answers.Verdicts) != 2 || len(s.recorded) != 2 || asked > 64 {
		t.Errorf("stopped after %d, recorded %d, asked for %d, %v", len(answers.Verdicts), len(s.recorded), asked, err)
	}
}

func TestABrokenPolicyNeverAnswers(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "active")}
	for what, source := range map[string]string{
		"undefined":           "package authz\ndecision := {} if input.member.id == \"x\"",
		"no object":           "package authz\ndecision := true",
		"no code":             "package authz\ndecision := {\"allow\": true, \"bases\": [\"a\"]}",
		"no bases":            "package authz\ndecision := {\"allow\": true, \"code\": \"a\"}",
		"allow without basis": "package authz\ndecision := {\"allow\": true, \"code\": \"a\", \"bases\": []}",
		"deny with a basis":   "package authz\ndecision := {\"allow\": false, \"code\": \"a\", \"bases\": [\"a\"]}",
		"allow no boolean":    "package authz\ndecision := {\"allow\": \"true\", \"code\": \"a\", \"bases\": [\"a\"]}",
		"conflict":            "package authz\ndecision := {\"allow\": false} if input.member.id\ndecision := {\"allow\": true} if input.client.id",
	} {
		p := pdp.New(engineOf(t, source, pdp.DecisionPath), s, s)
		if v, err := p.Decide(t.Context(), everywhere, ask("chart.open"), ""); !errors.Is(err, authz.ErrUnavailable) || v.Shown.Allow {
			t.Errorf("%s: %+v, %v", what, v.Shown, err)
		}
	}
	if len(s.recorded) != 0 {
		t.Errorf("%d decisions of broken policies on record", len(s.recorded))
	}
}

func TestAPolicyOnFactsIsCompiledStrictly(t *testing.T) {
	for what, source := range map[string]string{
		"clock":           "package authz\ndecision := time.now_ns()",
		"network":         "package authz\ndecision := http.send({\"method\": \"get\", \"url\": \"http://x\"})",
		"randomness":      "package authz\ndecision := rand.intn(\"a\", 2)",
		"unused variable": "package authz\ndecision if { x := 1 }",
		"no decision":     "package authz\nallow := true",
		"syntax":          "package authz\ndecision := {",
	} {
		if _, err := tryEngine(t, source, pdp.DecisionPath); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
}

func TestOwnBundle(t *testing.T) {
	const path = "data.authzen.allow"
	input := map[string]any{"subject": map[string]any{"type": "user", "id": "alice", "properties": map[string]any{"department": "x"}},
		"action": map[string]any{"name": "read"}, "resource": map[string]any{"type": "record", "id": "1"}, "extra": "kept"}
	for _, c := range []struct {
		rule  string
		allow bool
	}{
		{`allow if input.subject.properties.department == "x"`, true},
		{`allow if input.extra == "kept"`, true},
		{`allow := {"decision": true, "context": {"id": "7"}}`, true},
		{`allow := {"decision": "true"}`, false},
		{`allow := "true"`, false},
		{`allow := 1`, false},
		{`allow if input.extra == "other"`, false},
		{`allow := [true]`, false},
	} {
		s := &store{}
		p := pdp.New(engineOf(t, "package authzen\n"+c.rule, path), s, s)
		v, err := p.DecideOwn(t.Context(), input, "")
		if err != nil || v.Shown.Allow != c.allow {
			t.Errorf("%s: %+v, %v", c.rule, v.Shown, err)
		}
		if len(s.recorded) != 1 || s.recorded[0].Input == nil || s.recorded[0].Request.Subject.ID != "alice" {
			t.Errorf("%s: recorded %+v", c.rule, s.recorded)
		}
	}
}
