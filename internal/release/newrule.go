package release

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Draft is a rule that was begun: files to write, and what is left to do.
type Draft struct {
	Files map[string][]byte // by path within the policies
	Next  []string          // what is to be done by hand, in order
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// NewRule begins a rule under rules/<topic>/ and a file of cases for it. What it
// writes is well formed and holds for nothing and nobody until its conditions
// are filled in. A topic that exists keeps its package; a rule of a basis joins
// the others of that basis there. denial makes a denial instead.
func NewRule(policies fs.FS, topic, name string, denial bool) (*Draft, error) {
	if !plainName.MatchString(topic) || !plainName.MatchString(name) {
		return nil, errors.New("topic and name: want small letters, digits and _, such as care_team")
	}
	exists, _ := fs.Glob(policies, "rules/"+topic+"/*.rego")
	id := topic + "_" + name
	rule, cases := path.Join("rules", topic, name+".rego"), path.Join("cases", id+".yaml")
	for _, file := range []string{rule, cases} {
		if _, err := fs.Stat(policies, file); err == nil {
			return nil, fmt.Errorf("%s is there already", file)
		}
	}
	text := ""
	if len(exists) == 0 {
		text = fmt.Sprintf(packageText, inWords(topic), topic)
	} else {
		text = fmt.Sprintf("package rules.%s\n", topic)
	}
	d := &Draft{Files: map[string][]byte{cases: fmt.Appendf(nil, casesText, inWords(id))}}
	if denial {
		text += fmt.Sprintf(denialText, inWords(id), id, name, name, inWords(id), id, name)
	} else {
		text += fmt.Sprintf(basisText, inWords(id), id)
	}
	formatted, err := Format(rule, []byte(text))
	if err != nil {
		return nil, err
	}
	d.Files[rule] = formatted
	above, _, _ := strings.Cut(string(formatted), neverHolds)
	line := 1 + strings.Count(above, "\n")
	d.Next = []string{fmt.Sprintf("%s:%d: write the conditions in the place of the one that never holds, and the texts above", rule, line)}
	switch {
	case denial:
		d.Next = append(d.Next, fmt.Sprintf("authz/authz.rego: add, with METADATA above it: denials contains %q if rules.%s.%s", name, topic, name),
			fmt.Sprintf("tables/order/data.yaml: put %s at its place among the denials; tables/reasons/data.yaml: write its two sentences", name))
	case !slices.ContainsFunc(exists, func(file string) bool {
		source, err := fs.ReadFile(policies, file)
		return err == nil && strings.Contains(string(source), "\npermit if")
	}):
		d.Next = append(d.Next, fmt.Sprintf("authz/authz.rego: add, with METADATA above it: bases contains %q if rules.%s.permit", topic, topic),
			fmt.Sprintf("tables/order/data.yaml: put %s at its place among the bases; tables/reasons/data.yaml: write its two sentences", topic))
	}
	d.Next = append(d.Next, cases+": say what should come out", "chartgate policy check")
	return d, nil
}

func inWords(name string) string { return strings.ReplaceAll(name, "_", " ") }

// neverHolds is the condition of a rule that is not written yet.
const neverHolds = `input.action.name == ""`

const packageText = `# METADATA
# title: "Topic: %[1]s"
# description: Say here what this topic is about, in words for people who write no rules.
# schemas:
#   - data.tables: schema.tables
package rules.%[2]s
`

const basisText = `
# METADATA
# title: "New rule: %s"
# description: Say here when it holds, and which rule of RULES.md it is.
# custom:
#   id: %s
#   because: say here, in a few words, why it is allowed
permit if {
	` + neverHolds + `
}
`

const denialText = `
# METADATA
# title: "New denial: %s"
# description: Say here what is refused, and which rule of RULES.md it is.
# custom:
#   id: %s
#   because: say here, in a few words, why it is refused
%s if not _%s_is_well

# METADATA
# title: "All is well: %s"
# description: Say here what must be known for it not to be refused.
# custom:
#   id: %s_is_well
_%s_is_well if {
	` + neverHolds + `
}
`

const casesText = `title: "What comes out of: %s"
now: 2026-03-02T10:00:00Z
members:
  practitioner-1: {roles: [practitioner]}
clients:
  client-1: {}
cases:
  # What comes out today. Say here what should, and who must still be refused.
  - {who: practitioner-1, does: chart.open, to: client-1, answer: deny, because: [no_basis]}
`
