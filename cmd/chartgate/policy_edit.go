package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"chartgate/internal/release"
)

type policyNew struct {
	Rule policyNewRule `cmd:"" help:"Begin a rule, with its METADATA and a file of cases. It holds for nobody until it is filled in."`
}

type policyNewRule struct {
	Topic  string `arg:"" help:"The folder under rules/, such as assigned; one that is not there is made."`
	Name   string `arg:"" help:"What the rule is called, such as weekend_cover."`
	Denial bool   `help:"Make a denial, not a basis."`
	Folder string `default:"policies" help:"A folder of policies."`
}

// Run writes the files and says what is left to do.
func (c *policyNewRule) Run() error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	draft, err := release.NewRule(policies, c.Topic, c.Name, c.Denial)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(draft.Files)) {
		place := filepath.Join(c.Folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
			return fmt.Errorf("new rule: %w", err)
		}
		file, err := os.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return fmt.Errorf("new rule: %w", err)
		}
		_, err = file.Write(draft.Files[name])
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("new rule: %w", err)
		}
		fmt.Println("wrote", place)
	}
	for i, step := range draft.Next {
		fmt.Printf("%d. %s\n", i+1, step)
	}
	return nil
}

type policyExplain struct {
	Case   string `arg:"" help:"A file of cases and a line, such as cases/time.yaml:22; a number; or a part of what is asked."`
	Folder string `default:"policies" help:"A folder of policies."`
}

// manyCases is how many cases are explained, or named, at once.
const manyCases = 12

// Run explains the case, or those of several that fail.
func (c *policyExplain) Run(ctx context.Context) error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	all, err := release.ReadCases(policies)
	if err != nil {
		return err
	}
	found := release.FindCases(all, c.Case)
	if len(found) == 0 {
		return fmt.Errorf("there is no case %q: want a file and line, a number from 1 to %d, or a part of what is asked", c.Case, len(all))
	}
	var chosen []*release.Why
	for _, one := range found[:min(len(found), manyCases)] {
		why, err := release.ExplainCase(ctx, policies, one)
		if err != nil {
			return err
		}
		if len(found) == 1 || !why.Result.OK() {
			chosen = append(chosen, why)
		}
	}
	if len(chosen) == 0 {
		for _, one := range found[:min(len(found), manyCases)] {
			fmt.Printf("%s:%d: %s\n", one.File, one.Line, one.Title)
		}
		return fmt.Errorf("%d cases are meant, and all that were looked at hold: name one by what is asked", len(found))
	}
	for i, why := range chosen {
		if i > 0 {
			fmt.Println()
		}
		why.Write(os.Stdout)
	}
	return nil
}

type policyFormat struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
}

// Run writes the files that are not formatted, and names them.
func (c *policyFormat) Run() error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	return fs.WalkDir(policies, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".rego" {
			return err
		}
		source, err := fs.ReadFile(policies, name)
		if err != nil {
			return err
		}
		formatted, err := release.Format(name, source)
		if err != nil || bytes.Equal(source, formatted) {
			return err
		}
		place := filepath.Join(c.Folder, filepath.FromSlash(name))
		if err := os.WriteFile(place, formatted, 0o644); err != nil {
			return fmt.Errorf("format: %w", err)
		}
		fmt.Println(place)
		return nil
	})
}

type policySchema struct {
	Folder  string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
	Example bool   `help:"Print a facts document with every fact instead: what editors complete facts from, as policies/input.json."`
}

// Run prints one JSON document.
func (c *policySchema) Run() error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	document := release.Schemas
	if c.Example {
		document = release.Example
	}
	out, err := document(policies)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}
