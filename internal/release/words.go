package release

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/open-policy-agent/opa/v1/ast"
)

// wording is how an atom is said where it holds, and where it does not. Gone is
// put before the latter where what it speaks of may not be there at all.
type wording struct{ holds, not, gone string }

const (
	noGrant  = "no grant, or "
	noPortal = "no portal access, or "
	noClient = "no client, or "
)

// wordings are of every atom of the shipped policy that is not said by rule
// (see spelt). An atom that is in none is shown as it stands in Rego.
var wordings = map[string]wording{
	`subject.type = "user"`:                          {"staff", "not staff", ""},
	`subject.type = "portal_user"`:                   {"portal login", "not a portal login", ""},
	`subject.type in {"portal_user", "user"}`:        {"staff or portal login", "neither staff nor portal login", ""},
	`is_string(subject.id)`:                          {"a name asks", "what asks is no name", ""},
	`is_string(resource.id)`:                         {"a name is asked about", "what is asked about is no name", ""},
	`defined(resource.properties)`:                   {"properties stated", "no properties stated", ""},
	`is_object(resource.properties)`:                 {"properties stated", "no properties stated", ""},
	`subject.id = ""`:                                {"nobody named as asking", "somebody named as asking", ""},
	`resource.id = ""`:                               {"no resource named", "a resource named", ""},
	`member.user = subject.id`:                       {"his own membership", "somebody else's membership", ""},
	`member.status = "active"`:                       {"active member", "not an active member", ""},
	`member.status = "invited"`:                      {"invited, not yet a member", "not merely invited", ""},
	`member.status = "removed"`:                      {"removed member", "not a removed member", ""},
	`member.full_clinical_access = true`:             {"full clinical access", "no full clinical access", ""},
	`member.billing_enabled = true`:                  {"billing on for the member", "billing off for the member", ""},
	`member.owner = true`:                            {"owner of the account", "not the owner of the account", ""},
	`client.assigned = member.user`:                  {"assigned to this client", "not assigned to this client", ""},
	`client.assigned = subject.id`:                   {"assigned to this client", "not assigned to this client", ""},
	`client.practice = member.practice`:              {"client of the same practice", "client of another practice", ""},
	`member.practice = resource.id`:                  {"own practice", "another practice", ""},
	`member.practice = resource.properties.practice`: {"own practice", "another practice", ""},
	`client.practice = resource.properties.practice`: {"the request states the client's practice", "the request states another practice", ""},
	`client.id = resource.id`:                        {"the client asked about", "another client than the one asked about", ""},
	`client.id = resource.properties.client`:         {"the client that the resource belongs to", "another client than the one that the resource belongs to", ""},
	`client.status = "active"`:                       {"client active", "client not active", noClient},
	`client.status = "archived"`:                     {"client archived", "client not archived", noClient},

	`grant.not_before <= context.now`:                   {"grant begun", "grant not begun", noGrant},
	`context.latest < grant.expires_at`:                 {"grant not ended", "grant ended", noGrant},
	`context.now < grant.expires_at`:                    {"grant not ended by the earlier clock", "grant ended by the earlier clock", noGrant},
	`grant.expires_at < context.latest`:                 {"grant over", "grant not over", noGrant},
	`defined(resource.properties.practice)`:             {"the request states a practice", "the request states no practice", ""},
	`defined(grant.expires_at)`:                         {"has a grant", "no grant", ""},
	`defined(grant)`:                                    {"has a grant", "no grant", ""},
	`defined(client)`:                                   {"there is a client", "there is no client", ""},
	`defined(member)`:                                   {"a membership", "no membership", ""},
	`defined(portal)`:                                   {"has portal access", "no portal access", ""},
	`context.now <= context.latest`:                     {"time known", "time not known", ""},
	`"0001-01-01T00:00:00.000000Z" <= grant.not_before`: {"has a grant", "no grant", ""},
	`grant.expires_at <= "9999-12-31T23:59:59.999999Z"`: {"has a grant", "no grant", ""},
	`grant.expires_at = "9999-12-31T23:59:59.999999Z"`:  {"grant without an end", "grant with an end", noGrant},
	`grant.scope = "collaborate"`:                       {"grant to collaborate", "grant not to collaborate", noGrant},
	`grant.scope = "view"`:                              {"grant to view", "grant not to view", noGrant},
	`grant.scope in {"collaborate", "view"}`:            {"has a grant", "no grant of a known scope", ""},
	`resource.properties.author = subject.id`:           {"own note", "somebody else's note", ""},
	`resource.properties.signed = false`:                {"note not signed", "note signed", ""},
	`resource.properties.signed = true`:                 {"note signed", "note not signed", ""},
	`portal.enabled = true`:                             {"portal access on", "portal access off", noPortal},
	`portal.own = true`:                                 {"the client's own login", "not the client's own login", ""},
	`portal.own = false`:                                {"a contact's login", "not a contact's login", ""},
	`client.id = context.portal_profile`:                {"this profile entered", "another profile entered", ""},
	`portal.contact = resource.properties.recipient`:    {"document meant for this contact", "document meant for somebody else", noPortal},
}

