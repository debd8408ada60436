package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"chartgate/internal/embedded"
)

const repository = "../.."

// instruction is one line of the Dockerfile.
type instruction struct{ word, rest string }

func readDockerfile(t *testing.T) []instruction {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var all []instruction
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			word, rest, _ := strings.Cut(line, " ")
			all = append(all, instruction{word, rest})
		}
	}
	return all
}

// The Dockerfile keeps to what is followed here without an engine: what it
// copies is there, what it runs works, and what it puts in the image starts.
func TestDockerfileWorksAsAScript(t *testing.T) {
	t.Parallel()
	source := workdir(t)
	var stage, stages int
	for _, i := range readDockerfile(t) {
		switch i.word {
		case "FROM":
			stages++
			stage = stages
		case "COPY":
			copyInto(t, source, stage, i.rest)
		case "RUN":
			cmd := exec.Command("sh", "-c", i.rest)
			cmd.Dir = source
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", i.rest, err, said)
			}
		case "WORKDIR", "ENV", "USER", "CMD":
		default:
			t.Errorf("%s is not followed by this test: leave it out, or follow it", i.word)
		}
	}
	if stages != 2 {
		t.Errorf("%d stages, want one that builds and one that is the image", stages)
	}
	for _, program := range []string{"chartgate", "sidecar", "control"} {
		if said, err := exec.Command(filepath.Join(source, "bin", program), "--help").CombinedOutput(); err != nil || !strings.Contains(string(said), "Usage: "+program) {
			t.Errorf("%s --help: %v\n%s", program, err, said)
		}
	}
}

