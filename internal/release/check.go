package release

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"chartgate/internal/compile"
	"chartgate/internal/pdp"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"
)

// Watcher is told when a step begins, with took 0, and when it is done.
type Watcher func(step string, took time.Duration)

// step is one thing that a check looks at. It is done only where the steps that
// it needs found nothing: what they found would only show again, in other words.
type step struct {
	name  string
	form  bool // it is about how the policies are written, not what they decide
	needs []string
	look  func(*inspection, context.Context) (findings []Finding, detail string, err error)
}

// steps are what a check does, in order: a step comes after those that it needs.
// One that is added here is in every check: of a folder, of a draft, of a release.
var steps = []step{
	{"read", true, nil, (*inspection).read},
	{"parse", true, []string{"read"}, (*inspection).parse},
	{"format", true, []string{"parse"}, (*inspection).format},
	{"metadata", true, []string{"parse"}, (*inspection).metadata},
	{"tables", true, []string{"parse"}, (*inspection).tables},
	{"capabilities", true, []string{"parse"}, (*inspection).capabilities},
	{"compile", true, []string{"capabilities"}, (*inspection).compiles},
	{"types", true, []string{"compile"}, (*inspection).types},
	{"references", true, []string{"types", "tables"}, (*inspection).references},
	{"words", true, []string{"references"}, (*inspection).words},
	{"reachable", true, []string{"references"}, (*inspection).reachable},
	{"translation", true, []string{"references"}, (*inspection).translation},
	{"dead", false, []string{"words", "translation"}, (*inspection).dead},
	{"unknowns", false, []string{"words", "translation"}, (*inspection).unknowns},
	{"cases", false, []string{"words"}, (*inspection).runCases},
	{"tests", false, []string{"references"}, (*inspection).tests},
	{"situations", false, []string{"cases", "translation"}, (*inspection).situations},
	{"properties", false, []string{"words", "translation"}, (*inspection).properties},
}

// inspection is a check while it is done: what its steps found out, for the
// ones that come later.
type inspection struct {
	policies fs.FS
	files    map[string][]byte      // what can be shown of, by path
	nodes    map[string]*yaml.Node  // of the tables, by path
	modules  map[string]*ast.Module // as they are written, by path
	beside   map[string]*ast.Module // properties/: they say what must hold, and decide nothing
	testing  map[string]*ast.Module // *_test.rego
	bundle   *pdp.Bundle
	engine   *pdp.Engine
	faults   ast.Errors // of the compiler
	formulas *compile.Policy
	finder   *compile.Finder
	cases    []Case
	revision string
}

// Check looks at everything that can be known of a folder of policies before
// they are live. An error means that it could not look: what is wrong with the
// policies is in the report. watch may be nil.
func Check(ctx context.Context, policies fs.FS, watch Watcher) (*Report, error) {
	return inspect(ctx, policies, watch, steps)
}

// CheckForm is Check for the steps that are about how the policies are written.
func CheckForm(ctx context.Context, policies fs.FS) (*Report, error) {
	return inspect(ctx, policies, nil, slices.DeleteFunc(slices.Clone(steps), func(s step) bool { return !s.form }))
}

func inspect(ctx context.Context, policies fs.FS, watch Watcher, steps []step) (*Report, error) {
	in := &inspection{policies: policies}
	report := &Report{OK: true}
	at := map[string]Step{}
	for _, s := range steps {
		done := Step{Name: s.name, Findings: []Finding{}}
		for _, need := range s.needs {
			if before, known := at[need]; known && !before.OK && done.Skipped == "" {
				done.Skipped = cmp.Or(before.Skipped, need)
			}
		}
		if done.Skipped == "" {
			if err := in.do(ctx, s, &done, watch); err != nil {
				return nil, err
			}
		}
		at[s.name] = done
		report.Steps = append(report.Steps, done)
		report.OK = report.OK && done.OK
	}
	report.Revision = in.revision
	return report, nil
}

func (in *inspection) do(ctx context.Context, s step, done *Step, watch Watcher) error {
	began := time.Now()
	if watch != nil {
		watch(s.name, 0)
		defer func() { watch(s.name, time.Since(began)) }()
	}
	findings, detail, err := s.look(in, ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("check: %s: %w", s.name, err)
	}
	done.OK, done.Detail = len(findings) == 0, detail
	findings = once(findings)
	kept := min(len(findings), maxFindings)
	done.Findings, done.More = append(done.Findings, findings[:kept]...), len(findings)-kept
	return nil
}

// once drops findings that say the same of the same place, or the same at all
// where they give no place: one cause is told once.
func once(findings []Finding) []Finding {
	seen := map[string]bool{}
	return slices.DeleteFunc(findings, func(f Finding) bool {
		key := fmt.Sprint(f.File, f.Line, f.Column, f.Text)
		was := seen[key]
		seen[key] = true
		return was
	})
}

// at makes a finding about a place in a rule.
func (in *inspection) at(loc *ast.Location, text, hint string) Finding {
	if loc == nil {
		return Finding{File: ".", Text: text, Hint: hint}
	}
	return in.onLine(strings.TrimPrefix(loc.File, "/"), loc.Row, loc.Col, text, hint)
}

// onLine makes a finding about a line of any file.
func (in *inspection) onLine(file string, line, column int, text, hint string) Finding {
	f := Finding{File: file, Line: line, Column: column, Text: text, Hint: hint}
	lines := strings.Split(string(in.files[file]), "\n")
	if line > 0 && line <= len(lines) {
		f.Excerpt = strings.TrimRight(lines[line-1], "\r")
	}
	if f.Excerpt == "" {
		f.Column = 0
	}
	return f
}

// of adds the id of the rule that a finding is about.
func (f Finding) of(rule *ast.Rule) Finding {
	if a := ownAnnotation(rule); a != nil {
		f.Rule, _ = a.Custom["id"].(string)
	}
	return f
}
