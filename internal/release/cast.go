package release

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"

	"go.yaml.in/yaml/v3"
)

// homePractice is the practice of everybody in a case file who names none.
const homePractice = "practice-1"

// asker stands in a case file for whoever asks, where a note names its author.
const asker = "asker"

// cast is who and what the cases of one file are about: what would be in the
// database when they are asked.
type cast struct {
	Now           string                       `yaml:"now"`
	Practices     map[string]practiceSpec      `yaml:"practices"`
	Members       map[string]memberships       `yaml:"members"`
	Clients       map[string]clientSpec        `yaml:"clients"`
	Grants        []grantSpec                  `yaml:"grants"`
	Portal        []portalSpec                 `yaml:"portal"`
	Notes         map[string]map[string]any    `yaml:"notes"`
	Documents     map[string]map[string]any    `yaml:"documents"`
	FormTemplates map[string]map[string]string `yaml:"form_templates"`

	now time.Time
}

type practiceSpec struct {
	Preset   string         `yaml:"preset"`
	Settings map[string]any `yaml:"settings"`
	Features *[]string      `yaml:"features"`
}

type memberSpec struct {
	Practice           string   `yaml:"practice"`
	Roles              []string `yaml:"roles"`
	Status             string   `yaml:"status"`
	Owner              bool     `yaml:"owner"`
	FullClinicalAccess bool     `yaml:"full_clinical_access"`
	BillingEnabled     *bool    `yaml:"billing_enabled"`
}

type clientSpec struct {
	Practice string    `yaml:"practice"`
	Assigned string    `yaml:"assigned"`
	Status   string    `yaml:"status"`
	Features *[]string `yaml:"features"`
}

type grantSpec struct {
	User   string `yaml:"user"`
	Client string `yaml:"client"`
	Scope  string `yaml:"scope"`
	From   string `yaml:"from"`
	Until  string `yaml:"until"`
}

// memberships of one user: one, or a list with one for each practice.
type memberships []memberSpec

func (m *memberships) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return strict(node, (*[]memberSpec)(m))
	}
	*m = make(memberships, 1)
	return strict(node, &(*m)[0])
}

// strict decodes node and refuses members that into does not have.
func strict(node *yaml.Node, into any) error {
	raw, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	return d.Decode(into)
}

