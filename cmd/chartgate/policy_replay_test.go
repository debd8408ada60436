package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"chartgate/internal/release"
)

// edited is the shipped policy with schedulers who may open charts, and more.
func edited(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("../../policies")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(folder, "tables", "roles", "data.yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const row = "scheduler:\n  always:\n    - client.list\n"
	if !strings.Contains(string(text), row) {
		t.Fatal("the table looks otherwise")
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), row, row+"    - chart.open\n    - demographics.read\n    - diagnosis.read\n    - message.send\n    - client.archive\n", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// What an edit and a change of settings would do is said before they are made:
// to decisions on record, to today's members and clients.
func TestPolicyEffects(t *testing.T) {
	t.Parallel()
	const recorded = "../../testdata/recorded/decisions.seg"
	candidate := edited(t)
	var report release.ReplayReport
	said := output(t, nil, "policy", "replay", candidate, "--file", recorded, "--json")
	if err := json.Unmarshal([]byte(said), &report); err != nil || report.Gained.Decisions == 0 || report.Lost.Decisions != 0 || report.Read != 1000 || report.Replayed != 982 || len(report.Groups[0].Examples) == 0 {
		t.Errorf("replay of an edit: %v, %s", err, said)
	}
	for want, arguments := range map[string][]string{
		"--actor is missing": {candidate}, "not a file of Chartgate's record": {candidate, "--file", "../../README.md"}, "--examples": {candidate, "--file", recorded, "--examples", "0"},
	} {
		if said := refused(t, nil, append([]string{"policy", "replay"}, arguments...)...); !strings.Contains(said, want) {
			t.Errorf("%v: it says %q", arguments, said)
		}
	}

	state, env := stateDir(t), storeOf(t)
	output(t, env, "import", "--state-dir", state, "../../testdata/demo")
	said = output(t, env, "policy", "blast-radius", candidate, "--state-dir", state, "--action", "chart.open")
	if !strings.Contains(said, "gained: chart.open in practice-1: 4 pairs, 1 members, 4 clients\n  scheduler-1 client-1\n") || !strings.Contains(said, "lost 0\n") {
		t.Errorf("blast radius: %s", said)
	}
	said = output(t, env, "policy", "settings", "--policy", "../../policies", "--state-dir", state, "--practice", "practice-1", "--preset", "help-centre", "--set", "grant_max_days=30")
	for _, want := range []string{"admin_record_access: full -> non_clinical\n", "grant_max_days: <nil> -> 30\n", "diagnosis.read: administrator, active client: allowed administrator -> denied no_basis\n",
		"decisions may change for diagnosis.read, document.read, note.read, and for no other action", "lost: diagnosis.read in practice-1: 4 pairs"} {
		if !strings.Contains(said, want) {
			t.Errorf("settings: it does not say %q\n%s", want, said)
		}
	}
	if said := refused(t, env, "policy", "settings", "--state-dir", state, "--practice", "practice-1", "--set", "admin_record_access=most"); !strings.Contains(said, "must be one of") {
		t.Errorf("a bad setting: %s", said)
	}
}
