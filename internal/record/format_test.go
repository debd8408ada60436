package record

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var ids = rapid.OneOf(
	rapid.SampledFrom([]string{"client-1", "practitioner-1", "practice-1", "active", "x"}),
	rapid.StringMatching(`[a-zß-]{1,60}`),
	rapid.StringMatching(`[a-z]{128}`),
)

var orNothing = rapid.OneOf(rapid.Just(""), ids)

var moments = rapid.Custom(func(t *rapid.T) time.Time {
	return rapid.OneOf(
		rapid.Just(authz.NoEnd), rapid.Just(time.Time{}),
		rapid.Map(rapid.Int64Range(-1e15, 1e17), func(n int64) time.Time { return time.UnixMicro(n).Add(999) }),
	).Draw(t, "time")
})

func listOf(t *rapid.T, from []string, name string) []string {
	return rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(from), ids), 0, 6).Draw(t, name)
}

var anySettings = rapid.Custom(func(t *rapid.T) *authz.Settings {
	overrides := map[string]any{}
	if rapid.Bool().Draw(t, "days") {
		overrides["grant_max_days"] = rapid.Int64Range(1, 36500).Draw(t, "grant_max_days")
		overrides["access_managers"] = []any{"assigned_practitioner"}
	}
	s, err := authz.NewSettings(rapid.SampledFrom([]string{"seed", "help-centre"}).Draw(t, "preset"), overrides)
	if err != nil {
		t.Fatal(err)
	}
	return s
})

// anyVerdict draws verdicts on cleaned requests, with every part of the facts
// there or not.
var anyVerdict = rapid.Custom(func(t *rapid.T) authz.Verdict {
	text := func(name string) string { return orNothing.Draw(t, name) }
	perhaps := func(name string) bool { return rapid.Bool().Draw(t, name) }
	r := authz.Request{
		Subject: authz.Subject{Type: rapid.SampledFrom([]string{"user", "portal_user", "", "robot"}).Draw(t, "subject type"), ID: text("subject")},
		Action:  rapid.OneOf(rapid.SampledFrom(words), ids).Draw(t, "action"),
		Resource: authz.Resource{Type: rapid.SampledFrom([]string{"client", "note", "document", "practice", "", "thing"}).Draw(t, "type"),
			ID: text("resource")},
		Context: authz.Context{Purpose: rapid.SampledFrom([]string{"", "treatment", "audit:2"}).Draw(t, "purpose"), PortalProfile: text("profile")},
	}
	if perhaps("properties") {
		p := map[string]any{}
		for _, name := range authz.PropertyNames {
			if perhaps(name) {
				p[name] = rapid.SampledFrom([]any{nil, true, false, "client-1", "progress", "x\x00", 3.5, []any{1}, map[string]any{"a": "b"}}).Draw(t, "value")
			}
		}
		r.Resource.Properties = authz.Properties(p)
	}
	v := authz.NewVerdict(r, rapid.SampledFrom([]string{"sha256:0123456789ab", ""}).Draw(t, "release"), text("request id"))
	v.At = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at"))
	v.Exact = authz.Decision{Allow: perhaps("allow"), Code: rapid.SampledFrom(words).Draw(t, "code"), Bases: listOf(t, authz.BasisOrder, "bases")}
	f := authz.Facts{Now: moments.Draw(t, "now"), Latest: moments.Draw(t, "latest"), Revision: text("revision"), Practice: text("practice")}
	if perhaps("member") {
		f.Member = &authz.Member{ID: uuid.NewString(), User: text("user"), Practice: text("member practice"), Roles: listOf(t, authz.Roles, "roles"),
			Status: text("member status"), Owner: perhaps("owner"), FullClinicalAccess: perhaps("full"), BillingEnabled: perhaps("billing")}
		if perhaps("ordered") {
			f.Member.Roles = rapid.SampledFrom([][]string{nil, {authz.RoleAdministrator, authz.RoleSupervisor}, {authz.RolePractitioner}}).Draw(t, "ordered roles")
		}
	}
	if perhaps("client") {
		f.Client = &authz.Client{ID: text("client"), Practice: text("client practice"), Assigned: text("assigned"), Status: text("client status")}
	}
	if perhaps("grant") {
		f.Grant = &authz.Grant{Scope: text("scope"), NotBefore: moments.Draw(t, "start"), ExpiresAt: moments.Draw(t, "end")}
	}
	if perhaps("portal") {
		f.Portal = &authz.Portal{Contact: text("contact"), Enabled: perhaps("enabled"), Own: perhaps("own"), Relationship: text("relationship"),
			Permissions: listOf(t, words, "permissions"), Features: listOf(t, words, "features")}
	}
	if perhaps("settings") {
		f.Settings = anySettings.Draw(t, "settings")
	}
	v.Facts = f
	return v
})

