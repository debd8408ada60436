package compile

import (
	"strings"
	"time"

	"chartgate/internal/authz"
)

// place is a value of the facts document that a program can read.
type place uint8

const (
	placeNone place = iota
	placeSubjectType
	placeSubjectID
	placeActionName
	placeResourceType
	placeResourceID
	placeProperties
	placeProperty
	placeNow
	placeLatest
	placePurpose
	placePortalProfile
	placeMember
	placeMemberID
	placeMemberUser
	placeMemberPractice
	placeMemberRoles
	placeMemberStatus
	placeMemberOwner
	placeMemberFullAccess
	placeMemberBilling
	placeClient
	placeClientID
	placeClientPractice
	placeClientAssigned
	placeClientStatus
	placeGrant
	placeGrantScope
	placeGrantNotBefore
	placeGrantExpiresAt
	placePortal
	placePortalContact
	placePortalEnabled
	placePortalOwn
	placePortalRelationship
	placePortalPermissions
	placePortalFeatures
	placeSettings
	placeSetting
)

// form says what values a place can have.
type form uint8

const (
	formText form = iota + 1
	formBool
	formTime
	formNumber
	formTexts
	formAny    // whatever the caller sent
	formObject // a table: only whether it is there can be asked
)

type described struct {
	place place
	form  form
}

const propertiesPath = "resource.properties"

// shape describes every place of the facts document, as authz.Document writes
// it. TestPlacesAreTheDocument holds the two together.
var shape = describe()

func describe() map[string]described {
	s := map[string]described{
		"subject.type":  {placeSubjectType, formText},
		"subject.id":    {placeSubjectID, formText},
		"action.name":   {placeActionName, formText},
		"resource.type": {placeResourceType, formText},
		"resource.id":   {placeResourceID, formText},
		propertiesPath:  {placeProperties, formObject},

		"context.now":            {placeNow, formTime},
		"context.latest":         {placeLatest, formTime},
		"context.purpose":        {placePurpose, formText},
		"context.portal_profile": {placePortalProfile, formText},

		"member":                      {placeMember, formObject},
		"member.id":                   {placeMemberID, formText},
		"member.user":                 {placeMemberUser, formText},
		"member.practice":             {placeMemberPractice, formText},
		"member.roles":                {placeMemberRoles, formTexts},
		"member.status":               {placeMemberStatus, formText},
		"member.owner":                {placeMemberOwner, formBool},
		"member.full_clinical_access": {placeMemberFullAccess, formBool},
		"member.billing_enabled":      {placeMemberBilling, formBool},

		"client":          {placeClient, formObject},
		"client.id":       {placeClientID, formText},
		"client.practice": {placeClientPractice, formText},
		"client.assigned": {placeClientAssigned, formText},
		"client.status":   {placeClientStatus, formText},

		"grant":            {placeGrant, formObject},
		"grant.scope":      {placeGrantScope, formText},
		"grant.not_before": {placeGrantNotBefore, formTime},
		"grant.expires_at": {placeGrantExpiresAt, formTime},

		"portal":              {placePortal, formObject},
		"portal.contact":      {placePortalContact, formText},
		"portal.enabled":      {placePortalEnabled, formBool},
		"portal.own":          {placePortalOwn, formBool},
		"portal.relationship": {placePortalRelationship, formText},
		"portal.permissions":  {placePortalPermissions, formTexts},
		"portal.features":     {placePortalFeatures, formTexts},

		"settings": {placeSettings, formObject},
	}
	for _, name := range authz.PropertyNames {
		s[propertiesPath+"."+name] = described{placeProperty, formAny}
	}
	for _, setting := range authz.Catalogue {
		s["settings."+setting.Name] = described{placeSetting, settingForm(setting)}
	}
	return s
}

func settingForm(s authz.Setting) form {
	switch s.Default.(type) {
	case bool:
		return formBool
	case int64:
		return formNumber
	case string:
		return formText
	}
	return formTexts
}

// formOf says what can stand at path; false where authz.Document writes
// nothing, so that the place is always undefined.
func formOf(path string) (form, bool) {
	s, ok := shape[path]
	return s.form, ok
}

// roots are the tables of the facts document that differ from request to
// request, once the action is known.
var roots = []string{"subject", "resource", "context", "member", "client", "grant", "portal", "settings"}

