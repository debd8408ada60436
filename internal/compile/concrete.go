package compile

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"chartgate/internal/authz"
)

// impossible says that a point cannot be: what proves it.
type impossible struct{ proof string }

func (i impossible) Error() string { return i.proof }

// concrete makes a request and facts of a point. A point that no loader can
// ever produce gives an impossible error, with the proof; any other error means
// that the point was lost, and spoils the certificate.
func concrete(action string, p point) (*subject, error) {
	s := &subject{request: authz.Request{Action: action}}
	r, f := &s.request, &s.facts
	if err := fillSettings(p, f); err != nil {
		return nil, err
	}
	for _, table := range []string{"member", "client", "grant", "portal", propertiesPath} { // see optional
		if has(p, table) {
			makeTable(table, r, f)
		}
	}
	for path, v := range p {
		if v == absent || strings.HasPrefix(path, "settings") {
			continue
		}
		if err := write(r, f, path, v); err != nil {
			return nil, err
		}
	}
	s.document = authz.Document(*r, *f)
	for path, v := range p {
		if err := check(s.document, path, v); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// subject is a point made concrete.
type subject struct {
	request  authz.Request
	facts    authz.Facts
	document map[string]any // what OPA sees
}

// has reports that a table is there at the point.
func has(p point, table string) bool { return p[table] != absent }

func makeTable(table string, r *authz.Request, f *authz.Facts) {
	switch table {
	case "member":
		f.Member = &authz.Member{Roles: []string{}}
	case "client":
		f.Client = &authz.Client{}
	case "grant":
		f.Grant = &authz.Grant{}
	case "portal":
		f.Portal = &authz.Portal{}
	case propertiesPath:
		r.Resource.Properties = authz.Properties{}
	}
}

// fillSettings makes settings of the point's. That a setting can only be what
// the catalogue allows, and that none can be missing, is proved by the one
// function that makes settings: it refuses.
func fillSettings(p point, f *authz.Facts) error {
	if !has(p, "settings") {
		return nil
	}
	overrides := map[string]any{}
	for path, v := range p {
		name, ok := strings.CutPrefix(path, "settings.")
		if !ok {
			continue
		}
		if v == absent {
			return impossible{"authz.Settings always has " + name}
		}
		setting, _ := settingOf(path)
		overrides[name] = setting.Write(v)
	}
	s, err := authz.NewSettings(authz.DefaultPreset, overrides)
	if err != nil {
		return impossible{"authz.NewSettings: " + err.Error()}
	}
	for path, v := range p {
		name, ok := strings.CutPrefix(path, "settings.")
		if kept := s.Value(name); ok && !reflect.DeepEqual(kept, v) {
			return impossible{fmt.Sprintf("authz.NewSettings keeps %s %v as %v", name, v, kept)}
		}
	}
	f.Settings = s
	return nil
}

// write puts a value at a place.
func write(r *authz.Request, f *authz.Facts, path string, v any) error {
	if name, ok := strings.CutPrefix(path, propertiesPath+"."); ok {
		r.Resource.Properties[name] = v
		return nil
	}
	switch at := target(r, f, path).(type) {
	case nil:
		if shape[path].form == formObject {
			return nil
		}
	case *string:
		if s, ok := v.(string); ok {
			*at = s
			return nil
		}
	case *bool:
		if b, ok := v.(bool); ok {
			*at = b
			return nil
		}
	case *[]string:
		if l, ok := v.([]string); ok {
			*at = l
			return nil
		}
	case *time.Time:
		if t, ok := v.(time.Time); ok {
			*at = t
			return nil
		}
	}
	return fmt.Errorf("input.%s cannot be made %v", path, v)
}

// target is where a place is kept.
func target(r *authz.Request, f *authz.Facts, path string) any {
	switch shape[path].place {
	case placeSubjectType:
		return &r.Subject.Type
	case placeSubjectID:
		return &r.Subject.ID
	case placeResourceType:
		return &r.Resource.Type
	case placeResourceID:
		return &r.Resource.ID
	case placeNow:
		return &f.Now
	case placeLatest:
		return &f.Latest
	case placePurpose:
		return &r.Context.Purpose
	case placePortalProfile:
		return &r.Context.PortalProfile
	case placeMemberID:
		return &f.Member.ID
	case placeMemberUser:
		return &f.Member.User
	case placeMemberPractice:
		return &f.Member.Practice
	case placeMemberRoles:
		return &f.Member.Roles
	case placeMemberStatus:
		return &f.Member.Status
	case placeMemberOwner:
		return &f.Member.Owner
	case placeMemberFullAccess:
		return &f.Member.FullClinicalAccess
	case placeMemberBilling:
		return &f.Member.BillingEnabled
	case placeClientID:
		return &f.Client.ID
	case placeClientPractice:
		return &f.Client.Practice
	case placeClientAssigned:
		return &f.Client.Assigned
	case placeClientStatus:
		return &f.Client.Status
	case placeGrantScope:
		return &f.Grant.Scope
	case placeGrantNotBefore:
		return &f.Grant.NotBefore
	case placeGrantExpiresAt:
		return &f.Grant.ExpiresAt
	case placePortalContact:
		return &f.Portal.Contact
	case placePortalEnabled:
		return &f.Portal.Enabled
	case placePortalOwn:
		return &f.Portal.Own
	case placePortalRelationship:
		return &f.Portal.Relationship
	case placePortalPermissions:
		return &f.Portal.Permissions
	case placePortalFeatures:
		return &f.Portal.Features
	}
	return nil
}

// check reads the document that OPA will see, and finds the point in it again.
func check(document map[string]any, path string, v any) error {
	got := inDocument(document, path)
	want := value{}
	switch v := v.(type) {
	case absentValue:
	case time.Time:
		want = textValue(authz.FormatTime(v))
	case []string:
		want = value{sort: other, any: anyList(v)}
	case string:
		want = textValue(v)
		if v == "" && blankIsAbsent(path) {
			want = value{}
		}
	default:
		want = anyValue(v)
	}
	switch {
	case shape[path].form == formObject:
		if (got.sort == undefined) == (v == absent) {
			return nil
		}
	case path == "context.latest":
		// Never before now, and there whenever now is: the document sees to it.
		return nil
	case got.sort == want.sort && got.num == want.num && got.text == want.text && reflect.DeepEqual(got.any, want.any):
		return nil
	}
	return fmt.Errorf("input.%s is %v and not %v", path, got, want)
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
