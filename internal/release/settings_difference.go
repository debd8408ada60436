package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5"
)

// SettingsReport says what a change of a practice's settings would change,
// before it is made.
type SettingsReport struct {
	Practice string          `json:"practice"`
	Release  string          `json:"release"`
	Settings []SettingChange `json:"settings"`
	// Actions are those whose decisions may change; all others are proved to
	// stay as they are.
	Actions []string        `json:"actions"`
	Cells   []SituationCell `json:"cells"` // of the plain situations, those that change
	Blast   *BlastReport    `json:"blast_radius"`
}

// SettingChange is a setting that gets another value, as the HTTP interface
// writes it.
type SettingChange struct {
	Name   string `json:"name"`
	Before any    `json:"before"`
	After  any    `json:"after"`
}

// SituationCell is a plain situation whose decision changes.
type SituationCell struct {
	Action string     `json:"action"`
	Who    string     `json:"who"`              // such as "practitioner, assigned"
	Client string     `json:"client,omitempty"` // "active" or "archived", where the action is on one
	Notes  []NoteCase `json:"notes,omitempty"`  // which, of an action on notes; nothing for all of them
	Before Answer     `json:"before"`
	After  Answer     `json:"after"`
}

// PracticeSettings returns the preset and the overrides of a practice.
func PracticeSettings(ctx context.Context, tx pgx.Tx, practice string) (preset string, overrides map[string]any, err error) {
	err = tx.QueryRow(ctx, selectSettings, practice).Scan(&preset, &overrides)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found", Detail: "there is no such practice"}
	}
	return preset, overrides, err
}

// SettingsDifference shows what changes in a practice when its settings become
// preset with overrides laid over it: settings, situations, and who gains and
// loses whom. Nothing is written. tx must be REPEATABLE READ; the engine must
// have a certified program.
func SettingsDifference(ctx context.Context, tx pgx.Tx, engine *pdp.Engine, practice, preset string, overrides map[string]any) (*SettingsReport, error) {
	policy, err := engine.Lists()
	if err != nil {
		return nil, err
	}
	after, err := authz.NewSettings(preset, overrides)
	if err != nil {
		return nil, err
	}
	was, values, err := PracticeSettings(ctx, tx, practice)
	if err != nil {
		return nil, err
	}
	before, err := authz.NewSettings(was, values)
	if err != nil {
		return nil, fmt.Errorf("settings of practice %s: %w", practice, err)
	}
	r := &SettingsReport{Practice: practice, Release: engine.Revision(), Settings: []SettingChange{}, Actions: []string{}, Cells: []SituationCell{}}
	for _, d := range authz.Catalogue {
		if !reflect.DeepEqual(before.Value(d.Name), after.Value(d.Name)) {
			r.Settings = append(r.Settings, SettingChange{d.Name, before.Show(d), after.Show(d)})
		}
	}
	old, young := policy.Under(before), policy.Under(after)
	var ofMembers []string
	for _, name := range slices.Sorted(maps.Keys(policy.Actions)) {
		if old.Actions[name].Same(young.Actions[name]) {
			continue
		}
		r.Actions = append(r.Actions, name)
		if strings.HasPrefix(name, "portal.") {
			continue // asked by portal logins, who are nobody's members
		}
		ofMembers = append(ofMembers, name)
		cells, err := changedCells(ctx, engine, name, policy.Actions[name].On, before, after)
		if err != nil {
			return nil, err
		}
		r.Cells = append(r.Cells, cells...)
	}
	side := BlastSide{Name: engine.Revision(), Policy: policy, Settings: before}
	changed := side
	changed.Settings = after
	r.Blast, err = BlastRadius(ctx, tx, side, changed, BlastOptions{Practices: []string{practice}, Actions: append([]string{}, ofMembers...), Pairs: 20})
	return r, err
}

// persona is somebody in a plain situation.
type persona struct {
	name     string
	member   authz.Member
	assigned bool
	grant    string // its scope
}

