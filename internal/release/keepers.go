package release

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

// kept are the actions that an active administrator of a practice must always
// be allowed: without them nobody could give back what a release took.
var kept = []struct{ action, resource string }{
	{"access.manage", authz.ResourceClient},
	{"client.reassign", authz.ResourceClient},
	{"member.list", authz.ResourcePractice},
	{"member.invite", authz.ResourcePractice},
	{"member.roles", authz.ResourcePractice},
	{"settings.manage", authz.ResourcePractice},
}

// Unmanageable lists what an administrator could not do any more if the policy
// were active: each action, under every preset, and under every value that one
// setting can be given besides. Nothing is listed for a policy that is fine. An
// error means that the policy gave no decision.
//
// Which policy is active is not asked of the policy: it takes a caller's scope
// (DESIGN 11, Callers), so that no release can lock itself in.
func Unmanageable(ctx context.Context, engine *pdp.Engine) ([]string, error) {
	var lost []string
	for _, preset := range slices.Sorted(maps.Keys(authz.Presets)) {
		for _, overrides := range everySetting() {
			settings, err := authz.NewSettings(preset, overrides)
			if err != nil {
				return nil, fmt.Errorf("settings: %w", err)
			}
			for _, k := range kept {
				d, err := engine.Evaluate(ctx, administratorAsks(k.action, k.resource), administratorKnows(k.resource, settings))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", k.action, err)
				}
				if !d.Allow {
					lost = append(lost, fmt.Sprintf("an administrator is denied %s (%s), preset %s %v", k.action, d.Code, preset, overrides))
				}
			}
		}
	}
	return lost, nil
}

func administratorAsks(action, resource string) authz.Request {
	r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: "admin-1"}, Action: action,
		Resource: authz.Resource{Type: resource, ID: "practice-1"}}
	if resource == authz.ResourceClient {
		r.Resource.ID = "client-1"
	}
	return r
}

// administratorKnows are facts of somebody who is an active administrator and
// nothing else, and of a client that is somebody else's.
func administratorKnows(resource string, settings *authz.Settings) authz.Facts {
	f := authz.Facts{Now: time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC), Practice: "practice-1", Settings: settings,
		Member: &authz.Member{ID: "membership-1", User: "admin-1", Practice: "practice-1", Roles: []string{authz.RoleAdministrator}, Status: authz.MemberActive}}
	if resource == authz.ResourceClient {
		f.Client = &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: authz.ClientActive}
	}
	return f
}

// everySetting is no override, and each setting that is a word, a list of words
// or a switch with each of its values.
func everySetting() []map[string]any {
	all := []map[string]any{{}}
	for _, setting := range authz.Catalogue {
		switch setting.Default.(type) {
		case bool:
			all = append(all, map[string]any{setting.Name: true}, map[string]any{setting.Name: false})
		case string:
			for _, word := range setting.Allowed {
				all = append(all, map[string]any{setting.Name: word})
			}
		case []string:
			all = append(all, map[string]any{setting.Name: []any{}}, map[string]any{setting.Name: setting.Allowed})
		}
	}
	return all
}

func runKeepers(ctx context.Context, e Examination) (Found, error) {
	lost, err := Unmanageable(ctx, e.Engine)
	if err != nil {
		return Found{}, err
	}
	if len(lost) > 0 {
		return Found{Outcome: Refused, Summary: lost[0], Detail: lost}, nil
	}
	return Found{Outcome: Passed, Summary: "administrators can manage access, members and settings under every setting"}, nil
}
