package release

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// Matrix says who may do what under one preset, in situations that people know,
// by two policies.
type Matrix struct {
	Preset  string   `json:"preset,omitempty"` // "": the settings that are compared
	Columns []Column `json:"columns"`
	Rows    []Row    `json:"rows"`
}

// Column is a kind of person in a kind of situation.
type Column struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

// Row is an action, on a kind of resource.
type Row struct {
	Action string `json:"action"`
	On     string `json:"on,omitempty"` // which kind of note
	Cells  []Cell `json:"cells"`        // by column; one that does not apply is empty
}

// Cell is the two answers. "-" and a code is a denial, "Y" and bases an allowance.
type Cell struct {
	Before  string `json:"before"`
	After   string `json:"after"`
	Changed bool   `json:"changed"`
}

// situation is a column: who asks, and what is on file.
type situation struct {
	Column
	portal bool
	facts  func(*authz.Facts)
}

var matrixTime = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

func member(roles ...string) func(*authz.Facts) {
	return func(f *authz.Facts) { f.Member.Roles = roles }
}

func grantOf(scope string, until time.Time) func(*authz.Facts) {
	return func(f *authz.Facts) {
		f.Grant = &authz.Grant{Scope: scope, NotBefore: matrixTime.AddDate(0, -1, 0), ExpiresAt: until}
	}
}

// also lays further facts over a practitioner's.
func also(more ...func(*authz.Facts)) func(*authz.Facts) {
	return func(f *authz.Facts) {
		f.Member.Roles = []string{authz.RolePractitioner}
		for _, set := range more {
			set(f)
		}
	}
}

func assigned(f *authz.Facts) { f.Client.Assigned = asks }
func archive(f *authz.Facts)  { f.Client.Status = authz.ClientArchived }

func portalOf(own, enabled bool, permissions ...string) func(*authz.Facts) {
	return func(f *authz.Facts) {
		contact := "contact-1"
		if own {
			contact = authz.ContactOwn
		}
		f.Portal = &authz.Portal{Contact: contact, Enabled: enabled, Own: own, Relationship: "other", Permissions: permissions, Features: authz.PortalFeatures}
		if own {
			f.Portal.Relationship = ""
		}
	}
}

// asks is who asks in the matrix.
const asks = "user-1"

var situations = []situation{
	{Column{"ADM", "administrator"}, false, member(authz.RoleAdministrator)},
	{Column{"AP", "administrator and practitioner, without a basis on the client"}, false, member(authz.RoleAdministrator, authz.RolePractitioner)},
	{Column{"PA", "assigned practitioner"}, false, also(assigned)},
	{Column{"PG", "practitioner with a grant to collaborate"}, false, also(grantOf(authz.ScopeCollaborate, authz.NoEnd))},
	{Column{"PGV", "practitioner with a grant to view"}, false, also(grantOf(authz.ScopeView, authz.NoEnd))},
	{Column{"PGE", "practitioner whose grant has ended"}, false, also(grantOf(authz.ScopeCollaborate, matrixTime))},
	{Column{"PF", "practitioner with full clinical access"}, false, also(func(f *authz.Facts) { f.Member.FullClinicalAccess = true })},
	{Column{"PN", "practitioner with none of these"}, false, also()},
	{Column{"SCH", "scheduler"}, false, member(authz.RoleScheduler)},
	{Column{"BIL", "biller"}, false, member(authz.RoleBiller)},
	{Column{"FRM", "forms administrator"}, false, member(authz.RoleForms)},
	{Column{"SUP", "supervisor"}, false, member(authz.RoleSupervisor)},
	{Column{"ADA", "administrator, client archived"}, false, func(f *authz.Facts) { member(authz.RoleAdministrator)(f); archive(f) }},
	{Column{"PAA", "assigned practitioner, client archived"}, false, also(assigned, archive)},
	{Column{"REM", "assigned practitioner who was removed"}, false, also(assigned, func(f *authz.Facts) { f.Member.Status = authz.MemberRemoved })},
	{Column{"XPR", "administrator and practitioner of another practice"}, false, func(f *authz.Facts) {
		member(authz.RoleAdministrator, authz.RolePractitioner)(f)
		f.Member.Practice = "practice-2"
	}},
	{Column{"OWN", "the client, by his own portal login"}, true, portalOf(true, true)},
	{Column{"CON", "contact with all permissions"}, true, portalOf(false, true, authz.PortalPermissions...)},
	{Column{"CON0", "contact with no permission"}, true, portalOf(false, true)},
	{Column{"OFF", "contact whose access is off"}, true, portalOf(false, false, authz.PortalPermissions...)},
}

// kindsOfNotes are the rows of an action on notes.
var kindsOfNotes = []struct {
	on         string
	properties authz.Properties
}{
	{"own", authz.Properties{"author": asks, "kind": "progress", "signed": false}},
	{"unsigned, by somebody else", authz.Properties{"author": "user-2", "kind": "progress", "signed": false}},
	{"signed, by somebody else", authz.Properties{"author": "user-2", "kind": "progress", "signed": true}},
	{"own psychotherapy note", authz.Properties{"author": asks, "kind": "psychotherapy", "signed": true}},
	{"psychotherapy note of somebody else", authz.Properties{"author": "user-2", "kind": "psychotherapy", "signed": true}},
}