// What is read back is the same facts document, to the last member, and the
// same decision: a replay asks the policy exactly what was asked.
func TestBodyHoldsTheExactFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyVerdict.Draw(t, "verdict")
		body, err := appendBody(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		var view View
		if err := view.Read(body); err != nil {
			t.Fatal(err)
		}
		var settings map[string]any
		if v.Facts.Settings != nil {
			text, sum := v.Facts.Settings.JSON()
			if string(view.SettingsDigest) != string(sum[:digestSize]) {
				t.Fatalf("settings %x, want %x", view.SettingsDigest, sum)
			}
			if settings, err = ReadSettings(text); err != nil {
				t.Fatal(err)
			}
		}
		got, err := view.Document(settings)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(authz.Document(v.Request, v.Facts), got); diff != "" {
			t.Fatalf("the facts (-recorded +read)\n%s", diff)
		}
		if diff := cmp.Diff(authz.Decision{Allow: v.Exact.Allow, Code: v.Exact.Code, Bases: v.Exact.Bases}, view.Decision()); diff != "" {
			t.Fatalf("the decision (-recorded +read)\n%s", diff)
		}
		if view.ID != v.ID || view.At != v.At.UnixMicro() || string(view.Client()) != v.Request.Resource.Client() ||
			string(view.Release) != v.Release || string(view.Revision) != v.Facts.Revision {
			t.Fatalf("%+v is not %+v", view, v)
		}
	})
}

// A body that was cut or changed is refused or read as something else; it never
// panics, and no part of it is read twice or left over.
func TestDamagedBodyIsRefusedOrDiffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyVerdict.Draw(t, "verdict")
		body, err := appendBody(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		var view View
		cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
		if err := view.Read(body[:cut]); err == nil {
			t.Fatalf("read %d of %d bytes", cut, len(body))
		}
		if err := view.Read(append(slices.Clone(body), 0)); err == nil {
			t.Fatal("read a body with a byte too many")
		}
		damaged := slices.Clone(body)
		damaged[cut] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if view.Read(damaged) == nil {
			_, _ = view.Document(map[string]any{})
			view.Client()
			view.Decision()
		}
	})
}