// read returns the value at a place, exactly as authz.Document writes it. name
// is the last part of the path.
func read(r *authz.Request, f *authz.Facts, p place, name string) value {
	switch p {
	case placeSubjectType:
		return textValue(r.Subject.Type)
	case placeSubjectID:
		return textValue(r.Subject.ID)
	case placeActionName:
		return textValue(r.Action)
	case placeResourceType:
		return textValue(r.Resource.Type)
	case placeResourceID:
		return textValue(r.Resource.ID)
	case placeProperties:
		if r.Resource.Properties != nil {
			return table
		}
	case placeProperty:
		if v, ok := r.Resource.Properties[name]; ok {
			return anyValue(v)
		}
	case placeNow:
		if !f.Now.IsZero() {
			return timeValue(f.Now)
		}
	case placeLatest:
		return latest(f)
	case placePurpose:
		return textOrNothing(r.Context.Purpose)
	case placePortalProfile:
		return textOrNothing(r.Context.PortalProfile)
	case placeSettings:
		if f.Settings != nil {
			return table
		}
	case placeSetting:
		if f.Settings != nil {
			return settingValue(f.Settings, name)
		}
	default:
		return readFacts(f, p)
	}
	return value{}
}

// table stands for a table that is there. Nothing but that, and that it is an
// object, can be asked of it (see link).
var table = value{sort: other, any: map[string]any{}}

func latest(f *authz.Facts) value {
	if f.Latest.After(f.Now) {
		return timeValue(f.Latest)
	}
	if !f.Now.IsZero() {
		return timeValue(f.Now)
	}
	return value{}
}

func textOrNothing(s string) value {
	if s == "" {
		return value{}
	}
	return textValue(s)
}

func readFacts(f *authz.Facts, p place) value {
	switch {
	case p >= placeMember && p <= placeMemberBilling:
		if f.Member != nil {
			return readMember(f.Member, p)
		}
	case p >= placeClient && p <= placeClientStatus:
		if f.Client != nil {
			return readClient(f.Client, p)
		}
	case p >= placeGrant && p <= placeGrantExpiresAt:
		if f.Grant != nil {
			return readGrant(f.Grant, p)
		}
	case p >= placePortal && p <= placePortalFeatures:
		if f.Portal != nil {
			return readPortal(f.Portal, p)
		}
	}
	return value{}
}

func readMember(m *authz.Member, p place) value {
	switch p {
	case placeMemberID:
		return textValue(m.ID)
	case placeMemberUser:
		return textValue(m.User)
	case placeMemberPractice:
		return textValue(m.Practice)
	case placeMemberRoles:
		return listValue(m.Roles)
	case placeMemberStatus:
		return textValue(m.Status)
	case placeMemberOwner:
		return boolValue(m.Owner)
	case placeMemberFullAccess:
		return boolValue(m.FullClinicalAccess)
	case placeMemberBilling:
		return boolValue(m.BillingEnabled)
	}
	return table
}

func readClient(c *authz.Client, p place) value {
	switch p {
	case placeClientID:
		return textValue(c.ID)
	case placeClientPractice:
		return textValue(c.Practice)
	case placeClientAssigned:
		return textOrNothing(c.Assigned)
	case placeClientStatus:
		return textValue(c.Status)
	}
	return table
}

func readGrant(g *authz.Grant, p place) value {
	switch p {
	case placeGrantScope:
		return textValue(g.Scope)
	case placeGrantNotBefore:
		return timeValue(g.NotBefore)
	case placeGrantExpiresAt:
		return timeValue(g.ExpiresAt)
	}
	return table
}

func readPortal(x *authz.Portal, p place) value {
	switch p {
	case placePortalContact:
		return textValue(x.Contact)
	case placePortalEnabled:
		return boolValue(x.Enabled)
	case placePortalOwn:
		return boolValue(x.Own)
	case placePortalRelationship:
		return textOrNothing(x.Relationship)
	case placePortalPermissions:
		return listValue(x.Permissions)
	case placePortalFeatures:
		return listValue(x.Features)
	}
	return table
}

func settingValue(s *authz.Settings, name string) value {
	switch v := s.Value(name).(type) {
	case string:
		return textValue(v)
	case bool:
		return boolValue(v)
	case int64:
		return value{sort: number, num: v}
	case []string:
		return listValue(v)
	}
	return value{}
}

// inDocument returns the value at path of a document that holds any JSON.
func inDocument(document any, path string) value {
	for path != "" {
		m, ok := document.(map[string]any)
		if !ok {
			return value{}
		}
		name, rest, _ := strings.Cut(path, ".")
		if document, ok = m[name]; !ok {
			return value{}
		}
		path = rest
	}
	return anyValue(document)
}

// The times that the one form of a time can write, in seconds since 1970
// (authz.TimeLayout). The database holds grants to them by a CHECK.
var (
	firstSecond = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastSecond  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
)

var writableTimes = authz.Span{
	Now:    authz.Range{From: firstSecond * 1e6, To: lastSecond*1e6 + 999_999},
	Latest: authz.Range{From: firstSecond * 1e6, To: lastSecond*1e6 + 999_999},
}

func writable(t time.Time) bool {
	s := t.Unix()
	return firstSecond <= s && s <= lastSecond
}
