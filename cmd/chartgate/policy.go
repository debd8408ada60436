package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/pdp"
	"chartgate/internal/release"
)

// policyCommand works on a folder of policies.
type policyCommand struct {
	Check       policyCheck      `cmd:"" help:"Look at everything that can be known of the policies before they are live."`
	Watch       policyWatch      `cmd:"" help:"Check again whenever a file changes, and say what changed."`
	Test        policyTest       `cmd:"" help:"Check the form of the policies and run their cases."`
	Explain     policyExplain    `cmd:"" help:"Say what is known in a case, what comes out, and which condition stands in the way."`
	New         policyNew        `cmd:"" help:"Begin something new."`
	Format      policyFormat     `cmd:"" help:"Write the rules as opa fmt does."`
	Schema      policySchema     `cmd:"" help:"Print what a rule can read and a table can hold, as JSON Schema."`
	Diff        policyDiff       `cmd:"" help:"Say every situation in which two policies answer differently."`
	Properties  policyProperties `cmd:"" help:"Prove the properties of a policy for all situations, or show one in which they do not hold."`
	Build       policyBuild      `cmd:"" help:"Make a bundle, signed with a key that nobody keeps. The same policies give the same bytes, but for the signature."`
	Replay      policyReplay     `cmd:"" help:"Decide what is on record again: who and what would have gained or lost."`
	BlastRadius policyBlast      `cmd:"" help:"Which members would gain or lose which clients, today."`
	Settings    policySettings   `cmd:"" help:"What other settings would change in a practice. Nothing is written."`

	Submit   policySubmit   `cmd:"" help:"Send a folder of policies to control as a draft, and have all steps run on it."`
	Releases policyReleases `cmd:"" help:"List drafts and releases, and which one is active."`
	Approve  policyApprove  `cmd:"" help:"Show the evidence of a draft of somebody else; with its digest, approve and sign it."`
	Activate policyActivate `cmd:"" help:"Let an approved release decide: at once, in the shadow, or for a share of the practices."`
	Withdraw policyWithdraw `cmd:"" help:"Take a candidate back."`
	Rollback policyRollback `cmd:"" help:"Activate an earlier release again."`
	Keygen   policyKeygen   `cmd:"" help:"Make the key that control signs releases with, and its public half for sidecars."`
}

type policyTest struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
}

// Run prints every finding and every case that fails, each with its place.
func (c *policyTest) Run(ctx context.Context) error {
	policies, err := folder(c.Folder)
	if err != nil {
		return err
	}
	report, err := release.CheckForm(ctx, policies)
	if err != nil {
		return err
	}
	for _, finding := range report.Findings() {
		finding.Write(os.Stdout, "")
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
	fmt.Printf("%d cases, %d failed; %d findings\n", len(results), failed, report.Count())
	switch {
	case len(results) == 0:
		return fmt.Errorf("%s/cases holds no cases: nothing is shown", c.Folder)
	case failed > 0 || !report.OK:
		return errors.New("the policies are not as they should be")
	}
	return nil
}

// policyNamed is certified of a folder or a bundle; "" is the policy that is
// built in.
func policyNamed(ctx context.Context, name string) (*pdp.Engine, error) {
	if name != "" {
		return certified(ctx, name)
	}
	engine, err := halves.BuiltIn(ctx, pdp.DecisionPath)
	if err != nil {
		return nil, err
	}
	return certify(ctx, "the bundle in this program", engine)
}

// certified loads a policy and certifies it. One that cannot be is decided by
// OPA, which is slower, and is said so.
func certified(ctx context.Context, name string) (*pdp.Engine, error) {
	bundle, err := pdp.LoadBundle(name)
	if err != nil {
		return nil, err
	}
	engine, err := pdp.NewEngine(ctx, bundle, pdp.DecisionPath)
	if err != nil {
		return nil, err
	}
	return certify(ctx, name, engine)
}

func certify(ctx context.Context, name string, engine *pdp.Engine) (*pdp.Engine, error) {
	switch report, err := engine.Certify(ctx); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s has no certified program, OPA decides: %v\n", name, err)
	default:
		fmt.Fprintf(os.Stderr, "%s: revision %s, certified: %s\n", name, engine.Revision(), report)
	}
	return engine, nil
}

// writeJSON writes v for people and programs.
func writeJSON(out io.Writer, v any) error {
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false) // nothing here goes into a page
	lines.SetIndent("", "  ")
	return lines.Encode(v)
}