// matrices decides every cell by both policies, under every preset: by their
// programs, which assembly compares with OPA.
func matrices(ctx context.Context, from, to *side) ([]Matrix, error) {
	var out []Matrix
	presets := slices.Sorted(maps.Keys(authz.Presets))
	if from.settings != nil {
		presets = []string{""} // each side has its own
	}
	for _, preset := range presets {
		settings, err := authz.NewSettings(cmp.Or(preset, authz.DefaultPreset), nil)
		if err != nil {
			return nil, err
		}
		m := Matrix{Preset: preset}
		for _, s := range situations {
			m.Columns = append(m.Columns, s.Column)
		}
		err = eachRow(from, to, func(row Row, resource authz.Resource) error {
			for _, s := range situations {
				cell := Cell{}
				if s.portal == isPortal(row.Action) {
					r, f := s.question(row.Action, resource, settings)
					if cell, err = asked(ctx, from, to, r, f); err != nil {
						return err
					}
				}
				row.Cells = append(row.Cells, cell)
			}
			m.Rows = append(m.Rows, row)
			return nil
		})
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func isPortal(action string) bool {
	return strings.HasPrefix(action, "portal.") && !staffOnPortal[action]
}

// staffOnPortal are the actions by which staff see to the portal.
var staffOnPortal = map[string]bool{"portal.invite": true, "portal.permit": true}

// eachRow calls visit for every row of a matrix, with what is asked about.
func eachRow(from, to *side, visit func(Row, authz.Resource) error) error {
	all := maps.Clone(from.policy.Actions)
	for name, a := range to.policy.Actions {
		if a.On != "" || all[name] == nil {
			all[name] = a
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		kinds := kindsOfNotes
		resource := authz.Resource{Type: all[name].On, ID: all[name].On + "-1"}
		switch all[name].On {
		case authz.ResourceNote:
		case authz.ResourceClient, authz.ResourcePractice:
			kinds = kinds[:1]
		case authz.ResourceDocument:
			kinds = kinds[:1]
			resource.Properties = authz.Properties{"client": "client-1", "kind": "intake", "recipient": "contact-1"}
		case authz.ResourceFormTemplate, authz.ResourceMember:
			kinds = kinds[:1]
			resource.Properties = authz.Properties{"practice": "practice-1"}
		default:
			continue // no table names what it is asked on
		}
		for _, kind := range kinds {
			row := Row{Action: name}
			if all[name].On == authz.ResourceNote {
				row.On = kind.on
				resource.Properties = maps.Clone(kind.properties)
				resource.Properties["client"] = "client-1"
			}
			if err := visit(row, resource); err != nil {
				return err
			}
		}
	}
	return nil
}

// question is a cell's: the request, and what is on file.
func (s situation) question(action string, on authz.Resource, settings *authz.Settings) (authz.Request, authz.Facts) {
	r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: asks}, Action: action, Resource: on}
	f := authz.Facts{Now: matrixTime, Latest: matrixTime, Practice: "practice-1", Settings: settings}
	if on.Type == authz.ResourceClient || on.Type == authz.ResourceNote || on.Type == authz.ResourceDocument {
		f.Client = &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "user-9", Status: authz.ClientActive}
	}
	if s.portal {
		r.Subject.Type, r.Context.PortalProfile = authz.SubjectPortal, "client-1"
		s.facts(&f)
		if f.Portal.Own && on.Type == authz.ResourceDocument {
			r.Resource.Properties = maps.Clone(on.Properties)
			r.Resource.Properties["recipient"] = authz.ContactOwn
		}
		return r, f
	}
	f.Member = &authz.Member{ID: "membership-1", User: asks, Practice: "practice-1", Status: authz.MemberActive, BillingEnabled: true}
	full := f
	if full.Client == nil {
		full.Client = &authz.Client{} // there is nobody to be assigned to
	}
	s.facts(&full)
	f.Member, f.Portal = full.Member, full.Portal
	if f.Client != nil {
		f.Grant = full.Grant
	}
	return r, f
}

func asked(ctx context.Context, from, to *side, r authz.Request, f authz.Facts) (Cell, error) {
	before, err := from.mark(ctx, r, f)
	if from.program == to.program && from.settings == to.settings {
		return Cell{Before: before, After: before}, err
	}
	if err != nil {
		return Cell{}, err
	}
	after, err := to.mark(ctx, r, f)
	return Cell{before, after, before != after}, err
}

func (s *side) mark(ctx context.Context, r authz.Request, f authz.Facts) (string, error) {
	if s.settings != nil {
		f.Settings = s.settings
	}
	d, decided := s.program.Evaluate(&r, &f)
	var err error
	if !decided {
		d, err = s.engine.EvaluateDocument(ctx, authz.Document(r, f))
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "?", nil
	case d.Allow:
		return "Y " + strings.Join(d.Bases, " "), nil
	}
	return "- " + d.Code, nil
}

// assembly compares the program of a policy with OPA on the cells of the matrix:
// what is said above rests on its rules, and that its decision is made of them
// is seen here. The whole proof is the certificate (compile.Certify).
func (s *side) assembly(ctx context.Context) []Open {
	settings, err := authz.NewSettings(authz.DefaultPreset, nil)
	if err == nil {
		err = eachRow(s, s, func(row Row, resource authz.Resource) error {
			for _, at := range situations {
				if at.portal != isPortal(row.Action) || !s.program.Covers(row.Action) {
					continue
				}
				r, f := at.question(row.Action, resource, settings)
				want, err := s.engine.EvaluateDocument(ctx, authz.Document(r, f))
				got, decided := s.program.Evaluate(&r, &f)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if decided != (err == nil) || decided && !compile.Same(got, want) {
					return fmt.Errorf("the decision is not put together of the bases and denials: %s (%s) is %s by OPA and %s by the rules", row.Action, at.Title, answered(want), answered(got))
				}
			}
			return nil
		})
	}
	if err != nil {
		return []Open{{Which: s.which, Why: err.Error()}}
	}
	return nil
}