// workdir stands for the WORKDIR of the stage that builds: an empty folder. What
// go compiles names its folder, so that it is the same one each time, where it
// is free: what did not change since is not compiled again.
func workdir(t *testing.T) string {
	t.Helper()
	here, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(os.TempDir(), fmt.Sprintf("chartgate-image-%x", sha256.Sum256([]byte(here)))[:48])
	if err := os.MkdirAll(place, 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := embedded.Lock(place)
	if err != nil {
		return t.TempDir() // another run of this test is there, or somebody else
	}
	source := filepath.Join(place, "src")
	clear := func() {
		if err := os.RemoveAll(source); err != nil {
			t.Error(err)
		}
	}
	clear()
	t.Cleanup(func() { clear(); held.Unlock() })
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	return source
}

// copyInto follows COPY: of the repository into source while building, and
// only checks that what a later stage takes from there is there.
func copyInto(t *testing.T, source string, stage int, rest string) {
	t.Helper()
	fields := slices.DeleteFunc(strings.Fields(rest), func(field string) bool { return strings.HasPrefix(field, "--chown=") })
	if from, ok := strings.CutPrefix(fields[0], "--from=build"); ok {
		path := strings.TrimPrefix(fields[1], "/src/")
		if path == fields[1] {
			return // of the base image
		}
		if _, err := os.Stat(filepath.Join(source, path)); err != nil || from != "" {
			t.Errorf("COPY %s: %v", rest, err)
		}
		return
	}
	if stage != 1 {
		t.Errorf("COPY %s puts the source into the image", rest)
	}
	for _, name := range fields[:len(fields)-1] {
		if name != "." {
			text, err := os.ReadFile(filepath.Join(repository, name))
			if err != nil {
				t.Fatalf("COPY %s: %v", rest, err)
			}
			if err := os.WriteFile(filepath.Join(source, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for _, folder := range []string{"bundles", "cmd", "internal", "policies", "testdata"} { // what Go builds from
			if err := os.CopyFS(filepath.Join(source, folder), os.DirFS(filepath.Join(repository, folder))); err != nil {
				t.Fatalf("COPY %s: %v", rest, err)
			}
		}
	}
}

// compose is what the test reads of docker-compose.yml.
type compose struct {
	Services map[string]struct {
		Build       string
		Image       string
		Command     []string
		Environment map[string]string
		Ports       []string
		Volumes     []string
		Healthcheck struct{ Test []string }
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		Profiles    []string
	}
	Volumes map[string]any
}

// docker-compose.yml holds together: services, their order, addresses that are
// set, ports of this machine only, and variables that our programs know.
func TestComposeHoldsTogether(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "redis", "migrate", "control", "sidecar"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("there is no service %s", name)
		}
	}
	known := knownVariables(t)
	for name, s := range c.Services {
		ours := s.Build != ""
		if s.Image == "" || ours != (s.Image == "chartgate") {
			t.Errorf("%s: image %q, build %q", name, s.Image, s.Build)
		}
		for other, on := range s.DependsOn {
			target, ok := c.Services[other]
			switch {
			case !ok:
				t.Errorf("%s waits for %s, which is no service", name, other)
			case on.Condition == "service_healthy" && len(target.Healthcheck.Test) == 0:
				t.Errorf("%s waits until %s is healthy, which has no health check", name, other)
			case on.Condition != "service_healthy" && on.Condition != "service_completed_successfully":
				t.Errorf("%s waits for %s with condition %q", name, other, on.Condition)
			}
		}
		for _, port := range s.Ports {
			if !regexp.MustCompile(`^127\.0\.0\.1:\d+:\d+$`).MatchString(port) {
				t.Errorf("%s: port %s is open to other machines", name, port)
			}
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if _, named := c.Volumes[from]; named {
				continue
			}
			if _, err := os.Stat(filepath.Join(repository, from)); err != nil {
				t.Errorf("%s: volume %s: %v", name, volume, err)
			}
		}
		if !ours {
			continue
		}
		if program := s.Command[0]; !slices.Contains([]string{"chartgate", "sidecar", "control"}, program) {
			t.Errorf("%s runs %s", name, program)
		}
		for variable := range s.Environment {
			if !slices.Contains(known, variable) {
				t.Errorf("%s: nothing reads %s", name, variable)
			}
		}
	}
	for name, variable := range map[string]string{"sidecar": "CHARTGATE_SIDECAR_ADDR", "control": "CHARTGATE_CONTROL_ADDR"} {
		s := c.Services[name]
		_, port, err := net.SplitHostPort(s.Environment[variable])
		if err != nil || len(s.Ports) != 1 || !strings.HasSuffix(s.Ports[0], ":"+port) {
			t.Errorf("%s: %s is %q, the ports are %v", name, variable, s.Environment[variable], s.Ports)
		}
		if name == "sidecar" && !slices.ContainsFunc(s.Volumes, func(volume string) bool { return strings.HasSuffix(volume, ":"+stateFolderOfImage(t)) }) {
			t.Errorf("the sidecar's decisions are lost with its container: its volumes are %v", s.Volumes)
		}
		if role := "chartgate_" + name; !strings.Contains(s.Environment["DATABASE_URL"], "//"+role+":") {
			t.Errorf("%s does not log in as %s", name, role)
		}
		if !strings.Contains(s.Environment["CHARTGATE_API_KEY"], ":?") {
			t.Errorf("%s: a key that stands in the file is no secret", name)
		}
	}
}

// stateFolderOfImage is where the programs keep data in a container. They run as
// nobody there, who has no home: it must be a folder of theirs.
func stateFolderOfImage(t *testing.T) string {
	t.Helper()
	base, user, own := "", "", map[string]string{}
	for _, i := range readDockerfile(t) {
		switch fields := strings.Fields(i.rest); i.word {
		case "ENV":
			base, _ = strings.CutPrefix(i.rest, "XDG_STATE_HOME=")
		case "USER":
			user = i.rest
		case "COPY":
			if owner, ok := strings.CutPrefix(fields[1], "--chown="); ok {
				own[strings.TrimSuffix(fields[len(fields)-1], "/")] = owner
			}
		}
	}
	folder := base + "/chartgate"
	if base == "" || own[folder] != user {
		t.Errorf("the image has no folder %s of user %s", folder, user)
	}
	return folder
}

// knownVariables are those that our programs read.
func knownVariables(t *testing.T) []string {
	t.Helper()
	known := []string{}
	for _, pattern := range []string{"cmd/*/*.go", "cmd/internal/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, found := range regexp.MustCompile(`"(DATABASE_URL|REDIS_URL|CHARTGATE_[A-Z_]+)"`).FindAllStringSubmatch(string(text), -1) {
				known = append(known, found[1])
			}
		}
	}
	if len(known) < 10 {
		t.Fatal(fmt.Sprint("only these variables were found: ", known))
	}
	return known
}