// roleWords say a role.
var roleWords = map[string]string{authz.RoleAdministrator: "administrator", authz.RolePractitioner: "practitioner",
	authz.RoleScheduler: "scheduler", authz.RoleBiller: "biller", authz.RoleForms: "forms administrator", authz.RoleSupervisor: "supervisor"}

// throughWords say by what something is allowed.
var throughWords = map[string]string{"assigned": "assignment", "client_grant": "a grant", "full_clinical_access": "full clinical access",
	"administrator": "the role administrator", "scheduler": "the role scheduler", "biller": "the role biller",
	"forms_administrator": "the role forms administrator", "practitioner": "the role practitioner",
	"portal_own": "the client's own portal login", "portal_access": "a contact's portal access"}

// denialWords say that a denial does not apply, and that it does.
var denialWords = map[string][2]string{
	authz.CodeBadInput:      {"a sound request", "not a sound request"},
	authz.CodeOtherPractice: {"same practice", "another practice"},
	"not_active":            {"active member or portal login", "not an active member"},
	"protected_note":        {"no protected note of somebody else", "protected note of somebody else"},
	"archived":              {"archiving does not forbid it", "the client is archived, which forbids it"},
	"scope":                 {"not held back by the grant's scope", "held back by the grant's scope"},
	"portal_off":            {"portal access not off", "portal access off"},
	"other_profile":         {"no other profile entered", "another profile entered"},
	"permission":            {"no right in the portal lacking", "a right in the portal lacking"},
	authz.CodeNoBasis:       {"some basis", "no basis"},
}

func through(basis string) string { return cmp.Or(throughWords[basis], basis) }

// rank orders what is said: who, then why, then about what.
var rank = []string{"subject.", "member.roles", "member.", "client.assigned", "grant.", "client.", "resource.", "portal.", "context.", "settings."}

// phrases says in which situations a change is, each phrase a condition. That a
// request is sound is taken for granted and not said.
func phrases(c compile.Shift) []string {
	var first, last []string
	sound := false
	for _, d := range c.Denied {
		switch {
		case d.Code == authz.CodeBadInput && !d.Applies:
			sound = true
		case d.Code == authz.CodeOtherPractice:
			first = append(first, denial(d))
		default:
			last = append(last, denial(d))
		}
	}
	if !sound && !slices.ContainsFunc(c.Denied, func(d compile.Condition) bool { return d.Code == authz.CodeBadInput }) {
		last = append(last, "sound request or not")
	}
	for _, kids := range c.Either {
		last = append(last, either(kids))
	}
	slices.Sort(last)
	return slices.Concat(first, literals(c.When), last)
}

// either says a choice: "client active or archived".
func either(kids []compile.Literal) string {
	var out []string
	for _, l := range kids {
		out = append(out, say(l))
	}
	slices.Sort(out)
	if len(out) == 2 {
		if a, b := strings.Fields(out[0]), strings.Fields(out[1]); len(a) > 1 && len(b) > 1 && a[0] == b[0] && a[0] == "client" {
			return out[0] + " or " + strings.Join(b[1:], " ")
		}
	}
	return strings.Join(out, ", or ")
}

func denial(d compile.Condition) string {
	words, ok := denialWords[d.Code]
	if !ok {
		words = [2]string{"not refused as " + d.Code, "refused as " + d.Code}
	}
	if d.Applies {
		return words[1]
	}
	return words[0]
}

// literals says literals in order, those together that are one thing to people.
func literals(all []compile.Literal) []string {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b compile.Literal) int { return cmp.Compare(rankOf(a.Atom), rankOf(b.Atom)) })
	var out []string
	for _, l := range all {
		if s := say(l); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	drop := func(s string) { out = slices.DeleteFunc(out, func(o string) bool { return o == s }) }
	has := func(s ...string) bool {
		return !slices.ContainsFunc(s, func(s string) bool { return !slices.Contains(out, s) })
	}
	if has("grant begun", "grant not ended") {
		out[slices.Index(out, "grant begun")] = "grant in force"
		drop("grant not ended")
	}
	if has("grant begun", "grant ended") {
		out[slices.Index(out, "grant begun")] = "grant begun and ended"
		drop("grant ended")
	}
	for _, s := range out {
		if strings.HasPrefix(s, "grant ") {
			drop("has a grant") // is said
			break
		}
	}
	for _, role := range roleWords {
		if has("staff", role) {
			drop("staff") // a portal login holds no role that a rule sees
		}
	}
	return out
}

func rankOf(f *compile.Formula) int {
	best := len(rank)
	for _, path := range placesOf(f) {
		for i, prefix := range rank {
			if strings.HasPrefix(path, prefix) {
				best = min(best, i)
			}
		}
	}
	return best
}

func placesOf(f *compile.Formula) []string {
	var out []string
	for _, o := range []compile.Operand{f.A, f.B} {
		if o.Const == nil && o.Loop == 0 && o.Path != "" {
			out = append(out, o.Path)
		}
	}
	return out
}

