package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"chartgate/internal/pdp"
	"chartgate/internal/release"
)

// policyCommand works on a folder of policies.
type policyCommand struct {
	Test  policyTest  `cmd:"" help:"Check the form of the policies and run their cases."`
	Build policyBuild `cmd:"" help:"Make a bundle. The same policies give the same bytes."`
}

type policyTest struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
}

// Run prints every finding and every case that fails, each with its place.
func (c *policyTest) Run(ctx context.Context) error {
	policies := os.DirFS(c.Folder)
	findings, err := release.Check(ctx, policies)
	if err != nil {
		return err
	}
	for _, finding := range findings {
		fmt.Println(finding)
	}
	bundle, err := pdp.ReadFolder(policies)
	if err != nil {
		return err
	}
	engine, err := pdp.NewEngine(ctx, bundle, pdp.DecisionPath)
	if err != nil {
		return err
	}
	results, err := release.RunCases(ctx, engine, c.Folder)
	if err != nil {
		return err
	}
	failed := 0
	for _, result := range results {
		if !result.OK() {
			failed++
			fmt.Println(result.Fault())
		}
	}
	fmt.Printf("%d cases, %d failed; %d findings\n", len(results), failed, len(findings))
	switch {
	case len(results) == 0:
		return fmt.Errorf("%s/cases holds no cases: nothing is shown", c.Folder)
	case failed > 0 || len(findings) > 0:
		return errors.New("the policies are not as they should be")
	}
	return nil
}

type policyBuild struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
	Output string `short:"o" default:"bundles/default.tar.gz" placeholder:"FILE" help:"Where the bundle goes."`
}

// Run writes the bundle once it is known to compile.
func (c *policyBuild) Run(ctx context.Context) error {
	raw, err := release.Build(os.DirFS(c.Folder))
	if err != nil {
		return err
	}
	bundle, err := pdp.ReadArchive(raw)
	if err != nil {
		return err
	}
	if _, err := pdp.NewEngine(ctx, bundle, pdp.DecisionPath); err != nil {
		return err
	}
	if err := os.WriteFile(c.Output, raw, 0o644); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	fmt.Printf("%s: revision %s, %d bytes\n", c.Output, bundle.Revision, len(raw))
	return nil
}
