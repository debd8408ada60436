package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asChartgate makes this test binary the program itself, so that tests start
// the real one, signals, exit status and all.
const asChartgate = "CHARTGATE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asChartgate) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// startTimeout bounds a start on a machine that is busy with other tests.
const startTimeout = 90 * time.Second

// command is chartgate with these arguments, in an environment without any of
// our variables but those in env.
func command(env []string, arguments ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], arguments...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CHARTGATE_") && !strings.HasPrefix(v, "DATABASE_URL=") && !strings.HasPrefix(v, "REDIS_URL=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, asChartgate+"=1"), env...)
	return cmd
}

// output runs a command to its end and returns what it said on standard output.
func output(t *testing.T, env []string, arguments ...string) string {
	t.Helper()
	cmd := command(env, arguments...)
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		t.Fatalf("chartgate %s: %v\n%s%s", strings.Join(arguments, " "), err, said.String(), complained.String())
	}
	return said.String()
}

// refused runs a command that must fail, and returns what it said.
func refused(t *testing.T, env []string, arguments ...string) string {
	t.Helper()
	said, err := command(env, arguments...).CombinedOutput()
	if err == nil {
		t.Fatalf("chartgate %s worked: %s", strings.Join(arguments, " "), said)
	}
	return string(said)
}

// stateDir is a folder short enough for a socket, that the user whom Postgres
// runs as can enter.
func stateDir(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "chartgate-run-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(folder, "state")
}

// running is a `chartgate run` that is ready.
type running struct {
	t        *testing.T
	cmd      *exec.Cmd
	state    string
	said     string // its announcement
	sidecar  string
	control  string
	key      string
	ended    chan struct{} // closed when it has ended
	endError error
	log      *logBuffer
}

// start runs chartgate on free ports and waits for its announcement.
func start(t *testing.T, state string, env []string, arguments ...string) *running {
	t.Helper()
	arguments = append([]string{"run", "--state-dir", state, "--sidecar-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0"}, arguments...)
	r := &running{t: t, cmd: command(env, arguments...), state: state, ended: make(chan struct{}), log: &logBuffer{}}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	announced := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		var text strings.Builder
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&text, lines.Text())
			if strings.HasPrefix(lines.Text(), "Ctrl-C") {
				announced <- text.String()
			}
		}
	}()
	go func() {
		<-read // Wait closes the pipe
		r.endError = r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.ended })
	select {
	case r.said = <-announced:
	case <-r.ended:
		t.Fatalf("chartgate run: %v\n%s", r.endError, r.log)
	case <-time.After(startTimeout):
		t.Fatalf("chartgate run is not ready after %s\n%s", startTimeout, r.log)
	}
	r.sidecar, r.control, r.key = r.word("sidecar"), r.word("control"), r.word("key")
	return r
}

// word is what the announcement says under a name.
func (r *running) word(name string) string {
	r.t.Helper()
	found := regexp.MustCompile(`(?m)^  ` + name + ` +(\S+)`).FindStringSubmatch(r.said)
	if found == nil {
		r.t.Fatalf("the announcement does not say %q:\n%s", name, r.said)
	}
	return found[1]
}

// stop sends a signal and waits for the end.
func (r *running) stop(signal syscall.Signal) error {
	r.t.Helper()
	if err := r.cmd.Process.Signal(signal); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-r.ended:
		return r.endError
	case <-time.After(startTimeout):
		r.t.Fatalf("it does not end on %s\n%s", signal, r.log)
		return nil
	}
}

// postgresPid is the pid of the private server.
func (r *running) postgresPid() int {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.state, "postgres", "postmaster.pid"))
	if err != nil {
		r.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// alive reports whether a process runs: is there, and is no zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// decision is what the sidecar answers.
type decision struct {
	Decision bool
	Context  struct{ Code string }
}

func (d decision) String() string { return fmt.Sprintf("%v because %s", d.Decision, d.Context.Code) }

// mayOpen asks whether user may open the chart of client.
func (r *running) mayOpen(user, client string) string {
	r.t.Helper()
	body := fmt.Sprintf(`{"subject":{"type":"user","id":%q},"action":{"name":"chart.open"},"resource":{"type":"client","id":%q}}`, user, client)
	status, answer := r.post(r.sidecar+"/access/v1/evaluation", body)
	var d decision
	if err := json.Unmarshal(answer, &d); err != nil || status != http.StatusOK {
		r.t.Fatalf("%d %s (%v)\n%s", status, answer, err, r.log)
	}
	return d.String()
}

func (r *running) post(url, body string) (int, []byte) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+r.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, answer
}

// logBuffer keeps what a process logs; the test reads it at any time.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