// check fills in what a file leaves out and refuses names that lead nowhere,
// since a case about nobody would be denied, and so pass, for the wrong reason.
func (c *cast) check() error {
	var err error
	if c.now, err = time.Parse(time.RFC3339, c.Now); err != nil {
		return fmt.Errorf("now: want a time such as 2026-03-02T10:00:00Z, not %q", c.Now)
	}
	if len(c.Practices) == 0 {
		c.Practices = map[string]practiceSpec{homePractice: {}}
	}
	for _, user := range slices.Sorted(maps.Keys(c.Members)) {
		for i := range c.Members[user] {
			m := &c.Members[user][i]
			m.Practice, m.Status = orElse(m.Practice, homePractice), orElse(m.Status, authz.MemberActive)
			if _, ok := c.Practices[m.Practice]; !ok {
				return fmt.Errorf("members: %s: there is no practice %q", user, m.Practice)
			}
			for _, role := range m.Roles {
				if !slices.Contains(authz.Roles, role) {
					return fmt.Errorf("members: %s: there is no role %q", user, role)
				}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.Clients)) {
		client := c.Clients[id]
		client.Practice, client.Status = orElse(client.Practice, homePractice), orElse(client.Status, authz.ClientActive)
		if _, ok := c.Practices[client.Practice]; !ok {
			return fmt.Errorf("clients: %s: there is no practice %q", id, client.Practice)
		}
		if _, ok := c.Members[client.Assigned]; client.Assigned != "" && !ok {
			return fmt.Errorf("clients: %s: there is no member %q", id, client.Assigned)
		}
		c.Clients[id] = client
	}
	for _, g := range c.Grants {
		if _, ok := c.Members[g.User]; !ok {
			return fmt.Errorf("grants: there is no member %q", g.User)
		}
		if _, ok := c.Clients[g.Client]; !ok {
			return fmt.Errorf("grants: there is no client %q", g.Client)
		}
	}
	return c.checkPortal()
}

func orElse(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}

// facts gathers what would be known of r at time now, as the fact source does:
// the membership in the practice of the resource, its client, the subject's
// grant there, and the practice's settings with what the case changes of them.
func (c *cast) facts(r authz.Request, now time.Time, changed map[string]any) (authz.Facts, error) {
	f := authz.Facts{Now: now}
	practice := r.Resource.Practice()
	if id := r.Resource.Client(); id != "" {
		client, ok := c.Clients[id]
		if !ok {
			return f, nil
		}
		practice = client.Practice
		f.Client = &authz.Client{ID: id, Practice: practice, Assigned: client.Assigned, Status: client.Status}
	}
	spec, ok := c.Practices[practice]
	if !ok {
		return f, nil
	}
	f.Practice = practice
	overrides := map[string]any{}
	maps.Copy(overrides, spec.Settings)
	maps.Copy(overrides, changed)
	var err error
	if f.Settings, err = authz.NewSettings(orElse(spec.Preset, authz.DefaultPreset), overrides); err != nil {
		return f, err
	}
	if r.Subject.Type == authz.SubjectPortal && f.Client != nil {
		f.Portal = c.portal(r.Subject.ID, f.Client.ID, practice)
	}
	if r.Subject.Type != authz.SubjectUser {
		return f, nil
	}
	for _, m := range c.Members[r.Subject.ID] {
		if m.Practice == practice {
			f.Member = &authz.Member{ID: r.Subject.ID + "@" + practice, User: r.Subject.ID, Practice: practice,
				Roles: m.Roles, Status: m.Status, Owner: m.Owner, FullClinicalAccess: m.FullClinicalAccess,
				BillingEnabled: m.BillingEnabled == nil || *m.BillingEnabled}
		}
	}
	if f.Client != nil {
		f.Grant, err = c.grant(r.Subject.ID, f.Client.ID, now)
	}
	return f, err
}

// grant is the grant in force at time now, else the next to come, else the
// last that ended (authz.Grant). Its times count from the file's own now.
func (c *cast) grant(user, client string, now time.Time) (*authz.Grant, error) {
	var best *authz.Grant
	rank := func(g *authz.Grant) int {
		switch {
		case g.NotBefore.After(now):
			return 1
		case now.Before(g.ExpiresAt):
			return 2
		}
		return 0
	}
	for _, spec := range c.Grants {
		if spec.User != user || spec.Client != client {
			continue
		}
		from, err := when(c.now, orElse(spec.From, "-30d"))
		if err != nil {
			return nil, fmt.Errorf("grants: from: %w", err)
		}
		until, err := when(c.now, orElse(spec.Until, "never"))
		if err != nil {
			return nil, fmt.Errorf("grants: until: %w", err)
		}
		g := &authz.Grant{Scope: orElse(spec.Scope, authz.ScopeCollaborate), NotBefore: from, ExpiresAt: until}
		if best == nil || rank(g) > rank(best) {
			best = g
		}
	}
	return best, nil
}

var offset = regexp.MustCompile(`^([+-])(?:(\d+)d)?((?:\d+(?:h|m|s|ms))*)$`)

// when reads a time that counts from now: "now", "never", or a distance such as
// "-30d", "+1h" or "+13d23h59m".
func when(now time.Time, text string) (time.Time, error) {
	switch text {
	case "now":
		return now, nil
	case "never":
		return authz.NoEnd, nil
	}
	parts := offset.FindStringSubmatch(text)
	if parts == nil || parts[2]+parts[3] == "" {
		return now, fmt.Errorf(`want "now", "never" or a distance such as "-30d" or "+1h", not %q`, text)
	}
	days, _ := strconv.Atoi(parts[2])
	rest, _ := time.ParseDuration(orElse(parts[3], "0s"))
	distance := time.Duration(days)*24*time.Hour + rest
	if parts[1] == "-" {
		distance = -distance
	}
	return now.Add(distance), nil
}

// resource finds what a case names, so that a case need not repeat its properties.
func (c *cast) resource(name, asks string) (authz.Resource, error) {
	r := authz.Resource{ID: name}
	var found []string
	add := func(kind string, properties map[string]any) {
		found, r.Type, r.Properties = append(found, kind), kind, authz.Properties(maps.Clone(properties))
	}
	if _, ok := c.Clients[name]; ok {
		add(authz.ResourceClient, nil)
	}
	if _, ok := c.Practices[name]; ok {
		add(authz.ResourcePractice, nil)
	}
	if note, ok := c.Notes[name]; ok {
		add(authz.ResourceNote, note)
		if r.Properties["author"] == asker {
			r.Properties["author"] = asks
		}
	}
	if document, ok := c.Documents[name]; ok {
		add(authz.ResourceDocument, document)
	}
	if template, ok := c.FormTemplates[name]; ok {
		add(authz.ResourceFormTemplate, map[string]any{"practice": orElse(template["practice"], homePractice)})
	}
	if m, ok := c.Members[name]; ok {
		add(authz.ResourceMember, map[string]any{"practice": m[0].Practice})
	}
	switch len(found) {
	case 1:
		return r, nil
	case 0:
		return r, fmt.Errorf("nothing in this file is called %q", name)
	}
	return r, fmt.Errorf("%q is several things in this file: %s", name, strings.Join(found, ", "))
}
