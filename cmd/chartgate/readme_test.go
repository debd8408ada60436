package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// example is a command of the README with what its answer must hold.
var example = regexp.MustCompile("(?s)<!-- run: (.+?) -->\n```sh\n(.+?)```")

// The README's commands work as written, in order, but for the ports: a run of
// the test has its own.
func TestReadmeCommandsWork(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := example.FindAllStringSubmatch(string(text), -1)
	if marked := strings.Count(string(text), "<!-- run"); len(examples) != marked || marked < 6 {
		t.Fatalf("%d of %d marked examples were found", len(examples), marked)
	}
	r := start(t, stateDir(t), storeOf(t))
	ours := strings.NewReplacer("http://127.0.0.1:8181", r.sidecar, "http://127.0.0.1:8080", r.control)
	for _, e := range examples {
		cmd := exec.Command("sh", "-c", ours.Replace(e[2]))
		cmd.Env = append(os.Environ(), "KEY="+r.key)
		answer, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(answer), e[1]) {
			t.Errorf("%s\nanswered %s (%v), want it to hold %s", e[2], answer, err, e[1])
		}
	}
}

// named matches a test that the README names; an ellipsis stands for the rest.
var named = regexp.MustCompile("`(Test[A-Za-z0-9_]+)(…?)`")

// Every promise names tests that are there.
func TestPromisesNameTheirTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	err = filepath.WalkDir("../..", func(name string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := os.ReadFile(name)
		tests.Write(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := named.FindAllStringSubmatch(string(text), -1)
	if len(found) < 8 {
		t.Fatalf("the README names %d tests", len(found))
	}
	for _, name := range found {
		end := "("
		if name[2] != "" {
			end = ""
		}
		if !strings.Contains(tests.String(), "func "+name[1]+end) {
			t.Errorf("the README names %s, which is not there", name[1])
		}
	}
}
