package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"

	"go.yaml.in/yaml/v3"
)

// Case is one question with the answer that the policies must give. What is
// asked is kept as the facts document, so that a case, a record and a live
// request go through the engine alike.
type Case struct {
	File     string
	Line     int
	Title    string // what is asked, in words
	Rules    []int  // the numbers in RULES.md that it shows
	Odd      bool   // its document is damaged on purpose and need not fit the schema
	Document map[string]any
	Want     Expectation
}

// Expectation is what a case pins: all of an answer but its sentences.
type Expectation struct {
	Allow      bool
	Code       string
	Bases      []string // in order; empty on a denial
	ValidUntil string   // in authz.TimeLayout; "" where the answer has no end
}

// caseFile is a file of cases/: who is in it, and what is asked.
type caseFile struct {
	Title  string      `yaml:"title"`
	Cases  []yaml.Node `yaml:"cases"`
	Matrix *matrix     `yaml:"matrix"`
	cast   `yaml:",inline"`
}

// caseSpec is one line of a case file. README.md of the policies describes it.
type caseSpec struct {
	Rule    numbers        `yaml:"rule"`
	Who     subject        `yaml:"who"`
	Does    string         `yaml:"does"`
	To      target         `yaml:"to"`
	In      string         `yaml:"in"`      // the profile that was entered in the portal
	With    map[string]any `yaml:"with"`    // properties that the request states besides
	When    map[string]any `yaml:"when"`    // settings that differ
	At      string         `yaml:"at"`      // the time, counted from the file's now
	But     map[string]any `yaml:"but"`     // facts replaced by something odd, by path
	Without []string       `yaml:"without"` // facts that are missing, by path
	Answer  string         `yaml:"answer"`
	Because []string       `yaml:"because"`
	Until   string         `yaml:"until"`
}

// ReadCases reads every cases/*.yaml under a folder of policies, in the order
// of their names. The error says which file and line cannot be read.
func ReadCases(policies fs.FS) ([]Case, error) {
	names, err := fs.Glob(policies, "cases/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("cases: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("cases: there is no cases/*.yaml")
	}
	var all []Case
	for _, name := range names {
		raw, err := fs.ReadFile(policies, name)
		if err != nil {
			return nil, fmt.Errorf("cases: %w", err)
		}
		cases, err := readCaseFile(name, raw)
		if err != nil {
			return nil, err
		}
		all = append(all, cases...)
	}
	return all, nil
}

func readCaseFile(name string, raw []byte) ([]Case, error) {
	var file caseFile
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := file.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var cases []Case
	for i := range file.Cases {
		c, err := file.readCase(&file.Cases[i])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, file.Cases[i].Line, err)
		}
		c.File, c.Line = name, file.Cases[i].Line
		cases = append(cases, c)
	}
	if file.Matrix != nil {
		cells, err := file.Matrix.cases(&file.cast)
		if err != nil {
			return nil, fmt.Errorf("%s:%w", name, err)
		}
		for _, c := range cells {
			c.File = name
			cases = append(cases, c)
		}
	}
	return cases, nil
}

func (f *caseFile) readCase(node *yaml.Node) (Case, error) {
	var spec caseSpec
	if err := strict(node, &spec); err != nil {
		return Case{}, err
	}
	c := Case{Rules: spec.Rule, Odd: len(spec.But)+len(spec.Without) > 0,
		Title: fmt.Sprintf("%s %s %s", spec.Who.id, spec.Does, orElse(spec.To.name, spec.To.resource.ID))}
	r, err := f.request(spec)
	if err != nil {
		return c, err
	}
	now, err := when(f.now, orElse(spec.At, "now"))
	if err != nil {
		return c, fmt.Errorf("at: %w", err)
	}
	facts, err := f.facts(r, now, spec.When)
	if err != nil {
		return c, err
	}
	c.Document = authz.Document(r, facts)
	for _, path := range slices.Sorted(maps.Keys(spec.But)) {
		if err := replace(c.Document, path, spec.But[path]); err != nil {
			return c, fmt.Errorf("but: %w", err)
		}
	}
	for _, path := range spec.Without {
		if err := replace(c.Document, path, removed); err != nil {
			return c, fmt.Errorf("without: %w", err)
		}
	}
	c.Want, err = f.expectation(spec)
	return c, err
}