// What could hold free text, or what Postgres would refuse for ever, is not
// taken: the decision is refused, not the whole spool stuck behind it.
func TestBodyRefusesWhatMayNotBeRecorded(t *testing.T) {
	for name, spoil := range map[string]func(*authz.Verdict){
		"a property nobody knows": func(v *authz.Verdict) { v.Request.Resource.Properties = authz.Properties{"title": "x"} },
		"a number":                func(v *authz.Verdict) { v.Request.Resource.Properties = authz.Properties{"kind": int64(3)} },
		"a full list":             func(v *authz.Verdict) { v.Request.Resource.Properties = authz.Properties{"kind": []any{"x"}} },
		"NUL":                     func(v *authz.Verdict) { v.Exact.Code = "a\x00b" },
		"no UTF-8":                func(v *authz.Verdict) { v.Release = "\xff" },
		"too long":                func(v *authz.Verdict) { v.Release = string(make([]byte, 2000)) },
		"a year nobody can write": func(v *authz.Verdict) { v.At = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		v := authz.NewVerdict(authz.Request{}, "", "")
		if _, err := appendBody(nil, &v); err != nil {
			t.Fatal(err)
		}
		spoil(&v)
		if _, err := appendBody(nil, &v); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Every member of the facts is on record: a new one must be added to the body,
// and then here. Only the activation is left out, which no rule can read: the
// release that decided is on record itself.
func TestBodyKnowsEveryFact(t *testing.T) {
	for sample, want := range map[reflect.Type][]string{
		reflect.TypeFor[authz.Request]():  {"Subject", "Action", "Resource", "Context"},
		reflect.TypeFor[authz.Resource](): {"Type", "ID", "Properties"},
		reflect.TypeFor[authz.Context]():  {"Purpose", "PortalProfile", "MinRevision"},
		reflect.TypeFor[authz.Facts](): {"Now", "Latest", "Revision", "Practice", "Degraded", "Activation", "Member", "Client", "Grant", "Portal", "Settings",
			"Precedents"}, // which are no fact: a room beside them
		reflect.TypeFor[authz.Member](): {"ID", "User", "Practice", "Roles", "Status", "Owner", "FullClinicalAccess", "BillingEnabled"},
		reflect.TypeFor[authz.Client](): {"ID", "Practice", "Assigned", "Status"},
		reflect.TypeFor[authz.Grant]():  {"Scope", "NotBefore", "ExpiresAt"},
		reflect.TypeFor[authz.Portal](): {"Contact", "Enabled", "Own", "Relationship", "Permissions", "Features"},
	} {
		var got []string
		for _, field := range reflect.VisibleFields(sample) {
			got = append(got, field.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-on record +there is)\n%s", sample, diff)
		}
	}
}

// The list of words is part of the format: what a byte means never changes.
func TestWordsNeverChange(t *testing.T) {
	if len(words) > 126 {
		t.Errorf("%d words do not fit in one byte", len(words))
	}
	if len(wordIndex) != len(words) {
		t.Error("a word stands twice")
	}
	for i, want := range map[int]string{0: "user", 2: "client", 14: "assigned", 33: "no_basis", 50: "client.list", 97: "portal.documents.complete"} {
		if words[i] != want {
			t.Errorf("word %d is %q, records say it is %q", i, words[i], want)
		}
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	v := sample(1)
	body, err := appendBody(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	var view View
	if n := testing.AllocsPerRun(100, func() {
		if err := view.Read(body); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("reading a body allocates %v times", n)
	}
	buffer := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := appendBody(buffer, &v); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("writing a body allocates %v times", n)
	}
}

// sample is an ordinary decision: a practitioner opens the chart of a client
// who is shared with him.
func sample(i int) authz.Verdict {
	n := string(rune('0' + i%10))
	r := authz.Request{Subject: authz.Subject{Type: "user", ID: "practitioner-" + n}, Action: "note.read",
		Resource: authz.Resource{Type: "note", ID: "note-" + n, Properties: authz.Properties{
			"client": "client-" + n, "author": "practitioner-2", "kind": "progress", "signed": true}},
		Context: authz.Context{Purpose: "treatment"}}
	v := authz.NewVerdict(r, "sha256:0123456789ab", "request-"+n)
	v.Facts = authz.Facts{Now: v.At, Latest: v.At.Add(time.Millisecond), Practice: "practice-1", Settings: sampleSettings,
		Revision: "Jd3l2kfj3Lkj2lkfj2lkjffE4MTIzOjE4MTI1OjE4MTIz",
		Member: &authz.Member{ID: "0190a5c8-9e8b-7c3e-8f5d-3f1f0e7b2a11", User: r.Subject.ID, Practice: "practice-1",
			Roles: []string{authz.RolePractitioner}, Status: "active", BillingEnabled: true},
		Client: &authz.Client{ID: "client-" + n, Practice: "practice-1", Assigned: "practitioner-2", Status: "active"},
		Grant:  &authz.Grant{Scope: "collaborate", NotBefore: v.At.Add(-time.Hour), ExpiresAt: authz.NoEnd}}
	v.Exact = authz.Decision{Allow: true, Code: "client_grant", Bases: []string{"client_grant"}}
	v.Shown = v.Exact
	return v
}

var sampleSettings = func() *authz.Settings {
	s, err := authz.NewSettings("seed", nil)
	if err != nil {
		panic(err)
	}
	return s
}()

func TestSampleIsCompact(t *testing.T) {
	v := sample(1)
	body, err := appendBody(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	document, _ := json.Marshal(authz.Document(v.Request, v.Facts))
	t.Logf("%d bytes; its facts alone are %d as JSON", len(body), len(document))
	if len(body) > 300 {
		t.Errorf("an ordinary decision takes %d bytes", len(body))
	}
}
