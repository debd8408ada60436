package authz

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
)

// Settings are the effective settings of one practice: its preset with its
// overrides laid over it (DOMAIN 3.2). Every setting always has a value, since
// a missing one could widen access.
type Settings struct {
	values map[string]any // string, bool, int64 or []string, by name
	text   []byte         // Document as JSON
	digest [sha256.Size]byte
}

// Setting describes one setting: what it may be, and what it is in preset "seed".
type Setting struct {
	Name    string
	Default any      // string, bool, int64 or []string
	Allowed []string // for texts and lists: the words it may hold
	Always  string   // for lists: a word that stands in them whatever is said
	Min     int64    // for numbers
	Max     int64
	Words   *words // how the number looks in JSON, where it is more than a number
	Help    string // one sentence in plain English
}

// words is the JSON form of a setting that counts days: how 0 is written, and
// the member that holds the number, if it stands in an object.
type words struct {
	none   any
	member string
}

var (
	limitWords    = &words{none: nil}
	reassignWords = &words{none: "revoke", member: "grant_days"}
)

// Catalogue lists every setting, by name, with its value in preset "seed"
// (DOMAIN 3.2). A number of 0 days stands for "none" and "at once".
var Catalogue = []Setting{
	{Name: "access_managers", Default: []string{"administrator"}, Allowed: []string{"administrator", "assigned_practitioner"}, Always: "administrator", Help: "Who may give and take access to a client; administrators always may."},
	{Name: "admin_practitioner_reads", Default: "all", Allowed: []string{"all", "own_basis"}, Help: "Under non_clinical: may an administrator who is also a practitioner read clinical documents of all clients, or only of those he has another basis for?"},
	{Name: "admin_record_access", Default: "full", Allowed: []string{"full", "non_clinical", "list_only"}, Help: "What administrators may read: everything, the chart without clinical documents, or the list only."},
	{Name: "archive_managers", Default: []string{"administrator"}, Allowed: []string{"administrator", "assigned_practitioner"}, Always: "administrator", Help: "Who may archive and reactivate a client; administrators always may."},
	{Name: "archived_chart", Default: "read_only", Allowed: []string{"read_only"}, Help: "What staff may do with an archived chart."},
	{Name: "archived_portal", Default: "suspend", Allowed: []string{"suspend"}, Help: "What the portal may do with an archived profile."},
	{Name: "biller_sees_diagnoses", Default: true, Help: "May billers read diagnoses?"},
	{Name: "close_redundant_grant_on_assign", Default: true, Help: "Does a grant end when its holder becomes the assigned practitioner?"},
	{Name: "grant_default_scope", Default: ScopeCollaborate, Allowed: []string{ScopeView, ScopeCollaborate}, Help: "The scope of a grant that names none."},
	{Name: "grant_max_days", Default: int64(0), Max: 36500, Words: limitWords, Help: "How long a grant may last, in days; null for no limit."},
	{Name: "grant_requires_expiry", Default: false, Help: "Must a grant have an end?"},
	{Name: "grant_requires_reason", Default: false, Help: "Must a grant have a reason?"},
	{Name: "grantee_roles", Default: []string{RolePractitioner}, Allowed: []string{RolePractitioner}, Help: "The roles whose holders can be given a grant."},
	{Name: "hide_unassigned", Default: true, Help: "Are clients hidden from practitioners who have no basis for them?"},
	{Name: "on_reassign_grants", Default: "keep", Allowed: []string{"keep", "revoke_all"}, Help: "Do the grants on a client stay when it is reassigned?"},
	{Name: "on_reassign_previous", Default: int64(0), Max: 36500, Words: reassignWords, Help: "What the former practitioner keeps after a reassignment: \"revoke\" for nothing, {\"grant_days\": 14} for a grant of 14 days."},
	{Name: "portal_default_permissions", Default: []string{}, Allowed: []string{"view_appointments", "online_booking", "manage_information", "demographics", "legal_sex"}, Help: "The permissions of a new portal contact."},
	{Name: "practitioner_creates_clients", Default: true, Help: "May every practitioner create clients?"},
	{Name: "reassign_managers", Default: []string{"administrator"}, Allowed: []string{"administrator", "assigned_practitioner"}, Always: "administrator", Help: "Who may reassign a client to another practitioner; administrators always may."},
	{Name: "scheduler_creates_clients", Default: false, Help: "May schedulers create clients?"},
}

// Presets are named sets of settings (DOMAIN 3.2), each as its differences
// from "seed".
var Presets = map[string]map[string]any{
	"seed":        {},
	"help-centre": {"admin_record_access": "non_clinical"},
}

// DefaultPreset is the preset of a practice that chose none.
const DefaultPreset = "seed"

