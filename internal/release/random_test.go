package release

import (
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"

	"pgregory.net/rapid"
)

// kinds are the types of resource, in the order in which they are drawn.
var kinds = []string{"client", "note", "document", "practice", "form_template", "member"}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// actions are all that the policy knows, each with the type it is asked on.
func actions(t *testing.T) map[string]string {
	t.Helper()
	bundle, err := pdp.LoadBundle(policies)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for name, entry := range bundle.Data["tables"].(map[string]any)["actions"].(map[string]any) {
		all[name] = entry.(map[string]any)["on"].(string)
	}
	return all
}

// drawFacts draws what may be known when user-1 asks about client-1 or about its
// practice. The pools are small, so that things often meet.
func drawFacts(t *rapid.T) authz.Facts {
	oneOf := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	flip := func(label string) bool { return rapid.Bool().Draw(t, label) }
	hours := func(label string) time.Time {
		return noon.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, label)) * time.Hour)
	}
	overrides := map[string]any{
		"admin_record_access":          oneOf("admin_record_access", "full", "non_clinical", "list_only"),
		"admin_practitioner_reads":     oneOf("admin_practitioner_reads", "all", "own_basis"),
		"biller_sees_diagnoses":        flip("biller_sees_diagnoses"),
		"hide_unassigned":              flip("hide_unassigned"),
		"practitioner_creates_clients": flip("practitioner_creates_clients"),
		"scheduler_creates_clients":    flip("scheduler_creates_clients"),
	}
	for _, name := range []string{"access_managers", "reassign_managers", "archive_managers"} {
		overrides[name] = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"administrator", "assigned_practitioner"}), rapid.ID).Draw(t, name)
	}
	settings, err := authz.NewSettings(authz.DefaultPreset, overrides)
	if err != nil {
		t.Fatal(err)
	}
	f := authz.Facts{Now: noon, Latest: noon.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "doubt")) * time.Hour), Practice: "practice-1", Settings: settings}
	if rapid.IntRange(0, 9).Draw(t, "member") > 0 {
		f.Member = &authz.Member{ID: "member-1", User: "user-1", Practice: oneOf("member practice", "practice-1", "practice-1", "practice-1", "practice-2"),
			Roles:  rapid.SliceOfDistinct(rapid.SampledFrom(authz.Roles), rapid.ID).Draw(t, "roles"),
			Status: oneOf("status", "active", "active", "active", "invited", "removed"), Owner: flip("owner"),
			FullClinicalAccess: flip("full"), BillingEnabled: flip("billing")}
	}
	if rapid.IntRange(0, 9).Draw(t, "client") > 0 {
		f.Client = &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: oneOf("assigned", "", "user-1", "user-2"),
			Status: oneOf("client status", "active", "active", "archived")}
	}
	if flip("granted") {
		f.Grant = drawGrant(t, hours)
	}
	return f
}

func drawGrant(t *rapid.T, hours func(string) time.Time) *authz.Grant {
	g := &authz.Grant{Scope: rapid.SampledFrom([]string{"view", "collaborate"}).Draw(t, "scope"), NotBefore: hours("from"), ExpiresAt: authz.NoEnd}
	if rapid.Bool().Draw(t, "ends") {
		g.ExpiresAt = hours("until")
	}
	return g
}

// drawResource draws something of a type, of client-1 or of practice-1.
func drawResource(t *rapid.T, kind string) authz.Resource {
	oneOf := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	r := authz.Resource{Type: kind, ID: kind + "-1", Properties: authz.Properties{}}
	switch kind {
	case "note":
		r.Properties["author"] = oneOf("author", "user-1", "user-2")
		r.Properties["kind"] = oneOf("kind", "progress", "treatment_plan", "assessment", "psychotherapy", "sud_counseling")
		r.Properties["signed"] = rapid.Bool().Draw(t, "signed")
		r.Properties["client"] = "client-1"
	case "document":
		r.Properties["client"], r.Properties["kind"], r.Properties["recipient"] = "client-1", "intake", "client"
	case "form_template", "member":
		r.Properties["practice"] = "practice-1"
		return r
	case "practice":
		return r
	}
	if said := oneOf("practice said", "", "", "practice-1", "practice-2"); said != "" {
		r.Properties["practice"] = said
	}
	return r
}

func evaluate(t *rapid.T, engine *pdp.Engine, r authz.Request, f authz.Facts) authz.Decision {
	d, err := engine.Evaluate(t.Context(), r, f)
	if err != nil {
		t.Fatalf("%+v on %+v: %v", r, authz.Document(r, f), err)
	}
	return d
}

// TestPolicyIsTheReference compares the policy with its second telling, every
// action on random facts.
func TestPolicyIsTheReference(t *testing.T) {
	engine, known := engine(t), actions(t)
	seen := map[string]bool{}
	policyIsTheReference := func(t *rapid.T) {
		f := drawFacts(t)
		resources := map[string]authz.Resource{}
		for _, kind := range kinds {
			resources[kind] = drawResource(t, kind)
		}
		for action, kind := range known {
			r := authz.Request{Subject: authz.Subject{Type: "user", ID: "user-1"}, Action: action, Resource: resources[kind]}
			result := Result{Case: Case{File: "random", Title: action, Want: reference{r, f}.decide()}, Got: evaluate(t, engine, r, f)}
			if !result.OK() {
				t.Fatalf("%s\n%v", result.Fault(), authz.Document(r, f))
			}
			seen[result.Got.Code] = true
		}
	}
	for again := 0; again == 0 || len(seen) < 12 && again < 10; again++ { // a hundred facts may miss a rare answer
		rapid.Check(t, policyIsTheReference)
	}
	if len(seen) < 12 {
		t.Errorf("the random facts reach only %v", seen)
	}
}

// TestRule115_MoreGrantsNeverCloseAndFewerRolesNeverOpen: adding a grant turns no allow
// into a deny, taking a role turns no deny into an allow (DOMAIN rule 115).
func TestRule115_MoreGrantsNeverCloseAndFewerRolesNeverOpen(t *testing.T) {
	engine, known := engine(t), actions(t)
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		more, fewer := f, f
		if f.Grant == nil {
			more.Grant = drawGrant(t, func(label string) time.Time {
				return noon.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "new "+label)) * time.Hour)
			})
		}
		if f.Member != nil && len(f.Member.Roles) > 0 {
			member := *f.Member
			lost := rapid.IntRange(0, len(member.Roles)-1).Draw(t, "lost")
			member.Roles = slices.Delete(slices.Clone(member.Roles), lost, lost+1)
			fewer.Member = &member
		}
		for _, kind := range kinds {
			resource := drawResource(t, kind)
			for action, on := range known {
				if on != kind {
					continue
				}
				r := authz.Request{Subject: authz.Subject{Type: "user", ID: "user-1"}, Action: action, Resource: resource}
				now := evaluate(t, engine, r, f)
				if now.Allow && !evaluate(t, engine, r, more).Allow {
					t.Fatalf("%s: a grant takes access away: %v", action, authz.Document(r, more))
				}
				if !now.Allow && evaluate(t, engine, r, fewer).Allow {
					t.Fatalf("%s: losing a role gives access: %v", action, authz.Document(r, fewer))
				}
			}
		}
	})
}
