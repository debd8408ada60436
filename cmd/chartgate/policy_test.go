package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"chartgate/internal/release"
)

// ended runs a command and returns what it said and how it ended.
func ended(t *testing.T, arguments ...string) (out, complaint string, code int) {
	t.Helper()
	cmd := command(nil, arguments...)
	var said, complained strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &complained
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return said.String(), complained.String(), cmd.ProcessState.ExitCode()
}

// copied is a copy of the shipped policies, with something else in one file.
func copied(t *testing.T, file, old, new string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "policies")
	if err := os.CopyFS(folder, os.DirFS("../../policies")); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(folder, file), old, new)
	return folder
}

func rewrite(t *testing.T, file, old, new string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(source), old) {
		t.Fatalf("there is no %q in %s (%v)", old, file, err)
	}
	half := file + ".new" // at once, as editors do
	if err := os.WriteFile(half, []byte(strings.Replace(string(source), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(half, file); err != nil {
		t.Fatal(err)
	}
}

// policy check ends with 0 where nothing is wrong, 1 where something was found,
// and 2 where it could not look; its JSON is one report.
func TestPolicyCheckEnds(t *testing.T) {
	t.Parallel()
	read := func(out string) (report release.Report) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return report
	}
	out, complaint, code := ended(t, "policy", "check", "--json", "--verbose", "../../policies")
	if report := read(out); code != 0 || !report.OK || report.Revision == "" || len(report.Steps) < 15 {
		t.Errorf("the shipped policies: %d %s", code, out)
	}
	if !strings.Contains(complaint, "situations") {
		t.Errorf("--verbose says %q", complaint)
	}
	wrong := copied(t, "lib/member.rego", `_holds("biller")`, `_holds("billr")`)
	out, complaint, code = ended(t, "policy", "check", "--json", wrong)
	report := read(out)
	if code != 1 || report.OK || report.Count() != 1 || !strings.Contains(complaint, "1 finding: words") {
		t.Errorf("a misspelt role: %d %s %s", code, out, complaint)
	}
	if f := report.Findings()[0]; f.File != "lib/member.rego" || f.Line == 0 || f.Column != 18 || f.Hint != "did you mean `biller`?" || f.Rule != "biller" || !strings.Contains(f.Excerpt, "billr") {
		t.Errorf("a misspelt role: %+v", f)
	}
	if out, _, code = ended(t, "policy", "check", wrong); code != 1 || !strings.Contains(out, "      lib/member.rego:") || !strings.Contains(out, "                  ^\n") ||
		!strings.Contains(out, "skip  cases         words found something") {
		t.Errorf("it says %d\n%s", code, out)
	}
	for _, arguments := range [][]string{{"check", filepath.Join(wrong, "nowhere")}, {"check", "../../go.mod"}, {"check", "--everything"}, {"chekc"}} {
		if out, complaint, code := ended(t, append([]string{"policy"}, arguments...)...); code != 2 || complaint == "" {
			t.Errorf("%v: %d %s %s", arguments, code, out, complaint)
		}
	}
}

// policy new, format, explain and schema do what they say to the folder that
// they are given.
func TestPolicyEditing(t *testing.T) {
	t.Parallel()
	folder := copied(t, "lib/notes.rego", "own if input", "own  if input")
	if out := output(t, nil, "policy", "format", folder); out != filepath.Join(folder, "lib/notes.rego")+"\n" {
		t.Errorf("format says %q", out)
	}
	if out := output(t, nil, "policy", "format", folder); out != "" {
		t.Errorf("format says %q of what is formatted", out)
	}
	out := output(t, nil, "policy", "new", "rule", "assigned", "weekend_cover", "--folder", folder)
	if !strings.Contains(out, "rules/assigned/weekend_cover.rego:10: write the conditions") {
		t.Errorf("new rule says %q", out)
	}
	if _, err := os.Stat(filepath.Join(folder, "cases", "assigned_weekend_cover.yaml")); err != nil {
		t.Error(err)
	}
	if said := refused(t, nil, "policy", "new", "rule", "assigned", "weekend_cover", "--folder", folder); !strings.Contains(said, "is there already") {
		t.Errorf("a second time it says %q", said)
	}
	if out := output(t, nil, "policy", "explain", "cases/time.yaml:22", "--folder", folder); !strings.Contains(out, "fails: input.context.latest < input.grant.expires_at") {
		t.Errorf("explain says\n%s", out)
	}
	if said := refused(t, nil, "policy", "explain", "no-such-thing", "--folder", folder); !strings.Contains(said, "there is no case") {
		t.Errorf("explain says %q", said)
	}
	for _, arguments := range [][]string{{folder}, {"--example", folder}} {
		if out := output(t, nil, append([]string{"policy", "schema"}, arguments...)...); !json.Valid([]byte(out)) {
			t.Errorf("schema %v says\n%s", arguments, out)
		}
	}
}

// policy watch checks at once and after a change, and says only what changed.
func TestPolicyWatch(t *testing.T) {
	t.Parallel()
	folder := copied(t, "lib/member.rego", `_holds("biller")`, `_holds("billr")`)
	cmd := command(nil, "policy", "watch", "--every", "20ms", folder)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	until := func(end string) string {
		t.Helper()
		var said strings.Builder
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if strings.HasSuffix(lines.Text(), end) {
				return said.String()
			}
		}
		t.Fatalf("it ended after %q", said.String())
		return ""
	}
	if said := until("1 finding: words"); !strings.Contains(said, "+ lib/member.rego:") || !strings.Contains(said, "`billr`") {
		t.Errorf("it says\n%s", said)
	}
	rewrite(t, filepath.Join(folder, "lib/member.rego"), `_holds("scheduler")`, `_holds("schedular")`)
	if said := until("2 findings: words"); !strings.Contains(said, "+ lib/member.rego:") || !strings.Contains(said, "`schedular`") || strings.Contains(said, "billr") {
		t.Errorf("after another mistake it says\n%s", said)
	}
	rewrite(t, filepath.Join(folder, "lib/member.rego"), `_holds("billr")`, `_holds("biller")`)
	if said := until("1 finding: words"); !strings.Contains(said, "- lib/member.rego: `billr`") || strings.Contains(said, "+") {
		t.Errorf("when one is put right it says\n%s", said)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
