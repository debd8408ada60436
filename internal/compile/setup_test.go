package compile_test

import (
	"reflect"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/pdp"

	"pgregory.net/rapid"
)

// shipped returns the engine and the program of the shipped policy, made once.
var shipped = sync.OnceValues(func() (setup, error) {
	b, err := pdp.LoadBundle("../../policies")
	if err != nil {
		return setup{}, err
	}
	return setupOf(b)
})

type setup struct {
	engine  *pdp.Engine
	policy  *compile.Policy
	program *compile.Program
}

func setupOf(b *pdp.Bundle) (setup, error) {
	engine, err := pdp.NewEngine(ctx, b, pdp.DecisionPath)
	if err != nil {
		return setup{}, err
	}
	policy, err := compile.Compile(ctx, engine.Source())
	if err != nil {
		return setup{}, err
	}
	return setup{engine, policy, compile.Assemble(policy)}, nil
}

func theShipped(t testing.TB) setup {
	t.Helper()
	s, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same reports whether two decisions are equal, to the last sentence.
func same(a, b authz.Decision) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func plain(d authz.Decision) authz.Decision {
	if len(d.Bases) == 0 {
		d.Bases = nil
	}
	if d.ValidUntil != nil {
		until := d.ValidUntil.UTC()
		d.ValidUntil = &until
	}
	return d
}

var day0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// drawFacts draws a request and facts, sound ones more often than not.
func drawFacts(t *rapid.T, actions []string) (authz.Request, authz.Facts) {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	maybe := func(label string) bool { return rapid.IntRange(0, 29).Draw(t, label) != 19 }
	when := func(label string) time.Time {
		return rapid.SampledFrom([]time.Time{day0.Add(-time.Hour), day0, day0.Add(time.Microsecond), day0.Add(time.Hour), day0.Add(time.Nanosecond),
			authz.NoEnd, time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), {}}).Draw(t, label)
	}
	id := func(label, usual string) string {
		if maybe(label + " usual") {
			return usual
		}
		return pick(label, "", "practice-2", "client-2", "practitioner-2", "client-1", "practitioner-1", "practice-1")
	}
	action := rapid.SampledFrom(actions).Draw(t, "action")
	r := authz.Request{Action: action, Subject: authz.Subject{Type: authz.SubjectUser, ID: id("subject", "practitioner-1")}}
	if !maybe("staff") {
		r.Subject.Type = pick("subject type", authz.SubjectPortal, "user", "", "other")
	}
	r.Resource = drawResource(t, action, id)
	var f authz.Facts
	f.Now, f.Latest = day0, day0
	if !maybe("clock") {
		f.Now, f.Latest = when("now"), when("latest")
	}
	if maybe("member") {
		f.Member = &authz.Member{ID: "m-1", User: id("user", "practitioner-1"), Practice: id("member's practice", "practice-1"),
			Roles:  rapid.SliceOfDistinct(rapid.SampledFrom(append([]string{"?"}, authz.Roles...)), rapid.ID[string]).Draw(t, "roles"),
			Status: pick("status", "active", "active", "active", "invited", "removed", "?", ""), Owner: rapid.Bool().Draw(t, "owner"),
			FullClinicalAccess: rapid.Bool().Draw(t, "full"), BillingEnabled: rapid.Bool().Draw(t, "billing")}
	}
	if maybe("client") {
		f.Client = &authz.Client{ID: id("client", "client-1"), Practice: id("client's practice", "practice-1"),
			Assigned: pick("assigned", "", "practitioner-1", "practitioner-2"), Status: pick("client status", "active", "active", "archived", "?", "")}
	}
	if rapid.Bool().Draw(t, "grant") {
		f.Grant = &authz.Grant{Scope: pick("scope", "view", "collaborate", "collaborate", "?"), NotBefore: when("start"), ExpiresAt: when("end")}
	}
	if rapid.Bool().Draw(t, "portal") {
		f.Portal = &authz.Portal{Contact: "contact-1", Enabled: rapid.Bool().Draw(t, "enabled"), Own: rapid.Bool().Draw(t, "own"),
			Relationship: pick("relationship", "self", "parent", "?"), Permissions: []string{"view_appointments"}, Features: []string{"messages"}}
	}
	if maybe("settings") {
		f.Settings = drawSettings(t)
	}
	if !maybe("profile") {
		r.Context.PortalProfile = pick("entered", "client-1", "client-2")
	}
	return r, f
}

func drawResource(t *rapid.T, action string, id func(string, string) string) authz.Resource {
	on := known().policy.Actions[action].On
	r := authz.Resource{Type: on, ID: id("resource", map[string]string{"client": "client-1", "practice": "practice-1"}[on]+map[string]string{"note": "note-1", "document": "document-1", "form_template": "form-1", "member": "practitioner-1"}[on])}
	if rapid.IntRange(0, 29).Draw(t, "type") == 19 {
		r.Type = rapid.SampledFrom([]string{"client", "note", "practice", "", "?"}).Draw(t, "other type")
	}
	sound := map[string]any{"client": "client-1", "author": rapid.SampledFrom([]string{"practitioner-1", "practitioner-2"}).Draw(t, "author"),
		"kind": rapid.SampledFrom([]string{"progress", "assessment", "psychotherapy", "sud_counseling"}).Draw(t, "kind"), "signed": rapid.Bool().Draw(t, "signed"),
		"recipient": "client", "practice": "practice-1"}
	if rapid.IntRange(0, 9).Draw(t, "without properties") == 7 {
		return r
	}
	r.Properties = authz.Properties{}
	for _, name := range authz.PropertyNames {
		switch rapid.IntRange(0, 39).Draw(t, name) {
		case 17:
		case 19:
			r.Properties[name] = rapid.SampledFrom([]any{nil, "", "?", true, false, int64(0), 1.5, []any{}, []any{"client-1"}, map[string]any{}, "practice-2", "client-2"}).Draw(t, "odd "+name)
		default:
			r.Properties[name] = sound[name]
		}
	}
	if rapid.Bool().Draw(t, "no practice") {
		delete(r.Properties, "practice")
	}
	return r
}

func drawSettings(t *rapid.T) *authz.Settings {
	overrides := map[string]any{}
	for _, s := range authz.Catalogue {
		switch s.Default.(type) {
		case bool:
			overrides[s.Name] = rapid.Bool().Draw(t, s.Name)
		case string:
			overrides[s.Name] = rapid.SampledFrom(s.Allowed).Draw(t, s.Name)
		case []string:
			overrides[s.Name] = rapid.SliceOfDistinct(rapid.SampledFrom(s.Allowed), rapid.ID[string]).Draw(t, s.Name)
		}
	}
	s, err := authz.NewSettings(authz.DefaultPreset, overrides)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// known is theShipped where a test already has it.
func known() setup {
	s, _ := shipped()
	return s
}
