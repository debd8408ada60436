package pdp_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// aChart is practitioner-2, who has nothing on client-1.
func aChart(t *testing.T) (authz.Request, authz.Facts) {
	t.Helper()
	settings, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err != nil {
		t.Fatal(err)
	}
	return authz.Request{Action: "chart.open", Subject: authz.Subject{Type: authz.SubjectUser, ID: "practitioner-2"},
			Resource: authz.Resource{Type: authz.ResourceClient, ID: "client-1"}},
		authz.Facts{Now: noon, Latest: noon, Practice: "practice-1", Settings: settings,
			Member: &authz.Member{ID: "m-2", User: "practitioner-2", Practice: "practice-1", Roles: []string{authz.RolePractitioner},
				Status: authz.MemberActive, BillingEnabled: true},
			Client: &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: authz.ClientActive}}
}

func TestExplanationOfAGrant(t *testing.T) {
	e := shipped(t)
	r, f := aChart(t)
	f.Grant = &authz.Grant{Scope: authz.ScopeView, NotBefore: noon, ExpiresAt: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
	f.Member.FullClinicalAccess = true
	x, err := e.Explain(t.Context(), r, f)
	if err != nil {
		t.Fatal(err)
	}
	got := x.Sentences(pdp.Display{"grant.granted_by": "admin-1", "grant.reason": "coverage"})
	want := []string{"allowed: a grant until 2026-12-01, given by admin-1, reason: coverage", "allowed: practitioner-2 has full clinical access"}
	if !slices.Equal(got, want) || len(x.Ways) > 0 {
		t.Errorf("%q, %v", got, x.Ways)
	}
	if got := x.Sentences(nil)[0]; got != "allowed: a grant until 2026-12-01" {
		t.Errorf("without what is only shown: %q", got)
	}
	f.Grant.ExpiresAt = authz.NoEnd
	if x, err = e.Explain(t.Context(), r, f); err != nil || x.Sentences(nil)[0] != "allowed: a grant" {
		t.Errorf("without an end: %q, %v", x.Sentences(nil), err)
	}
	if d, err := e.Evaluate(t.Context(), r, f); err != nil || d.Code != x.Decision.Code || !slices.Equal(d.Bases, x.Decision.Bases) {
		t.Errorf("decided %v, explained %v", d, x.Decision)
	}
}

func TestExplanationOfARefusal(t *testing.T) {
	e := shipped(t)
	r, f := aChart(t)
	r.Action, r.Resource = "note.write", authz.Resource{Type: authz.ResourceNote, ID: "note-1", Properties: authz.Properties{
		"client": "client-1", "author": "practitioner-2", "kind": "progress", "signed": false}}
	f.Client.Status = authz.ClientArchived
	x, err := e.Explain(t.Context(), r, f)
	if err != nil {
		t.Fatal(err)
	}
	sentences := x.Sentences(nil)
	if len(sentences) != 2 || sentences[0] != "denied: client-1 is not active but archived, and this is not possible on such a client" ||
		!strings.HasPrefix(sentences[1], "denied: nothing gives practitioner-2 this") {
		t.Errorf("%q", sentences)
	}
	if len(x.Ways) == 0 {
		t.Fatal("no way is offered")
	}
	first, err := json.Marshal(x.Ways[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"change":"take client-1 out of the archive, and give practitioner-2 a grant to collaborate on client-1","basis":"client_grant","cost":27,"steps":[` +
		`{"change":"take client-1 out of the archive","method":"POST","path":"/api/v1/practices/practice-1/clients/client-1/reactivate"},` +
		`{"change":"give practitioner-2 a grant to collaborate on client-1","method":"POST","path":"/api/v1/practices/practice-1/clients/client-1/grants"}]}`
	if string(first) != want {
		t.Errorf("first way: %s", first)
	}
	for i, w := range x.Ways {
		if i > 0 && w.Cost < x.Ways[i-1].Cost {
			t.Errorf("ways are not in order: %v", x.Ways)
		}
	}
	again, err := e.Explain(t.Context(), r, f)
	if err != nil || len(again.Ways) != len(x.Ways) || again.Ways[0].Change != x.Ways[0].Change {
		t.Errorf("asked again: %v, %v", again.Ways, err)
	}
}

// A policy that cannot be compiled, and says nothing in words, still gets its
// ways: by trying, with OPA.
func TestExplanationWithoutFormulas(t *testing.T) {
	e := engineOf(t, policy, pdp.DecisionPath)
	r, f := aChart(t)
	x, err := e.Explain(t.Context(), r, f)
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Ways) != 1 || x.Ways[0].Change != "assign client-1 to practitioner-2" || x.Ways[0].Basis != "assigned" {
		t.Errorf("ways: %+v", x.Ways)
	}
	if s := x.Sentences(nil); len(s) != 1 || s[0] != "N" {
		t.Errorf("sentences: %q", s)
	}
	if _, err := engineOf(t, policy, "data.authz.allow").Explain(t.Context(), r, f); err == nil {
		t.Error("a policy of one's own was explained")
	}
}
