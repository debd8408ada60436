package compile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"

	"pgregory.net/rapid"
)

// looks are ways to look at the clock, sound ones and odd ones.
var looks = []string{
	`input.context.now < input.grant.expires_at`,
	`input.grant.not_before <= input.context.now`,
	`input.context.latest < input.grant.expires_at`,
	`input.context.latest <= input.grant.expires_at`,
	`input.grant.expires_at < input.context.latest`,
	`input.context.latest == input.grant.expires_at`,
	`input.context.now != input.grant.not_before`,
	`not input.context.now < input.grant.not_before`,
	`input.context.now < input.context.latest`,
	`input.context.now == input.context.latest`,
	`input.context.latest <= input.context.now`,
	`input.context.latest < input.context.now`,
	`input.context.now <= input.context.latest`,
	`input.context.now < "2026-03-01T10:00:00.000001Z"`,
	`"2026-03-01T11:00:00.000000Z" <= input.context.latest`,
	`input.context.now < "2026-03-01T10:3"`,
	`input.context.now`,
	`is_string(input.context.latest)`,
	`input.context.now in {"2026-03-01T10:00:00.000000Z", "x"}`,
	`startswith(input.context.now, "2026-03-01T10")`,
	`input.context.now == input.grant.scope`,
	`input.context.now < input.grant.scope`,
}

// clockwise is a policy that looks at the clock in each of those ways, by action.
func clockwise(t *testing.T) setup {
	t.Helper()
	policy, actions := strings.Builder{}, map[string]any{}
	policy.WriteString(`package authz
default allow := false
allow if { some _ in bases; not denied }
denied if some _ in denials
denials contains "bad_input" if input.subject.type == "nobody"
_refusals contains d if some d in denials
_refusals contains "no_basis" if not allow
default _end := {}
_end := {"valid_until": input.context.latest} if { allow; input.action.name == "look.0" }
_end := {"valid_until": input.grant.expires_at} if { allow; input.action.name == "look.1" }
says := {"en": "A"}
code := "assigned" if allow
code := "no_basis" if not allow
decision := object.union({"allow": allow, "code": code, "bases": [b | some b in bases], "reason_admin": says, "reason_user": says}, _end)
`)
	for i, look := range looks {
		action := fmt.Sprint("look.", i)
		actions[action] = map[string]any{"on": "client"}
		fmt.Fprintf(&policy, "bases contains \"assigned\" if {\n\tinput.action.name == %q\n\t%s\n}\n", action, look)
	}
	says := map[string]string{"admin": "A", "user": "A"}
	tables, err := json.Marshal(map[string]any{"actions": actions, "reasons": map[string]any{"assigned": says, "no_basis": says, "bad_input": says},
		"order": map[string]any{"bases": []string{"assigned"}, "denials": []string{"bad_input", "no_basis"}}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := pdp.ReadFolder(fstest.MapFS{"authz/authz.rego": {Data: []byte(policy.String())}, "tables/data.json": {Data: tables}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := setupOf(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// At every time of its span, and with all else the same, a decision is the same;
// and whoever looks at the clock in an ordinary way gets a span.
func TestADecisionIsTheSameForItsSpan(t *testing.T) {
	own, shipped := clockwise(t), theShipped(t)
	held, ended := map[string]int{}, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		when := func(label string) time.Time {
			at := day0.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, label+" hours")) * time.Hour)
			return at.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, label+" microseconds")) * time.Microsecond)
		}
		r := authz.Request{Subject: authz.Subject{Type: "user", ID: "practitioner-1"}, Resource: authz.Resource{Type: "client", ID: "client-1"}}
		f := benchCases(t)[1].f
		f.Now, f.Latest = when("now"), when("latest")
		f.Grant = &authz.Grant{Scope: "collaborate", NotBefore: when("start"), ExpiresAt: when("end")}
		if rapid.IntRange(0, 5).Draw(t, "no grant") == 0 {
			f.Grant = nil
		}
		for i := range len(looks) + 1 {
			program, look := own.program, "the shipped policy"
			if r.Action = fmt.Sprint("look.", i); i < len(looks) {
				look = looks[i]
			} else {
				program, r.Action = shipped.program, "chart.open"
			}
			first, span, ok := program.EvaluateFor(&r, &f)
			if !ok {
				continue // OPA decides
			}
			later := f
			later.Now, later.Latest = when("later now"), when("later latest")
			if !span.Covers(&later) {
				ended[look]++
				continue
			}
			held[look]++
			if second, ok := program.Evaluate(&r, &later); !ok || !same(first, second) {
				t.Fatalf("%s: with %+v at %v, %v it is %t for %+v, and at %v, %v %t", look, f.Grant, f.Now, f.Latest, first.Allow, span, later.Now, later.Latest, second.Allow)
			}
		}
	})
	for _, look := range append(looks, "the shipped policy") {
		t.Logf("%s: held %d times, ended %d", look, held[look], ended[look])
	}
	for _, look := range append(looks[:8:8], "the shipped policy", looks[13], looks[14]) {
		if held[look] == 0 || ended[look] == 0 {
			t.Errorf("%s: held %d times, ended %d: nothing was tested", look, held[look], ended[look])
		}
	}
}

// Everyday decisions hold for long, or nothing would follow them.
func TestEverydayDecisionsHoldForLong(t *testing.T) {
	program := theShipped(t).program
	for _, c := range benchCases(t) {
		_, span, ok := program.EvaluateFor(&c.r, &c.f)
		later := c.f
		if later.Now, later.Latest = c.f.Now.Add(30*time.Minute), c.f.Latest.Add(30*time.Minute); !ok || !span.Covers(&later) {
			t.Errorf("%s holds for %+v only", c.name, span)
		}
		if c.f.Grant == nil {
			continue
		}
		if later.Now, later.Latest = c.f.Grant.ExpiresAt, c.f.Grant.ExpiresAt; span.Covers(&later) {
			t.Errorf("%s holds after the grant: %+v", c.name, span)
		}
	}
}
