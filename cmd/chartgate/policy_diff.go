package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/release"
)

const (
	differs   = 1 // the policies differ; a property is refuted
	undecided = 2 // it could not be said
)

type policyDiff struct {
	From       string `arg:"" help:"A folder of policies or a bundle (.tar.gz)."`
	To         string `arg:"" help:"Another one."`
	FromPreset string `placeholder:"PRESET" help:"Compare under the settings of a preset: those before. Give --to-preset too."`
	ToPreset   string `placeholder:"PRESET" help:"The settings after."`
	JSON       bool   `help:"Print JSON, with an example of every change and the whole matrix."`
	Matrix     bool   `help:"Print every row of the matrix, not only those that change."`
}

// Run prints every situation in which two policies answer differently. It ends
// with 0 where none is, with 1 where some are, with 2 where it cannot be said.
func (c *policyDiff) Run(ctx context.Context) error {
	d, err := c.compare(ctx)
	if err != nil {
		return exitError{err, undecided}
	}
	if c.JSON {
		if err := writeJSON(os.Stdout, d); err != nil {
			return err
		}
	} else {
		d.Write(os.Stdout, c.Matrix)
	}
	switch {
	case len(d.Undecided) > 0:
		return exitError{errors.New("undecided: a part of the policies is beyond the comparison"), undecided}
	case !d.Equal:
		return exitError{errors.New("the policies differ"), differs}
	}
	return nil
}

func (c *policyDiff) compare(ctx context.Context) (*release.Difference, error) {
	from, err := pdp.LoadBundle(c.From)
	if err != nil {
		return nil, err
	}
	to, err := pdp.LoadBundle(c.To)
	if err != nil {
		return nil, err
	}
	if c.FromPreset == "" && c.ToPreset == "" {
		return release.Diff(ctx, from, to)
	}
	before, err := authz.NewSettings(c.FromPreset, nil)
	if err != nil {
		return nil, fmt.Errorf("--from-preset: %w", err)
	}
	after, err := authz.NewSettings(c.ToPreset, nil)
	if err != nil {
		return nil, fmt.Errorf("--to-preset: %w", err)
	}
	return release.DiffUnder(ctx, from, to, before, after)
}

type policyProperties struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies or a bundle (.tar.gz)."`
	JSON   bool   `help:"Print JSON."`
}

// Run proves every property, or prints a situation in which it does not hold. It
// ends with 0 where all are proved, 1 where one is refuted, else 2.
func (c *policyProperties) Run(ctx context.Context) error {
	bundle, err := pdp.LoadBundle(c.Folder)
	if err != nil {
		return exitError{err, undecided}
	}
	proofs, err := release.Prove(ctx, bundle)
	if err != nil {
		return exitError{err, undecided}
	}
	if c.JSON {
		if err := writeJSON(os.Stdout, proofs); err != nil {
			return err
		}
	}
	refuted, open := 0, 0
	for _, p := range proofs {
		word := "proved"
		switch {
		case len(p.Refuted) > 0:
			word = "REFUTED"
			refuted++
		case !p.Proved:
			word = "UNDECIDED"
			open++
		}
		if c.JSON {
			continue
		}
		fmt.Printf("%-9s %-28s %s\n", word, p.ID, p.Title)
		for _, example := range p.Refuted {
			fmt.Printf("          %s\n", example)
		}
		for _, o := range p.Undecided {
			fmt.Printf("          %s\n", o)
		}
	}
	switch {
	case refuted > 0:
		return exitError{fmt.Errorf("%d of %d properties do not hold", refuted, len(proofs)), differs}
	case open > 0:
		return exitError{fmt.Errorf("%d of %d properties are undecided", open, len(proofs)), undecided}
	}
	return nil
}
