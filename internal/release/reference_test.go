package release

import (
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
)

// reference is the policy said a second time, in plain Go and by action instead
// of by role, for well-formed requests by staff. It shares nothing with
// policies/, so that a mistake must be made twice to go unseen.
type reference struct {
	r authz.Request
	f authz.Facts
}

func (x reference) decide() Expectation {
	if code := x.denial(); code != "" {
		return Expectation{Code: code, Bases: []string{}}
	}
	bases := x.bases()
	if len(bases) == 0 {
		// Only the scope stands in the way if a grant to collaborate would do.
		if x.inForce() && x.f.Grant.Scope == authz.ScopeView && slices.Contains(x.by(authz.ScopeCollaborate), "client_grant") {
			return Expectation{Code: "scope", Bases: []string{}}
		}
		return Expectation{Code: "no_basis", Bases: []string{}}
	}
	want := Expectation{Allow: true, Code: bases[0], Bases: bases}
	if slices.Equal(bases, []string{"client_grant"}) && !x.f.Grant.ExpiresAt.Equal(authz.NoEnd) {
		want.ValidUntil = authz.FormatTime(x.f.Grant.ExpiresAt)
	}
	return want
}

func (x reference) denial() string {
	m, c := x.f.Member, x.f.Client
	practice := x.r.Resource.Practice()
	if x.onClient() {
		if c == nil {
			return "other_practice"
		}
		practice = c.Practice
		if said := x.r.Resource.Properties["practice"]; said != nil && said != practice {
			return "other_practice"
		}
	}
	kind := x.r.Resource.Properties["kind"]
	switch {
	case m == nil || m.Practice != practice:
		return "other_practice"
	case m.Status != "active":
		return "not_active"
	case x.r.Resource.Type == "note" && (kind == "psychotherapy" || kind == "sud_counseling") && !x.own():
		return "protected_note"
	case x.onClient() && c.Status == "archived" && x.changes():
		return "archived"
	}
	return ""
}

func (x reference) onClient() bool {
	return slices.Contains([]string{"client", "note", "document"}, x.r.Resource.Type)
}

// changes reports whether the action changes the client's record. Taking access
// away, and taking the client out of the archive, must stay possible.
func (x reference) changes() bool {
	switch x.r.Action {
	case "access.manage", "client.reassign", "client.archive", "portal.permit":
		return false
	}
	_, verb, _ := strings.Cut(x.r.Action, ".")
	return verb != "read" && verb != "open" && verb != "list"
}

func (x reference) own() bool { return x.r.Resource.Properties["author"] == x.r.Subject.ID }

func (x reference) is(role string) bool { return slices.Contains(x.f.Member.Roles, role) }

func (x reference) inForce() bool {
	g := x.f.Grant
	return x.is("practitioner") && g != nil && !x.f.Now.Before(g.NotBefore) && x.latest().Before(g.ExpiresAt)
}

func (x reference) latest() time.Time {
	if x.f.Latest.After(x.f.Now) {
		return x.f.Latest
	}
	return x.f.Now
}

func (x reference) bases() []string {
	scope := ""
	if x.inForce() {
		scope = x.f.Grant.Scope
	}
	return x.by(scope)
}

// by lists the bases that hold with a grant of some scope in force, or with none.
func (x reference) by(scope string) []string {
	m, c, s := x.f.Member, x.f.Client, x.f.Settings
	practitioner, admin := x.is("practitioner"), x.is("administrator")
	assigned := practitioner && c != nil && c.Assigned == m.User
	full := practitioner && m.FullClinicalAccess
	view, work := scope != "", scope == authz.ScopeCollaborate
	records := s.Text("admin_record_access")
	adminOpens := admin && records != "list_only"
	adminReads := admin && (records == "full" || records == "non_clinical" && practitioner && s.Text("admin_practitioner_reads") == "all")
	open := x.own() || x.r.Resource.Properties["signed"] == false
	lets := func(setting string) bool { return slices.Contains(s.List(setting), "assigned_practitioner") }
	var holds map[string]bool
	switch x.r.Action {
	case "client.list":
		holds = map[string]bool{"assigned": assigned, "client_grant": view, "full_clinical_access": full, "administrator": admin,
			"scheduler": x.is("scheduler"), "biller": x.is("biller"), "practitioner": practitioner && !s.On("hide_unassigned")}
	case "chart.open", "demographics.read":
		holds = map[string]bool{"assigned": assigned, "client_grant": view, "full_clinical_access": full, "administrator": adminOpens}
	case "demographics.write":
		holds = map[string]bool{"assigned": assigned, "client_grant": work, "full_clinical_access": full, "administrator": adminOpens}
	case "diagnosis.read":
		holds = map[string]bool{"assigned": assigned, "client_grant": view, "full_clinical_access": full, "administrator": adminReads,
			"biller": x.is("biller") && s.On("biller_sees_diagnoses")}
	case "note.read", "document.read":
		holds = map[string]bool{"assigned": assigned, "client_grant": view, "full_clinical_access": full, "administrator": adminReads}
	case "note.write":
		holds = map[string]bool{"assigned": assigned && open, "client_grant": work && x.own(), "full_clinical_access": full && open}
	case "billing.read":
		holds = map[string]bool{"assigned": assigned && m.BillingEnabled, "client_grant": view && m.BillingEnabled, "administrator": admin, "biller": x.is("biller")}
	case "billing.manage":
		holds = map[string]bool{"assigned": assigned && m.BillingEnabled, "client_grant": work && m.BillingEnabled, "biller": x.is("biller")}
	case "appointment.read":
		holds = map[string]bool{"assigned": assigned, "client_grant": view, "administrator": admin, "scheduler": x.is("scheduler")}
	case "appointment.manage":
		holds = map[string]bool{"assigned": assigned, "client_grant": work, "administrator": admin, "scheduler": x.is("scheduler")}
	case "contact.manage", "portal.invite", "portal.permit", "document.send":
		holds = map[string]bool{"assigned": assigned, "client_grant": work, "administrator": admin}
	case "message.send":
		holds = map[string]bool{"assigned": assigned, "client_grant": work}
	case "access.manage":
		holds = map[string]bool{"assigned": assigned && lets("access_managers"), "administrator": admin}
	case "client.reassign":
		holds = map[string]bool{"assigned": assigned && lets("reassign_managers"), "administrator": admin}
	case "client.archive":
		holds = map[string]bool{"assigned": assigned && lets("archive_managers"), "administrator": admin}
	case "client.create":
		holds = map[string]bool{"administrator": admin, "scheduler": x.is("scheduler") && s.On("scheduler_creates_clients"),
			"practitioner": practitioner && s.On("practitioner_creates_clients")}
	case "billing_settings.manage":
		holds = map[string]bool{"administrator": admin, "biller": x.is("biller")}
	case "form_template.manage":
		holds = map[string]bool{"administrator": admin, "forms_administrator": x.is("forms_administrator")}
	case "profile.create_second", "contact.link_self", "contact.search", "member.list", "member.invite", "member.remove", "member.roles",
		"member.full_clinical_access", "member.out_of_office", "settings.manage", "portal_settings.manage", "record.read":
		holds = map[string]bool{"administrator": admin}
	}
	bases := []string{}
	for _, basis := range authz.BasisOrder {
		if holds[basis] {
			bases = append(bases, basis)
		}
	}
	return bases
}
