package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a made-up one for .ci/setup: the programs in bin are all that it
// has, and apt-get writes what it is told to do into a file.
type machine struct {
	t    *testing.T
	root string
}

// aptGet is a package manager that knows packages once it was updated, and
// installs what can be seen: a server, a program.
const aptGet = `#!/bin/bash
echo "apt-get $*" >> "$CHARTGATE_SETUP_ROOT/log"
[[ "$DEBIAN_FRONTEND" == noninteractive ]] || echo "it may ask questions" >> "$CHARTGATE_SETUP_ROOT/log"
case "$*" in
*" update") touch "$CHARTGATE_SETUP_ROOT/known" ;;
*" install "*)
  [[ -e "$CHARTGATE_SETUP_ROOT/known" ]] || exit 100
  if [[ "$*" == *" postgresql"* ]]; then
    mkdir -p "$CHARTGATE_SETUP_ROOT/usr/lib/postgresql/$PACKAGED/bin"
    cp /bin/true "$CHARTGATE_SETUP_ROOT/usr/lib/postgresql/$PACKAGED/bin/postgres"
    cp /bin/true "$CHARTGATE_SETUP_ROOT/usr/lib/postgresql/$PACKAGED/bin/initdb"
  fi ;;
esac
`

const aptCache = `#!/bin/bash
[[ -e "$CHARTGATE_SETUP_ROOT/known" ]] && echo "$2 | 1 | archive"
exit 0
`

func newMachine(t *testing.T, programs ...string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	if err := os.Mkdir(filepath.Join(m.root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(programs, "bash", "basename", "dirname", "mkdir", "mktemp", "rm", "tail", "touch", "cp") {
		path, err := exec.LookPath(name)
		if err != nil {
			path = "/bin/true" // it only has to be there
		}
		if err := os.Symlink(path, filepath.Join(m.root, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	m.program("id", "#!/bin/bash\n[[ \"$1\" == -un ]] && echo root || echo 0\n")
	m.program("apt-get", aptGet)
	m.program("apt-cache", aptCache)
	return m
}

func (m *machine) program(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, "bin", name), []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) without(name string) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.root, "bin", name)); err != nil {
		m.t.Fatal(err)
	}
}

// setup runs .ci/setup there and returns what it said and what apt-get was told.
func (m *machine) setup(what string, env ...string) (said, told string, err error) {
	m.t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(bash, "../../.ci/setup", what)
	cmd.Env = append([]string{"PATH=" + filepath.Join(m.root, "bin"), "CHARTGATE_SETUP_ROOT=" + m.root, "PACKAGED=15"}, env...)
	output, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(m.root, "log")) // none: apt-get was not called
	return string(output), string(log), err
}

// A fresh Debian machine gets what is missing, is told what that is, and is
// asked nothing; the second time nothing is done.
func TestSetupOnAFreshMachine(t *testing.T) {
	for what, packages := range map[string]string{
		"run":  "curl postgresql",
		"test": "curl postgresql redis-server",
		"ci":   "curl postgresql redis-server gcc libc6-dev",
	} {
		m := newMachine(t, "go")
		said, told, err := m.setup(what)
		if err != nil || !strings.Contains(said, "installing with apt-get: "+packages+"\n") {
			t.Errorf("%s: %v, it says\n%s", what, err, said)
		}
		if strings.Count(told, "update") != 1 || !strings.HasSuffix(told, "install --no-install-recommends "+packages+"\n") || strings.Contains(told, "questions") {
			t.Errorf("%s: apt-get was told\n%s", what, told)
		}
	}
	m := newMachine(t, "go", "curl")
	if _, _, err := m.setup("run"); err != nil {
		t.Fatal(err)
	}
	said, told, err := m.setup("run")
	if err != nil || said != "" || strings.Count(told, " install ") != 1 {
		t.Errorf("the second time: %v, it says %q, apt-get was told\n%s", err, said, told)
	}
}

// The archive is asked for what there is only where that is not known.
func TestSetupUpdatesOnlyWhenNeeded(t *testing.T) {
	m := newMachine(t, "go", "curl")
	if err := os.WriteFile(filepath.Join(m.root, "known"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if said, told, err := m.setup("run"); err != nil || strings.Contains(told, "update") {
		t.Errorf("%v, it says %q, apt-get was told\n%s", err, said, told)
	}
}

// With servers of one's own nothing is installed.
func TestSetupWithServersOfOnesOwn(t *testing.T) {
	m := newMachine(t, "go", "curl")
	said, told, err := m.setup("test", "DATABASE_URL=postgres://host/db", "REDIS_URL=redis://host")
	if err != nil || said != "" || told != "" {
		t.Errorf("%v, it says %q, apt-get was told %q", err, said, told)
	}
}

// Where it cannot install, it says exactly what to install, or to set instead.
func TestSetupSaysWhatToInstall(t *testing.T) {
	for name, change := range map[string]func(*machine){
		"Only root can":   func(m *machine) { m.program("id", "#!/bin/bash\necho 1000\n") },
		"has no apt-get":  func(m *machine) { m.without("apt-get") },
		"did not work":    func(m *machine) { m.program("apt-get", "#!/bin/bash\nexit 100\n") },
		"older than vers": func(m *machine) { m.program("apt-get", strings.ReplaceAll(aptGet, "$PACKAGED", "13")) },
	} {
		m := newMachine(t, "go")
		change(m)
		said, _, err := m.setup("test")
		for _, part := range []string{name, "apt-get install -y curl postgresql redis-server", "set DATABASE_URL", "set REDIS_URL"} {
			if err == nil || !strings.Contains(said, part) {
				t.Errorf("%s: %v, it does not say %q:\n%s", name, err, part, said)
			}
		}
	}
	if said, _, err := newMachine(t).setup("run"); err == nil || !strings.Contains(said, "Go is not installed") {
		t.Errorf("without Go: %v, it says %s", err, said)
	}
	if said, _, err := newMachine(t, "go").setup("everything"); err == nil || !strings.Contains(said, "usage") {
		t.Errorf("%v, it says %s", err, said)
	}
	if said, _, err := newMachine(t, "go").setup("run", "PG_BIN=/nowhere"); err == nil || !strings.Contains(said, "PG_BIN=/nowhere") {
		t.Errorf("%v, it says %s", err, said)
	}
}

// The README's commands are those of the Makefile, which set up first.
func TestMakefileSetsUpFirst(t *testing.T) {
	for target, first := range map[string]string{"run": ".ci/setup run", "test": ".ci/setup test", "ci": ".ci/run"} {
		said, err := exec.Command("make", "-n", "-C", "../..", target).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(said)) {
			if strings.HasPrefix(line, "make") {
				continue // says which folder it goes to
			}
			if strings.TrimSpace(line) != first {
				t.Errorf("make %s begins with %q, want %q", target, strings.TrimSpace(line), first)
			}
			break
		}
	}
}