// personas are the columns of DOMAIN's matrix (1.2), and what two roles and the
// scope of a grant make of them.
var personas = []persona{
	{name: "administrator", member: authz.Member{Roles: []string{authz.RoleAdministrator}}},
	{name: "administrator who is a practitioner", member: authz.Member{Roles: []string{authz.RoleAdministrator, authz.RolePractitioner}}},
	{name: "practitioner, assigned", member: authz.Member{Roles: []string{authz.RolePractitioner}}, assigned: true},
	{name: "practitioner, grant to collaborate", member: authz.Member{Roles: []string{authz.RolePractitioner}}, grant: authz.ScopeCollaborate},
	{name: "practitioner, grant to view", member: authz.Member{Roles: []string{authz.RolePractitioner}}, grant: authz.ScopeView},
	{name: "practitioner, full clinical access", member: authz.Member{Roles: []string{authz.RolePractitioner}, FullClinicalAccess: true}},
	{name: "practitioner, no basis", member: authz.Member{Roles: []string{authz.RolePractitioner}}},
	{name: "scheduler", member: authz.Member{Roles: []string{authz.RoleScheduler}}},
	{name: "biller", member: authz.Member{Roles: []string{authz.RoleBiller}}},
	{name: "forms administrator", member: authz.Member{Roles: []string{authz.RoleForms}}},
	{name: "supervisor", member: authz.Member{Roles: []string{authz.RoleSupervisor}}},
}

// changedCells asks an action for everybody in every plain situation, under
// both settings.
func changedCells(ctx context.Context, e *pdp.Engine, action, on string, before, after *authz.Settings) ([]SituationCell, error) {
	statuses, notes := []string{""}, []NoteCase{{}}
	switch on {
	case authz.ResourceNote:
		notes = noteCases
		fallthrough
	case authz.ResourceClient, authz.ResourceDocument:
		statuses = []string{authz.ClientActive, authz.ClientArchived}
	}
	var all []SituationCell
	for _, who := range personas {
		for _, status := range statuses {
			var here []SituationCell
			for _, note := range notes {
				r, f := who.asks(action, on, status, note)
				cell := SituationCell{Action: action, Who: who.name, Client: status, Notes: []NoteCase{note}}
				var err error
				if cell.Before, err = under(ctx, e, r, f, before); err != nil {
					return nil, err
				}
				if cell.After, err = under(ctx, e, r, f, after); err != nil {
					return nil, err
				}
				if reflect.DeepEqual(cell.Before, cell.After) {
					continue
				}
				same := func(c SituationCell) bool {
					return reflect.DeepEqual(c.Before, cell.Before) && reflect.DeepEqual(c.After, cell.After)
				}
				if i := slices.IndexFunc(here, same); i >= 0 {
					here[i].Notes = append(here[i].Notes, note)
					continue
				}
				here = append(here, cell)
			}
			for _, c := range here {
				if len(c.Notes) == len(notes) {
					c.Notes = nil
				}
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func under(ctx context.Context, e *pdp.Engine, r authz.Request, f authz.Facts, s *authz.Settings) (Answer, error) {
	f.Settings = s
	d, err := e.Evaluate(ctx, r, f)
	return answerOf(d), err
}

// asks is the question of a persona, with the facts of its situation.
func (p persona) asks(action, on, status string, note NoteCase) (authz.Request, authz.Facts) {
	const user, practice, client = "member-1", "practice-1", "client-1"
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	m := p.member
	m.ID, m.User, m.Practice, m.Status, m.BillingEnabled = "membership-1", user, practice, authz.MemberActive, true
	f := authz.Facts{Now: now, Latest: now, Practice: practice, Member: &m}
	r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: user}, Action: action, Resource: authz.Resource{Type: on, ID: on + "-1"}}
	if status != "" {
		f.Client = &authz.Client{ID: client, Practice: practice, Status: status}
		if p.assigned {
			f.Client.Assigned = user
		}
		if p.grant != "" {
			f.Grant = &authz.Grant{Scope: p.grant, NotBefore: now.Add(-time.Hour), ExpiresAt: authz.NoEnd}
		}
	}
	switch on {
	case authz.ResourceNote:
		author := map[bool]string{true: user, false: "member-2"}[note.Own]
		r.Resource.Properties = authz.Properties{"client": client, "author": author, "kind": note.Kind, "signed": note.Signed}
	case authz.ResourceDocument:
		r.Resource.Properties = authz.Properties{"client": client, "kind": "document", "recipient": authz.ContactOwn}
	case authz.ResourceFormTemplate, authz.ResourceMember:
		r.Resource.Properties = authz.Properties{"practice": practice}
	case authz.ResourcePractice:
		r.Resource.ID = practice
	}
	return r, f
}
