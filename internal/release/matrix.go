package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/authz"

	"go.yaml.in/yaml/v3"
)

// matrix pins role × action, cell by cell. Each table is text: a head with the
// columns, "on <name>" before the actions that are asked on it, and a row for
// each action with one mark for each column.
type matrix struct {
	Columns map[string]column `yaml:"columns"`
	Marks   map[string]string `yaml:"marks"` // "allow", "allow because <basis>" or "deny because <code>"
	Tables  []matrixTable     `yaml:"tables"`
}

// column is a kind of member: who stands for it, and the basis by which a plain
// "allow" holds for him.
type column struct {
	Who   string `yaml:"who"`
	Basis string `yaml:"basis"`
}

type matrixTable struct {
	Title  string         `yaml:"title"`
	Preset string         `yaml:"preset"`
	When   map[string]any `yaml:"when"` // settings that differ from the preset
	Rows   yaml.Node      `yaml:"rows"`
}

// cases returns one case for each cell. An error begins with the line.
func (m *matrix) cases(c *cast) ([]Case, error) {
	var all []Case
	for _, table := range m.Tables {
		lines := strings.Split(strings.TrimRight(table.Rows.Value, "\n"), "\n")
		head := strings.Fields(lines[0])
		if want := slices.Sorted(maps.Keys(m.Columns)); len(head) == 0 || !slices.Equal(slices.Sorted(slices.Values(head[1:])), want) {
			return nil, fmt.Errorf("%d: the head of the table must name the columns %v", table.Rows.Line+1, want)
		}
		on := ""
		for i, line := range lines[1:] {
			number := table.Rows.Line + 2 + i // the text begins in the line after "rows:"
			fields := strings.Fields(line)
			if len(fields) == 2 && fields[0] == "on" {
				on = fields[1]
				continue
			}
			if len(fields) != len(head) {
				return nil, fmt.Errorf("%d: want an action and %d marks", number, len(head)-1)
			}
			for j, mark := range fields[1:] {
				cell, err := m.cell(c, table, fields[0], on, head[j+1], mark)
				if err != nil {
					return nil, fmt.Errorf("%d: %s: %w", number, head[j+1], err)
				}
				cell.Line = number
				all = append(all, cell)
			}
		}
	}
	return all, nil
}

func (m *matrix) cell(c *cast, table matrixTable, action, on, name, mark string) (Case, error) {
	who := m.Columns[name]
	cell := Case{Title: fmt.Sprintf("%s: %s (%s) %s %s", table.Title, who.Who, name, action, on)}
	if _, ok := c.Members[who.Who]; !ok {
		return cell, fmt.Errorf("nobody in this file is called %q", who.Who)
	}
	resource, err := c.resource(on, who.Who)
	if err != nil {
		return cell, err
	}
	r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: who.Who}, Action: action, Resource: resource}
	here := *c
	here.Practices = maps.Clone(c.Practices)
	for id, practice := range here.Practices {
		practice.Preset = orElse(table.Preset, practice.Preset)
		here.Practices[id] = practice
	}
	facts, err := here.facts(r, c.now, table.When)
	if err != nil {
		return cell, err
	}
	cell.Document = authz.Document(r, facts)
	cell.Want, err = m.expectation(mark, who)
	return cell, err
}

func (m *matrix) expectation(mark string, who column) (Expectation, error) {
	text, ok := m.Marks[mark]
	if !ok {
		return Expectation{}, fmt.Errorf("there is no mark %q", mark)
	}
	if text == "allow" {
		text += " because " + who.Basis
	}
	answer, because, _ := strings.Cut(text, " because ")
	codes := strings.Fields(because)
	switch {
	case answer == "allow" && len(codes) > 0:
		return Expectation{Allow: true, Code: codes[0], Bases: codes}, nil
	case answer == "deny" && len(codes) == 1:
		return Expectation{Code: codes[0], Bases: []string{}}, nil
	}
	return Expectation{}, fmt.Errorf(`mark %q: want "allow", "allow because <bases>" or "deny because <code>"`, mark)
}
