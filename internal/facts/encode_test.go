package facts

import (
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// anyKnown draws facts, also such as the database never holds.
func anyKnown(t *rapid.T) (k known) {
	text := func(name string) string { return rapid.String().Draw(t, name) }
	texts := func(name string) []string {
		if rapid.Bool().Draw(t, name+" is a list") {
			return rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, name)
		}
		return nil
	}
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	at := func(name string) time.Time {
		return time.UnixMicro(rapid.Int64Range(-62135596800000000, 253402300799999999).Draw(t, name)).UTC()
	}
	k.Practice, k.Preset, k.Overrides = text("practice"), text("preset"), []byte(text("overrides"))
	if flag("client") {
		k.Client = &authz.Client{ID: text("id"), Practice: text("practice"), Assigned: text("assigned"), Status: text("status")}
	}
	if flag("member") {
		k.Member = &authz.Member{ID: text("id"), User: text("user"), Practice: text("practice"), Roles: texts("roles"), Status: text("status"),
			Owner: flag("owner"), FullClinicalAccess: flag("full clinical access"), BillingEnabled: flag("billing enabled")}
	}
	for range rapid.IntRange(0, 3).Draw(t, "grants") {
		k.Grants = append(k.Grants, authz.Grant{Scope: text("scope"), NotBefore: at("not before"), ExpiresAt: at("expires at")})
	}
	if flag("portal") {
		k.Portal = &authz.Portal{Contact: text("contact"), Enabled: flag("enabled"), Own: flag("own"), Relationship: text("relationship"), Permissions: texts("permissions")}
	}
	k.Offered, k.Left = texts("offered"), texts("left")
	return k
}

// same tells no list from an empty one, except where that says another thing:
// nothing left of the portal's features, or nothing narrowed.
func same(t *rapid.T, a, b known) {
	if diff := cmp.Diff(a, b, cmp.AllowUnexported(known{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
	if (a.Left == nil) != (b.Left == nil) {
		t.Fatalf("left: %#v became %#v", a.Left, b.Left)
	}
}

func TestTheStoredFormSaysTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := anyKnown(t)
		stored := k.append(nil)
		got, err := readKnown(string(stored))
		if err != nil {
			t.Fatal(err)
		}
		same(t, k, got)
		// A part of it is none, and neither is it with something behind.
		if _, err := readKnown(string(stored[:rapid.IntRange(0, len(stored)-1).Draw(t, "cut")])); err == nil {
			t.Fatal("a part was read as a whole")
		}
		if _, err := readKnown(string(append(stored, 0))); err == nil {
			t.Fatal("what stands behind was not noticed")
		}
	})
}

// Whatever stands there is read or refused, and what is read means one thing.
func FuzzStoredForm(f *testing.F) {
	f.Add((&known{}).append(nil))
	f.Add((&known{Practice: "p1", Member: &authz.Member{ID: "m1", Roles: []string{"practitioner"}}, Grants: []authz.Grant{{Scope: "view", ExpiresAt: authz.NoEnd}}, Left: []string{}}).append(nil))
	f.Fuzz(func(t *testing.T, stored []byte) {
		k, err := readKnown(string(stored))
		if err != nil {
			return
		}
		again, err := readKnown(string(k.append(nil)))
		if diff := cmp.Diff(k, again, cmp.AllowUnexported(known{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func BenchmarkStoredForm(b *testing.B) {
	k := known{Practice: "practice-1", Preset: "seed", Client: &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: "active"},
		Member: &authz.Member{ID: "0198c1a2", User: "practitioner-1", Practice: "practice-1", Roles: []string{"practitioner"}, Status: "active"},
		Grants: []authz.Grant{{Scope: "view", NotBefore: time.Unix(0, 0), ExpiresAt: authz.NoEnd}}, Offered: authz.PortalFeatures}
	stored := k.append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readKnown(string(stored)); err != nil {
			b.Fatal(err)
		}
	}
}