// NewSettings lays overrides over a preset. Values may come from JSON. The
// error says which setting is wrong and what it may be; it is a *Problem.
func NewSettings(preset string, overrides map[string]any) (*Settings, error) {
	differences, ok := Presets[preset]
	if !ok {
		return nil, &Problem{Kind: ErrMalformed, Type: "malformed",
			Detail: fmt.Sprintf("there is no preset %q; there are %v", preset, slices.Sorted(maps.Keys(Presets))),
			Fields: []Field{{Pointer: "/preset", Detail: "no such preset"}}}
	}
	s := &Settings{values: make(map[string]any, len(Catalogue))}
	for _, setting := range Catalogue {
		s.values[setting.Name] = setting.Default
	}
	maps.Copy(s.values, differences)
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		i := sort.Search(len(Catalogue), func(i int) bool { return Catalogue[i].Name >= name })
		if i == len(Catalogue) || Catalogue[i].Name != name {
			return nil, settingProblem(name, "no such setting")
		}
		v, err := Catalogue[i].read(overrides[name])
		if err != nil {
			return nil, settingProblem(name, err.Error())
		}
		s.values[name] = v
	}
	var err error
	if s.text, err = json.Marshal(s.Document()); err != nil {
		return nil, err
	}
	s.digest = sha256.Sum256(s.text)
	return s, nil
}

func settingProblem(name, detail string) error {
	return &Problem{Kind: ErrMalformed, Type: "malformed", Detail: "setting " + name + ": " + detail,
		Fields: []Field{{Pointer: "/overrides/" + name, Detail: detail}}}
}

// read turns a JSON value into a value of this setting. A null number means 0:
// no limit.
func (d Setting) read(v any) (any, error) {
	switch d.Default.(type) {
	case bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, fmt.Errorf("must be true or false")
	case int64:
		return d.readNumber(v)
	case string:
		s, ok := v.(string)
		if !ok || !slices.Contains(d.Allowed, s) {
			return nil, fmt.Errorf("must be one of %v", d.Allowed)
		}
		return s, nil
	default:
		return d.readList(v)
	}
}

func (d Setting) readNumber(v any) (any, error) {
	hint, lowest := fmt.Sprintf("must be a whole number from %d to %d", d.Min, d.Max), d.Min
	if d.Words != nil {
		if v == d.Words.none {
			return int64(0), nil
		}
		lowest = 1
		hint = fmt.Sprintf("must be null or a whole number from 1 to %d", d.Max)
		if d.Words.member != "" {
			hint = fmt.Sprintf("must be %q or {%q: a whole number from 1 to %d}", d.Words.none, d.Words.member, d.Max)
			m, ok := v.(map[string]any)
			if !ok || len(m) != 1 {
				return nil, errors.New(hint)
			}
			v = m[d.Words.member]
		}
	}
	n, ok := whole(v)
	if !ok || n < lowest || n > d.Max {
		return nil, errors.New(hint)
	}
	return n, nil
}

func (d Setting) readList(v any) (any, error) {
	var items []any
	switch list := v.(type) {
	case []any:
		items = list
	case []string:
		items = texts(list)
	default:
		return nil, fmt.Errorf("must be a list of %v", d.Allowed)
	}
	out := []string{}
	for _, item := range items {
		s, ok := item.(string)
		if !ok || !slices.Contains(d.Allowed, s) {
			return nil, fmt.Errorf("must be a list of %v", d.Allowed)
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	if d.Always != "" && !slices.Contains(out, d.Always) {
		out = append(out, d.Always)
	}
	slices.Sort(out)
	return out, nil
}

func whole(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case int:
		return int64(n), true
	case float64:
		return int64(n), n == float64(int64(n))
	case interface{ Int64() (int64, error) }: // json.Number
		i, err := n.Int64()
		return i, err == nil
	}
	return 0, false
}

// Document returns the settings as a rule reads them.
func (s *Settings) Document() map[string]any {
	doc := make(map[string]any, len(s.values))
	for name, v := range s.values {
		if list, ok := v.([]string); ok {
			doc[name] = texts(list)
			continue
		}
		doc[name] = v
	}
	return doc
}

// JSON returns Document as JSON with its names in order, and its SHA-256: the
// same settings are the same bytes. It must not be changed.
func (s *Settings) JSON() (text []byte, digest [sha256.Size]byte) { return s.text, s.digest }

// Show returns the value of a setting as the HTTP interface and the database
// write it, such as {"grant_days": 14}; NewSettings reads it back.
func (s *Settings) Show(d Setting) any { return d.Write(s.values[d.Name]) }

// Write is the JSON form of a value that the setting is kept as.
func (d Setting) Write(v any) any {
	n, isNumber := v.(int64)
	switch {
	case !isNumber || d.Words == nil:
		return v
	case n == 0:
		return d.Words.none
	case d.Words.member != "":
		return map[string]any{d.Words.member: n}
	}
	return n
}

// Text returns a setting that is a word, such as "grant_default_scope".
func (s *Settings) Text(name string) string { v, _ := s.values[name].(string); return v }

// On returns a setting that is true or false.
func (s *Settings) On(name string) bool { v, _ := s.values[name].(bool); return v }

// Number returns a setting that counts days; 0 stands for none.
func (s *Settings) Number(name string) int { v, _ := s.values[name].(int64); return int(v) }

// List returns a setting that is a list of words. It must not be changed.
func (s *Settings) List(name string) []string { v, _ := s.values[name].([]string); return v }

// Value returns a setting as it is kept: string, bool, int64 or []string; nil
// where there is no such setting. A list must not be changed.
func (s *Settings) Value(name string) any { return s.values[name] }
