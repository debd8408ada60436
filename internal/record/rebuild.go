package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"chartgate/internal/authz"
)

// Request returns what was asked.
func (v *View) Request() authz.Request {
	r := authz.Request{
		Subject:  authz.Subject{Type: string(v.SubjectType), ID: string(v.SubjectID)},
		Action:   string(v.Action),
		Resource: authz.Resource{Type: string(v.ResourceType), ID: string(v.ResourceID)},
		Context:  authz.Context{Purpose: string(v.Purpose), PortalProfile: string(v.PortalProfile)},
	}
	if v.has(flagProperties) {
		r.Resource.Properties = authz.Properties{}
		at := v.properties
		for p := range v.eachProperty(&at) {
			r.Resource.Properties[authz.PropertyNames[p.name]] = p.value()
		}
	}
	return r
}

func (p property) value() any {
	switch p.kind {
	case valueFalse, valueTrue:
		return p.kind == valueTrue
	case valueText:
		return string(p.text)
	case valueZero:
		return int64(0)
	case valueList:
		return []any{}
	case valueObject:
		return map[string]any{}
	}
	return nil
}

// Facts returns what was known, but for the settings: those are kept under
// SettingsDigest.
func (v *View) Facts() authz.Facts {
	f := authz.Facts{Revision: string(v.Revision), Practice: string(v.Practice)}
	if v.has(flagNow) {
		f.Now = moment(v.Now)
	}
	if v.has(flagLatest) {
		f.Latest = moment(v.Latest)
	}
	if v.has(flagMember) {
		f.Member = &authz.Member{ID: string(v.MemberID), User: string(v.MemberUser), Practice: string(v.MemberPractice),
			Roles: v.roles(), Status: string(v.MemberStatus), Owner: v.has(flagOwner),
			FullClinicalAccess: v.has(flagFullClinicalAccess), BillingEnabled: v.has(flagBilling)}
	}
	if v.has(flagClient) {
		f.Client = &authz.Client{ID: string(v.ClientID), Practice: string(v.ClientPractice),
			Assigned: string(v.ClientAssigned), Status: string(v.ClientStatus)}
	}
	if v.has(flagGrant) {
		f.Grant = &authz.Grant{Scope: string(v.GrantScope), NotBefore: moment(v.NotBefore), ExpiresAt: moment(v.ExpiresAt)}
	}
	if v.has(flagPortal) {
		f.Portal = &authz.Portal{Contact: string(v.PortalContact), Enabled: v.has(flagPortalEnabled), Own: v.has(flagPortalOwn),
			Relationship: string(v.PortalRelationship), Permissions: v.PortalPermissions.strings(), Features: v.PortalFeatures.strings()}
	}
	return f
}

func (v *View) roles() []string {
	if v.has(flagRoleList) {
		return v.RoleList.strings()
	}
	var roles []string
	for i, role := range authz.Roles {
		if v.Roles&(1<<i) != 0 {
			roles = append(roles, role)
		}
	}
	return roles
}

// Decision returns what was decided: the exact decision, also where the caller
// was shown less (DOMAIN rule 122). Its sentences are the release's, and are
// not kept.
func (v *View) Decision() authz.Decision {
	return authz.Decision{Allow: v.Allow, Code: string(v.Code), Bases: v.Bases.strings()}
}

// Replayable reports whether the facts document stands on record: it does, but
// for decisions of a user's own bundle, of whose input only a digest is kept,
// and for lists, which are not one decision.
func (v *View) Replayable() bool { return !v.has(flagInput) }

// Document rebuilds the facts document that the decision rests on: exactly
// what authz.Document gave. Settings are those of SettingsDigest, as
// ReadSettings returns them; nil where there are none.
func (v *View) Document(settings map[string]any) (map[string]any, error) {
	if !v.Replayable() {
		return nil, fmt.Errorf("decision %s is a list, or of a user's own bundle: it holds no facts document", v.ID)
	}
	doc := authz.Document(v.Request(), v.Facts())
	if v.SettingsDigest != nil {
		if settings == nil {
			return nil, fmt.Errorf("decision %s: its settings %x are not at hand", v.ID, v.SettingsDigest)
		}
		doc["settings"] = settings
	}
	return doc, nil
}

// ReadSettings reads settings as they were recorded. The result may be shared
// between documents that nobody changes.
func ReadSettings(text []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	settings := map[string]any{}
	if err := decoder.Decode(&settings); err != nil {
		return nil, fmt.Errorf("settings on record: %w", err)
	}
	for name, v := range settings {
		if number, ok := v.(json.Number); ok {
			n, err := number.Int64()
			if err != nil {
				return nil, fmt.Errorf("settings on record: %s: %w", name, err)
			}
			settings[name] = n
		}
	}
	return settings, nil
}

func moment(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
