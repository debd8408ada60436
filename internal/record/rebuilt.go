package record

import "chartgate/internal/authz"

// Rebuilt is a recorded question with the facts it was decided on, in room
// that is used again for the next one: a million are read without making a
// million of each part. What it holds is true until it is filled again.
type Rebuilt struct {
	Request authz.Request
	Facts   authz.Facts // without its settings, which stand under View.SettingsDigest

	member     authz.Member
	client     authz.Client
	grant      authz.Grant
	portal     authz.Portal
	properties authz.Properties
	texts      texts
}

// Fill reads v into r: what View.Request and View.Facts return.
func (r *Rebuilt) Fill(v *View) {
	t := &r.texts
	r.Request.Subject = authz.Subject{Type: t.of(v.SubjectType), ID: t.of(v.SubjectID)}
	r.Request.Action = t.of(v.Action)
	r.Request.Resource = authz.Resource{Type: t.of(v.ResourceType), ID: t.of(v.ResourceID)}
	r.Request.Context = authz.Context{Purpose: t.of(v.Purpose), PortalProfile: t.of(v.PortalProfile)}
	if v.has(flagProperties) {
		r.fillProperties(v)
	}
	r.Facts = authz.Facts{Revision: t.of(v.Revision), Practice: t.of(v.Practice)}
	if v.has(flagNow) {
		r.Facts.Now = moment(v.Now)
	}
	if v.has(flagLatest) {
		r.Facts.Latest = moment(v.Latest)
	}
	r.fillFacts(v)
}

func (r *Rebuilt) fillFacts(v *View) {
	t := &r.texts
	if v.has(flagMember) {
		r.member = authz.Member{ID: t.of(v.MemberID), User: t.of(v.MemberUser), Practice: t.of(v.MemberPractice), Roles: r.roles(v),
			Status: t.of(v.MemberStatus), Owner: v.has(flagOwner), FullClinicalAccess: v.has(flagFullClinicalAccess), BillingEnabled: v.has(flagBilling)}
		r.Facts.Member = &r.member
	}
	if v.has(flagClient) {
		r.client = authz.Client{ID: t.of(v.ClientID), Practice: t.of(v.ClientPractice), Assigned: t.of(v.ClientAssigned), Status: t.of(v.ClientStatus)}
		r.Facts.Client = &r.client
	}
	if v.has(flagGrant) {
		r.grant = authz.Grant{Scope: t.of(v.GrantScope), NotBefore: moment(v.NotBefore), ExpiresAt: moment(v.ExpiresAt)}
		r.Facts.Grant = &r.grant
	}
	if v.has(flagPortal) {
		r.portal = authz.Portal{Contact: t.of(v.PortalContact), Enabled: v.has(flagPortalEnabled), Own: v.has(flagPortalOwn),
			Relationship: t.of(v.PortalRelationship), Permissions: t.list(r.portal.Permissions, v.PortalPermissions),
			Features: t.list(r.portal.Features, v.PortalFeatures)}
		r.Facts.Portal = &r.portal
	}
}

func (r *Rebuilt) roles(v *View) []string {
	if v.has(flagRoleList) {
		return r.texts.list(r.member.Roles, v.RoleList)
	}
	roles := r.member.Roles[:0]
	for i, role := range authz.Roles {
		if v.Roles&(1<<i) != 0 {
			roles = append(roles, role)
		}
	}
	return roles
}

func (r *Rebuilt) fillProperties(v *View) {
	if r.properties == nil {
		r.properties = authz.Properties{}
	}
	clear(r.properties)
	at := v.properties
	for p := range v.eachProperty(&at) {
		if p.kind == valueText {
			r.properties[authz.PropertyNames[p.name]] = r.texts.boxed(p.text)
		} else {
			r.properties[authz.PropertyNames[p.name]] = p.value()
		}
	}
	r.Request.Resource.Properties = r.properties
}

// texts keeps strings that were made, since ids and words come again.
type texts map[string]any

// maxTexts bounds what is kept; then it begins anew.
const maxTexts = 1 << 14

func (t *texts) boxed(b []byte) any {
	if v, ok := (*t)[string(b)]; ok {
		return v
	}
	if len(*t) >= maxTexts || *t == nil {
		*t = make(texts, maxTexts)
	}
	s := string(b)
	(*t)[s] = s
	return (*t)[s]
}

func (t *texts) of(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	s, _ := t.boxed(b).(string)
	return s
}

func (t *texts) list(into []string, from Texts) []string {
	into = into[:0]
	for s := range from.All() {
		into = append(into, t.of(s))
	}
	return into
}
