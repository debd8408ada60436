package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"chartgate/internal/pdp"
	"chartgate/internal/release"
)

type policyBuild struct {
	Folder string `arg:"" optional:"" default:"policies" help:"A folder of policies."`
	Output string `short:"o" default:"bundles/default.tar.gz" placeholder:"FILE" help:"Where the bundle goes; the public key of its signature goes beside it, as .pub."`
}

// Run writes the bundle once it is known to compile and to pass its own checks.
// Where the same content stands there already, signed, nothing is written.
func (c *policyBuild) Run(ctx context.Context) error {
	raw, err := release.Build(os.DirFS(c.Folder))
	if err != nil {
		return err
	}
	bundle, err := pdp.ReadArchive(raw)
	if err != nil {
		return err
	}
	if _, err := pdp.NewChecked(ctx, bundle); err != nil {
		return err
	}
	if signedAs(c.Output, c.key(), bundle.Revision) {
		fmt.Printf("%s: revision %s, as it was\n", c.Output, bundle.Revision)
		return nil
	}
	signed, public, err := release.SignShipped(raw)
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{c.Output: signed, c.key(): public} {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	}
	fmt.Printf("%s: revision %s, %d bytes\n", c.Output, bundle.Revision, len(signed))
	return nil
}

func (c *policyBuild) key() string {
	return strings.TrimSuffix(strings.TrimSuffix(c.Output, ".tar.gz"), ".tgz") + ".pub"
}

// signedAs reports whether a file is a bundle of this content, and signed with
// the key beside it.
func signedAs(bundle, key, content string) bool {
	raw, err := os.ReadFile(bundle)
	if err != nil {
		return false
	}
	public, err := os.ReadFile(key)
	if err != nil || len(bytes.TrimSpace(public)) == 0 {
		return false
	}
	keys, err := pdp.ReadKeys()
	if err != nil {
		return false
	}
	if keys, err = keys.WithShipped(public, content); err != nil {
		return false
	}
	_, seal, err := pdp.ReadSigned(raw, keys, "")
	return err == nil && seal.Content == content
}
