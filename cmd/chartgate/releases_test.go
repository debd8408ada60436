package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"chartgate/internal/pdp"
)

var evidenceOf = regexp.MustCompile(`--evidence (sha256:[0-9a-f]{64})`)

// An edit goes through its whole life from the command line, by two people, and
// back again.
func TestReleasesFromTheCommandLine(t *testing.T) {
	t.Parallel()
	state, env := stateDir(t), storeOf(t)
	r := start(t, state, env)
	folder := filepath.Join(t.TempDir(), "policies")
	if err := os.CopyFS(folder, os.DirFS("../../policies")); err != nil {
		t.Fatal(err)
	}
	edit := func(remark string) {
		t.Helper()
		file, err := os.OpenFile(filepath.Join(folder, "lib/member.rego"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(remark); err != nil {
			t.Fatal(err)
		}
	}
	as := func(person string) []string {
		key := output(t, env, "key", "make", "--state-dir", state, "--all-practices", "--scope", "policy.draft", "--scope", "policy.approve", "--person", person)
		return append([]string{"CHARTGATE_CONTROL_URL=" + r.control, "CHARTGATE_CONTROL_KEY=" + strings.TrimSpace(key)}, env...)
	}
	author, approver := as("author-1"), as("approver-1")
	if said := refused(t, env, "policy", "releases", "--control-url", r.control); !strings.Contains(said, "CHARTGATE_CONTROL_KEY") {
		t.Errorf("without a key: %s", said)
	}

	edit("\nbroken if {\n")
	said := refused(t, author, "policy", "submit", folder, "--title", "Broken")
	id := regexp.MustCompile(`draft (r-[a-z0-9]+)`).FindStringSubmatch(said)
	if id == nil || !strings.Contains(said, "check: refused") && !strings.Contains(said, "check: failed") {
		t.Fatalf("a draft that does not compile: %s", said)
	}
	if err := os.WriteFile(filepath.Join(folder, "lib/member.rego"), read(t, "../../policies/lib/member.rego"), 0o600); err != nil {
		t.Fatal(err)
	}
	edit("\n# A remark.\n")
	said = output(t, author, "policy", "submit", folder, "--title", "A remark", "--draft", id[1])
	if !strings.Contains(said, "it is reviewed") {
		t.Fatalf("%s", said)
	}
	digest := evidenceOf.FindStringSubmatch(output(t, approver, "policy", "approve", id[1]))
	if digest == nil {
		t.Fatal("the evidence is not shown with its digest")
	}
	if said := refused(t, author, "policy", "approve", id[1], "--evidence", digest[1]); !strings.Contains(said, "another person") {
		t.Errorf("its author: %s", said)
	}
	output(t, approver, "policy", "approve", id[1], "--evidence", digest[1])
	for try := 1; ; try++ { // the sidecar certifies it first, which a busy machine is slow at
		said, err := command(approver, "policy", "activate", id[1]).CombinedOutput()
		if err == nil && strings.Contains(string(said), "active: "+id[1]) {
			break
		}
		if try == 6 || !strings.Contains(string(said), "not have the release ready") {
			t.Fatalf("%s\n%s", said, r.log)
		}
	}
	if said := output(t, author, "policy", "releases"); !strings.Contains(said, "A remark") || !strings.Contains(said, "shipped-") {
		t.Errorf("%s", said)
	}
	if said := output(t, approver, "policy", "rollback"); !strings.Contains(said, "active: shipped-") {
		t.Errorf("%s", said)
	}
	if said := refused(t, approver, "policy", "withdraw", id[1]); !strings.Contains(said, "no candidate") {
		t.Errorf("%s", said)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestKeygenReplacesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key.pem")
	output(t, nil, "policy", "keygen", "-o", file)
	private := read(t, file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := pdp.ReadKeys(read(t, file+".pub")); err != nil {
		t.Error(err)
	}
	refused(t, nil, "policy", "keygen", "-o", file)
	if string(read(t, file)) != string(private) {
		t.Error("the key was replaced")
	}
}
