package pdp

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// Way is one way to have a refused request allowed.
type Way struct {
	Change string `json:"change"` // all its steps in one sentence
	Basis  string `json:"basis"`  // on which it would be allowed
	Cost   int    `json:"cost"`   // how far it reaches; only good to compare with the other ways
	Steps  []Step `json:"steps"`
}

// Step is one change, and the route by which it is made.
type Step struct {
	Change string `json:"change"`
	Method string `json:"method"`
	Path   string `json:"path"`
}

// wayOf puts a way into words.
func wayOf(w compile.Way, basis string, r authz.Request, f authz.Facts) Way {
	out := Way{Basis: basis, Cost: w.Cost}
	var said []string
	for _, c := range w.Changes {
		s := stepOf(c, r, f)
		out.Steps, said = append(out.Steps, s), append(said, s.Change)
	}
	out.Change = strings.Join(said, ", and ")
	return out
}

// stepOf says what a change is, and by which route of DESIGN 11 it is made.
func stepOf(c compile.Change, r authz.Request, f authz.Facts) Step {
	who := r.Subject.ID
	path := func(parts ...string) string {
		for i, p := range parts {
			parts[i] = url.PathEscape(p)
		}
		return "/api/v1/practices/" + url.PathEscape(f.Practice) + "/" + strings.Join(parts, "/")
	}
	client, contact := "", ""
	if f.Client != nil {
		client = f.Client.ID
	}
	if f.Portal != nil {
		contact = f.Portal.Contact
	}
	switch c.Fact {
	case "grant":
		g, _ := c.To.(authz.Grant)
		return grantStep(g, who, f, path)
	case "client.assigned":
		return Step{"assign " + client + " to " + who, "PUT", path("clients", client, "assigned-practitioner")}
	case "client.status":
		return Step{"take " + client + " out of the archive", "POST", path("clients", client, "reactivate")}
	case "member.status":
		if f.Member.Status == authz.MemberInvited {
			return Step{who + " accepts the invitation", "POST", path("members", who, "accept")}
		}
		return Step{"invite " + who + " again, who accepts", "POST", path("members")}
	case "member.roles":
		return Step{fmt.Sprintf("make %s a member with the role %v", who, c.To), "PATCH", path("members", who)}
	case "member.billing_enabled":
		return Step{"switch billing on for " + who, "PATCH", path("members", who)}
	case "member.full_clinical_access":
		return Step{"give " + who + " full clinical access", "PUT", path("members", who, "full-clinical-access")}
	case "context.portal_profile":
		return Step{"enter the profile of " + client + " in the portal first", "POST", "/portal/v1/session"}
	case "portal.enabled":
		return Step{"switch portal access on for contact " + contact, "PUT", path("clients", client, "contacts", contact, "portal")}
	case "portal.permissions":
		return Step{fmt.Sprintf("give contact %s the permission %v", contact, c.To), "PUT", path("clients", client, "contacts", contact, "portal")}
	case "portal.features":
		return Step{fmt.Sprintf("offer %v in the portal, and do not narrow it for %s", c.To, client), "PUT", path("portal-settings")}
	}
	return settingStep(c, path("settings"))
}

// grantStep gives a grant, which takes the place of one that gives no more.
func grantStep(g authz.Grant, who string, f authz.Facts, path func(...string) string) Step {
	verb := map[string]string{authz.ScopeView: "to view", authz.ScopeCollaborate: "to collaborate on"}[g.Scope]
	end := ""
	if day := dayOf(g.ExpiresAt); day != "" {
		end = ", until " + day
		if f.Grant == nil {
			end += " at the latest"
		}
	}
	if f.Settings.On("grant_requires_reason") {
		end += ", with a reason"
	}
	step := Step{"give " + who + " a grant " + verb + " " + f.Client.ID + end, "POST", path("clients", f.Client.ID, "grants")}
	old := f.Grant
	switch {
	case old == nil:
	case old.NotBefore.After(f.Now):
		step.Change = "let the grant of " + who + " begin now, " + verb + " " + f.Client.ID + end
	default:
		step.Change = "make the grant of " + who + " one " + verb + " " + f.Client.ID + end
	}
	if old != nil && g.ExpiresAt.Before(old.ExpiresAt) { // it gives less in the end, so the whole set is to be saved
		step.Method, step.Path = "PUT", path("clients", f.Client.ID, "access")
	}
	return step
}

func settingStep(c compile.Change, path string) Step {
	name := strings.TrimPrefix(c.Fact, "settings.")
	to := c.To
	for _, d := range authz.Catalogue {
		if d.Name == name {
			to = d.Write(c.To)
		}
	}
	value, err := json.Marshal(to)
	if err != nil {
		value = []byte(fmt.Sprint(to))
	}
	return Step{"set " + name + " to " + string(value) + " for the whole practice", "PUT", path}
}