// say says one literal.
func say(l compile.Literal) string {
	w, ok := wordings[l.Atom.String()]
	if !ok {
		w, ok = spelt(l.Atom)
	}
	switch {
	case !ok && l.Not:
		return "not " + inRego(l.Atom)
	case !ok:
		return inRego(l.Atom)
	case !l.Not:
		return w.holds
	case l.There:
		return w.not
	}
	return w.gone + w.not
}

// spelt says the atoms that are made of a table's or a setting's words.
func spelt(f *compile.Formula) (wording, bool) {
	if f.Kind != compile.KindAtom {
		return wording{}, false
	}
	word, isWord := f.A.Const.(ast.String)
	path := f.A.Path
	if isWord {
		path = f.B.Path
	}
	setting, isSetting := strings.CutPrefix(path, "settings.")
	plain := strings.ReplaceAll(string(word), "_", " ")
	property, isProperty := strings.CutPrefix(path, "resource.properties.")
	switch {
	case isProperty && f.Op >= compile.OpIsText && f.Op <= compile.OpIsObject:
		return wording{property + " stated", property + " not stated", ""}, true
	case isProperty && f.Op == compile.OpEqual && f.B.Const != nil && f.B.Const.Compare(ast.String("")) == 0:
		return wording{property + " empty", property + " not empty", ""}, true
	case isWord && f.Op == compile.OpIn && path == "member.roles":
		role := cmp.Or(roleWords[string(word)], plain+" (there is no such role)")
		return wording{role, "not " + article(role), ""}, true
	case isWord && f.Op == compile.OpIn && path == "portal.permissions":
		return wording{"permission " + plain, "no permission " + plain, ""}, true
	case isWord && f.Op == compile.OpIn && path == "portal.features":
		return wording{"the portal offers " + plain, "the portal does not offer " + plain, ""}, true
	case isWord && f.Op == compile.OpIn && isSetting:
		return wording{setting + " names " + string(word), setting + " does not name " + string(word), "no settings, or "}, true
	case isSetting && f.Op == compile.OpEqual:
		return settingSaid(setting, f.B.Const)
	case isSetting && f.Op == compile.OpIn:
		list := words(f.B.Const)
		return wording{setting + " is " + list, setting + " is not " + list, "no settings, or "}, true
	case path == "resource.type" && f.Op == compile.OpEqual:
		return wording{"asked on a " + words(f.B.Const), "not asked on a " + words(f.B.Const), ""}, true
	case path == "resource.type" && f.Op == compile.OpIn:
		return wording{"asked on a " + words(f.B.Const), "not asked on a " + words(f.B.Const), ""}, true
	case path == "resource.properties.kind" && f.Op == compile.OpIn:
		list := words(f.B.Const)
		return wording{"kind is " + list, "kind is not " + list, ""}, true
	case path == "resource.properties.kind" && f.Op == compile.OpEqual && f.B.Const != nil:
		list := words(f.B.Const)
		return wording{"kind is " + list, "kind is not " + list, ""}, true
	}
	return wording{}, false
}

func settingSaid(name string, v ast.Value) (wording, bool) {
	switch v {
	case ast.Boolean(true):
		return wording{name + " on", name + " off", "no settings, or "}, true
	case ast.Boolean(false):
		return wording{name + " off", name + " on", "no settings, or "}, true
	}
	return wording{name + " is " + words(v), name + " is not " + words(v), "no settings, or "}, v != nil
}

// words lists what a constant names: "a, b or c".
func words(v ast.Value) string {
	var out []string
	add := func(t *ast.Term) { out = append(out, words(t.Value)) }
	switch v := v.(type) {
	case ast.String:
		return strings.ReplaceAll(string(v), "_", " ")
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	default:
		return v.String()
	}
	slices.Sort(out)
	if len(out) > 1 {
		out = append(out[:len(out)-2], out[len(out)-2]+" or "+out[len(out)-1])
	}
	return strings.Join(out, ", ")
}

func article(word string) string {
	if strings.ContainsRune("aeiou", rune(word[0])) {
		return "an " + word
	}
	return "a " + word
}

// inRego writes an atom as a rule would.
func inRego(f *compile.Formula) string {
	place := func(o compile.Operand) string {
		switch {
		case o.Const != nil:
			return o.Const.String()
		case o.Loop > 0:
			return strings.TrimSuffix("word."+o.Path, ".")
		}
		return "input." + o.Path
	}
	a, b := place(f.A), ""
	if f.B.Const != nil || f.B.Path != "" || f.B.Loop > 0 {
		b = place(f.B)
	}
	switch {
	case f.Kind == compile.KindExists:
		return fmt.Sprintf("some word in %s: %s", a, f.Kids[0])
	case f.Op == compile.OpDefined:
		return a
	case f.Op == compile.OpEqual:
		return a + " == " + b
	case b == "":
		return fmt.Sprintf("%s(%s)", f.Op, a)
	case f.Op >= compile.OpStartsWith:
		return fmt.Sprintf("%s(%s, %s)", f.Op, a, b)
	}
	return fmt.Sprintf("%s %s %s", a, f.Op, b)
}