func (f *caseFile) request(spec caseSpec) (authz.Request, error) {
	r := authz.Request{Subject: authz.Subject{Type: spec.Who.kind, ID: spec.Who.id}, Action: spec.Does, Resource: spec.To.resource}
	if _, ok := f.Members[spec.Who.id]; spec.Who.named && !ok {
		if !f.hasLogin(spec.Who.id) {
			return r, fmt.Errorf("who: nobody in this file is called %q", spec.Who.id)
		}
		r.Subject.Type = authz.SubjectPortal
	}
	if _, ok := f.Clients[spec.In]; spec.In != "" && !ok {
		return r, fmt.Errorf("in: there is no client %q", spec.In)
	}
	r.Context.PortalProfile = spec.In
	if spec.To.name != "" {
		var err error
		if r.Resource, err = f.resource(spec.To.name, spec.Who.id); err != nil {
			return r, fmt.Errorf("to: %w", err)
		}
	}
	if len(spec.With) > 0 {
		if r.Resource.Properties == nil {
			r.Resource.Properties = authz.Properties{}
		}
		maps.Copy(r.Resource.Properties, spec.With)
	}
	return r, nil
}

func (f *caseFile) expectation(spec caseSpec) (Expectation, error) {
	want := Expectation{Bases: []string{}}
	switch {
	case spec.Answer == "allow" && len(spec.Because) > 0:
		want.Allow, want.Code, want.Bases = true, spec.Because[0], spec.Because
	case spec.Answer == "deny" && len(spec.Because) == 1 && spec.Until == "":
		want.Code = spec.Because[0]
	default:
		return want, errors.New(`want "answer: allow" because of all bases in order, or "answer: deny" because of one code`)
	}
	if spec.Until != "" {
		until, err := when(f.now, spec.Until)
		if err != nil {
			return want, fmt.Errorf("until: %w", err)
		}
		want.ValidUntil = authz.FormatTime(until)
	}
	return want, nil
}

// removed, given to replace, takes a member away.
var removed = new(int)

// replace sets the member at a path such as "grant.expires_at", or removes it.
func replace(document map[string]any, path string, value any) error {
	names := strings.Split(path, ".")
	last := len(names) - 1
	for _, name := range names[:last] {
		next, ok := document[name].(map[string]any)
		if !ok {
			return fmt.Errorf("there is no %s in the facts of this case", path)
		}
		document = next
	}
	if _, ok := document[names[last]]; value == removed && !ok {
		return fmt.Errorf("there is no %s in the facts of this case", path)
	}
	if value == removed {
		delete(document, names[last])
		return nil
	}
	if t, ok := value.(time.Time); ok {
		value = authz.FormatTime(t)
	}
	document[names[last]] = value
	return nil
}

// numbers is one number or a list of them.
type numbers []int

func (n *numbers) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return strict(node, (*[]int)(n))
	}
	*n = make(numbers, 1)
	return strict(node, &(*n)[0])
}

// subject is the name of a member or a portal login of the file, or {type, id} of anybody.
type subject struct {
	kind, id string
	named    bool
}

func (s *subject) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*s = subject{kind: authz.SubjectUser, id: node.Value, named: true}
		return nil
	}
	var spec struct{ Type, ID string }
	err := strict(node, &spec)
	*s = subject{kind: spec.Type, id: spec.ID}
	return err
}

// target is the name of something in the file, or {type, id, properties} of
// anything.
type target struct {
	name     string
	resource authz.Resource
}

func (t *target) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		t.name = node.Value
		return nil
	}
	var spec struct {
		Type, ID   string
		Properties map[string]any
	}
	err := strict(node, &spec)
	t.resource = authz.Resource{Type: spec.Type, ID: spec.ID, Properties: spec.Properties}
	return err
}
