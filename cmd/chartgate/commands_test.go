package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
)

// key make, list and revoke work beside a run, on its private database.
func TestKeysBesideARun(t *testing.T) {
	t.Parallel()
	state, env := stateDir(t), storeOf(t)
	r := start(t, state, env)
	key := strings.TrimSpace(output(t, env, "key", "make", "--state-dir", state, "--scope", "ask", "--practice", "practice-1", "--note", "of the test"))
	id := strings.Split(key, "_")[1]

	whole := r.key
	r.key = key
	if got, want := r.mayOpen("practitioner-1", "client-1"), "true because assigned"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := r.mayOpen("practitioner-3", "client-4"), "false because no_basis"; got != want {
		t.Errorf("another practice: %s, want %s", got, want)
	}
	if list := output(t, env, "key", "list", "--state-dir", state); !strings.Contains(list, id) || !strings.Contains(list, "of the test") || strings.Contains(list, key) {
		t.Errorf("the list says\n%s", list)
	}
	output(t, env, "key", "revoke", "--state-dir", state, id)
	if status, answer := r.post(r.sidecar+"/access/v1/evaluation", `{}`); status != 401 {
		t.Errorf("a revoked key gets %d %s", status, answer)
	}
	if list := output(t, env, "key", "list", "--state-dir", state); !strings.Contains(list, "revoked") {
		t.Errorf("the list says\n%s", list)
	}
	for want, arguments := range map[string][]string{
		"scope":        {"make", "--scope", "everything", "--all-practices"},
		"--practice":   {"make", "--scope", "ask"},
		"there is no":  {"revoke", "abcdefghijklmnop"},
		"for all prac": {"make", "--scope", "policy.draft", "--practice", "practice-1"},
	} {
		if said := refused(t, env, append([]string{"key", arguments[0], "--state-dir", state}, arguments[1:]...)...); !strings.Contains(said, want) {
			t.Errorf("%v: it says %q", arguments, said)
		}
	}
	r.key = whole
	if err := r.stop(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// import works without a run as well: it starts the private database and stops it.
func TestImport(t *testing.T) {
	t.Parallel()
	state, env := stateDir(t), storeOf(t)
	said := output(t, env, "import", "--state-dir", state, "../../testdata/demo")
	if !strings.Contains(said, "clients            5 new") {
		t.Errorf("it says\n%s", said)
	}
	if said := output(t, env, "import", "--state-dir", state, "../../testdata/demo"); !strings.Contains(said, "5 unchanged") {
		t.Errorf("the second time it says\n%s", said)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "clients.csv"), []byte("id,practice,first_name,last_name\nclient-8,practice-1,Client,Eight\nclient-9,practice-9,Client,Nine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := refused(t, env, "import", "--state-dir", state, folder); !strings.Contains(said, "clients.csv:3: practice") || !strings.Contains(said, "nothing was imported") {
		t.Errorf("a bad row: it says %q", said)
	}
	if said := refused(t, env, "import", "--state-dir", state, filepath.Join(folder, "missing.csv")); !strings.Contains(said, "missing.csv") {
		t.Errorf("a missing file: it says %q", said)
	}
}

// migrate sets the passwords that it is given, so that each half can log in as
// its own role and needs no other.
func TestMigrateSetsPasswords(t *testing.T) {
	t.Parallel()
	if !private() {
		return // a password would hold for the whole server
	}
	url := pgtest.EmptyURL(t)
	env := []string{"DATABASE_URL=" + url, "CHARTGATE_SIDECAR_PASSWORD=it's %secret"}
	for range 2 {
		said := output(t, env, "migrate")
		if !strings.Contains(said, postgres.RoleSidecar) || strings.Contains(said, postgres.RoleControl) || strings.Contains(said, "secret") {
			t.Errorf("it says %q", said)
		}
	}
	var kept bool
	err := pgtest.PoolAs(t, url, "").QueryRow(t.Context(), `SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = $1`, postgres.RoleSidecar).Scan(&kept)
	if err != nil || !kept {
		t.Errorf("no password is kept (%v)", err)
	}
}

// The policies that ship pass; one that is broken is told with its place.
func TestPolicyCommands(t *testing.T) {
	t.Parallel()
	const policies = "../../policies"
	if said := output(t, nil, "policy", "test", policies); !strings.Contains(said, " 0 failed; 0 findings") {
		t.Errorf("it says\n%s", said)
	}
	first, second := filepath.Join(t.TempDir(), "a.tar.gz"), filepath.Join(t.TempDir(), "b.tar.gz")
	output(t, nil, "policy", "build", policies, "-o", first)
	output(t, nil, "policy", "build", policies, "-o", second)
	a, errA := os.ReadFile(first)
	b, errB := os.ReadFile(second)
	one, err := pdp.ReadArchive(a)
	if err != nil || errA != nil {
		t.Fatal(err, errA)
	}
	other, err := pdp.ReadArchive(b)
	if err != nil || errB != nil {
		t.Fatal(err, errB)
	}
	if one.Revision != other.Revision || bytes.Equal(a, b) {
		t.Errorf("two builds: contents %s and %s; they are the same but for the signature, which nobody can make twice", one.Revision, other.Revision)
	}
	if said := output(t, nil, "policy", "build", policies, "-o", first); !strings.Contains(said, "as it was") {
		t.Errorf("built again: %s", said)
	}

	broken := t.TempDir()
	if err := os.CopyFS(broken, os.DirFS(policies)); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(broken, "rules", "broken.rego")
	if err := os.WriteFile(place, []byte("package rules.broken\n\nallow if input.nobody == 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := refused(t, nil, "policy", "test", broken); !strings.Contains(said, "broken.rego") {
		t.Errorf("it says %q", said)
	}
	if said := refused(t, nil, "policy", "build", broken, "-o", first); !strings.Contains(said, "broken.rego") {
		t.Errorf("it says %q", said)
	}
}
