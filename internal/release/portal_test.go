package release

import (
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"

	"pgregory.net/rapid"
)

// portalReference is the policy of the portal said a second time, in plain Go
// and by persona (DOMAIN 1.3), for well-formed requests by a portal login. It
// shares nothing with policies/.
func portalReference(r authz.Request, f authz.Facts) Expectation {
	deny := func(code string) Expectation { return Expectation{Code: code, Bases: []string{}} }
	action, isPortal := strings.CutPrefix(r.Action, "portal.")
	isPortal = isPortal && action != "invite" && action != "permit"
	readable := slices.Contains([]string{"client.list", "chart.open", "access.manage", "client.reassign", "client.archive", "portal.permit"}, r.Action) || strings.HasSuffix(r.Action, ".read")
	c, p := f.Client, f.Portal
	switch said := r.Resource.Properties["practice"]; {
	case c == nil, said != nil && said != c.Practice:
		return deny("other_practice")
	case r.Resource.Type == "note" && slices.Contains([]any{"psychotherapy", "sud_counseling"}, r.Resource.Properties["kind"]) && r.Resource.Properties["author"] != r.Subject.ID:
		return deny("protected_note")
	case c.Status == "archived" && !readable:
		return deny("archived")
	case !isPortal:
		return deny("no_basis")
	case p != nil && !p.Enabled:
		return deny("portal_off")
	case action != "profile.enter" && r.Context.PortalProfile != c.ID:
		return deny("other_profile")
	case p == nil:
		return deny("no_basis")
	}
	offers := func(feature string) bool { return slices.Contains(p.Features, feature) }
	given := func(permission string) bool { return p.Own || slices.Contains(p.Permissions, permission) }
	both := func(right string) bool { return offers(right) && given(right) }
	may := false
	switch action {
	case "profile.enter":
		may = true
	case "appointments.view":
		may = both("view_appointments")
	case "appointments.request":
		may = both("view_appointments") && both("online_booking")
	case "appointments.cancel":
		may = both("view_appointments") && offers("cancel_appointments")
	case "information.manage":
		may = both("manage_information")
	case "demographics.manage":
		may = both("manage_information") && given("demographics")
	case "legal_sex.manage":
		may = both("manage_information") && both("legal_sex")
	case "documents.upload":
		may = offers("upload_documents")
	case "messages.send":
		may = offers("messages")
	case "documents.view", "documents.complete":
		may = r.Resource.Properties["recipient"] == p.Contact
	}
	switch {
	case !may:
		return deny("permission")
	case p.Own:
		return Expectation{Allow: true, Code: "portal_own", Bases: []string{"portal_own"}}
	}
	return Expectation{Allow: true, Code: "portal_access", Bases: []string{"portal_access"}}
}

// TestPortalIsTheReference compares the policy with its second telling, every
// action on a client's record by a portal login, on random facts.
func TestPortalIsTheReference(t *testing.T) {
	engine, known := engine(t), actions(t)
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		f.Member, f.Grant = nil, nil
		if rapid.IntRange(0, 5).Draw(t, "access") > 0 {
			p := &authz.Portal{Contact: "contact-1", Enabled: rapid.IntRange(0, 4).Draw(t, "enabled") > 0, Relationship: rapid.SampledFrom(authz.Relationships).Draw(t, "relationship"),
				Permissions: rapid.SliceOfDistinct(rapid.SampledFrom(authz.PortalPermissions), rapid.ID).Draw(t, "permissions"),
				Features:    rapid.SliceOfDistinct(rapid.SampledFrom(authz.PortalFeatures), rapid.ID).Draw(t, "features")}
			if p.Own = rapid.Bool().Draw(t, "own"); p.Own {
				p.Contact, p.Relationship = authz.ContactOwn, ""
			}
			f.Portal = p
		}
		resources := map[string]authz.Resource{}
		for _, kind := range []string{"client", "note", "document"} {
			resources[kind] = drawResource(t, kind)
		}
		resources["document"].Properties["recipient"] = rapid.SampledFrom([]string{"client", "contact-1", "contact-2"}).Draw(t, "recipient")
		entered := rapid.SampledFrom([]string{"client-1", "client-1", "client-2", ""}).Draw(t, "entered")
		for action, kind := range known {
			resource, ok := resources[kind]
			if !ok {
				continue
			}
			r := authz.Request{Subject: authz.Subject{Type: authz.SubjectPortal, ID: "user-1"}, Action: action, Resource: resource, Context: authz.Context{PortalProfile: entered}}
			result := Result{Case: Case{File: "random", Title: action, Want: portalReference(r, f)}, Got: evaluate(t, engine, r, f)}
			if !result.OK() {
				t.Fatalf("%s\n%v", result.Fault(), authz.Document(r, f))
			}
			seen[result.Got.Code] = true
		}
	})
	for _, code := range []string{"portal_own", "portal_access", "portal_off", "other_profile", "permission", "archived", "other_practice", "no_basis"} {
		if !seen[code] {
			t.Errorf("the random facts never reach %s", code)
		}
	}
}
