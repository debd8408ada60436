package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"chartgate/internal/release"
)

// saidWith runs a command and returns what it printed and its status.
func saidWith(t *testing.T, arguments ...string) (string, int) {
	t.Helper()
	said, err := command(nil, arguments...).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(said), failed.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(said), 0
}

// policy diff and policy properties end with 0, 1 or 2, as scripts need it.
func TestPolicyDifferenceCommands(t *testing.T) {
	t.Parallel()
	const policies = "../../policies"
	edit := func(old, new string) string {
		folder := t.TempDir()
		if err := os.CopyFS(folder, os.DirFS(policies)); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(folder, "rules/grants/grants.rego")
		raw, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(raw), old) {
			t.Fatal(err, old)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(raw), old, new, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		return folder
	}
	const end = "input.context.latest < input.grant.expires_at"
	forgot, endless := edit("\t"+end+"\n", ""), edit(end, `startswith(input.grant.scope, "coll")`)

	if said, status := saidWith(t, "policy", "diff", "../../bundles/default.tar.gz", policies); status != 0 || !strings.Contains(said, "proved equal") {
		t.Errorf("%d\n%s", status, said)
	}
	if said, status := saidWith(t, "policy", "diff", policies, forgot); status != 1 || !strings.Contains(said, "now ALLOWED through a grant: note.write, when: ") || !strings.Contains(said, "PGE: practitioner whose grant has ended") {
		t.Errorf("%d\n%s", status, said)
	}
	if said, status := saidWith(t, "policy", "diff", policies, endless); status != 2 || !strings.Contains(said, "rules/grants/grants.rego:") {
		t.Errorf("%d\n%s", status, said)
	}
	if _, status := saidWith(t, "policy", "diff", policies, "nowhere"); status != 2 {
		t.Error(status)
	}
	said, status := saidWith(t, "policy", "properties", "--json", forgot)
	var proofs []release.Proof
	if err := json.Unmarshal([]byte(said), &proofs); err != nil || status != 1 {
		t.Fatal(status, err)
	}
	for _, p := range proofs {
		if p.Proved == (p.ID == "ended_grant_never") {
			t.Errorf("%+v", p)
		}
	}
	if said, status := saidWith(t, "policy", "properties", forgot); status != 1 || !strings.Contains(said, "REFUTED   ended_grant_never") || !strings.Contains(said, "without input.grant: deny because no_basis") {
		t.Errorf("%d\n%s", status, said)
	}
}
