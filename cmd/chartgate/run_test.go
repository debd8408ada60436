package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"chartgate/internal/embedded"
	"chartgate/internal/postgres/pgtest"
)

// private reports whether tests may start a private Postgres; with DATABASE_URL
// set nothing is started, and `run` is tested on that server instead.
func private() bool { return os.Getenv("DATABASE_URL") == "" }

// storeOf is the environment in which a run finds its stores: empty for the
// private ones, else a fresh database of the server that is there.
func storeOf(t *testing.T) []string {
	t.Helper()
	if private() {
		return nil
	}
	return []string{"DATABASE_URL=" + pgtest.EmptyURL(t)}
}

// The two lines of curl work as they are printed, and what the second does
// changes the next answer. What was done stays after a stop and a start.
func TestRunAnswersAsPrinted(t *testing.T) {
	t.Parallel()
	state, env := stateDir(t), storeOf(t)
	r := start(t, state, env)
	if got, want := r.mayOpen("practitioner-1", "client-2"), "false because no_basis"; got != want {
		t.Errorf("before: %s, want %s", got, want)
	}
	var lines []string
	for line := range strings.Lines(r.said) {
		if strings.HasPrefix(line, "curl ") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 2 {
		t.Fatalf("%d lines of curl in\n%s", len(lines), r.said)
	}
	paste := func(line string) []byte {
		t.Helper()
		answer, err := exec.Command("sh", "-c", line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return answer
	}
	var d decision
	if err := json.Unmarshal(paste(lines[0]), &d); err != nil || d.String() != "true because assigned" {
		t.Errorf("the first line gives %s (%v)", d, err)
	}
	for range 2 { // pasting it again is no error
		var grant struct{ ID, User string }
		if answer := paste(lines[1]); json.Unmarshal(answer, &grant) != nil || grant.User != "practitioner-1" || grant.ID == "" {
			t.Errorf("the second line gives %s", answer)
		}
	}
	if got, want := r.mayOpen("practitioner-1", "client-2"), "true because client_grant"; got != want {
		t.Errorf("after: %s, want %s", got, want)
	}
	for _, base := range []string{r.sidecar, r.control} {
		if status, err := http.Get(base + "/readyz"); err != nil || status.StatusCode != http.StatusOK {
			t.Errorf("%s/readyz: %v %v", base, status, err)
		}
	}
	if info, err := os.Stat(filepath.Join(state, "api-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", info, err)
	}
	if err := r.stop(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, r.log)
	}

	again := start(t, state, env)
	if again.key != r.key {
		t.Error("the second start has another key")
	}
	if got, want := again.mayOpen("practitioner-1", "client-2"), "true because client_grant"; got != want {
		t.Errorf("after a restart: %s, want %s", got, want)
	}
	if err := again.stop(syscall.SIGINT); err != nil {
		t.Errorf("SIGINT: %v\n%s", err, again.log)
	}
}

// A second run on the same folder says so, fails, and leaves the first alone.
func TestSecondRunLeavesTheFirstAlone(t *testing.T) {
	t.Parallel()
	state, env := stateDir(t), storeOf(t)
	r := start(t, state, env)
	said := refused(t, env, "run", "--state-dir", state, "--sidecar-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0")
	if !strings.Contains(said, "already running") || !strings.Contains(said, "--state-dir") {
		t.Errorf("the second run says %q", said)
	}
	if got, want := r.mayOpen("practitioner-1", "client-1"), "true because assigned"; got != want {
		t.Errorf("the first run answers %s, want %s", got, want)
	}
}

// SIGTERM stops Postgres too, whatever is connected to it.
func TestStopLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	if !private() {
		return
	}
	r := start(t, stateDir(t), nil)
	pid := r.postgresPid()
	conn, err := pgx.Connect(t.Context(), embedded.URL(postgresDir(r.state), database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := r.stop(syscall.SIGTERM); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, r.log)
	}
	if alive(pid) {
		t.Errorf("Postgres %d still runs", pid)
	}
	if _, err := os.Stat(filepath.Join(r.state, "postgres", "postmaster.pid")); err == nil {
		t.Error("Postgres was not shut down in order")
	}
}

// kill -9 leaves no orphan, and the next start works at once.
func TestKillLeavesNoOrphan(t *testing.T) {
	t.Parallel()
	if !private() {
		return
	}
	state := stateDir(t)
	r := start(t, state, nil)
	pid := r.postgresPid()
	_ = r.stop(syscall.SIGKILL) // reports the signal
	again := start(t, state, nil)
	if got, want := again.mayOpen("practitioner-1", "client-1"), "true because assigned"; got != want {
		t.Errorf("after kill -9: %s, want %s", got, want)
	}
	if alive(pid) {
		t.Errorf("Postgres %d of the killed run still runs", pid)
	}

	pid = again.postgresPid()
	_ = again.stop(syscall.SIGKILL)
	eventually(t, "the Postgres of a killed run ends", func() bool { return !alive(pid) })
}

// A Postgres that ends by itself ends the run, with an error.
func TestRunEndsWithItsPostgres(t *testing.T) {
	t.Parallel()
	if !private() {
		return
	}
	r := start(t, stateDir(t), nil)
	if err := syscall.Kill(r.postgresPid(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.ended:
	case <-time.After(startTimeout):
		t.Fatal("it goes on without its database")
	}
	if r.endError == nil || !strings.Contains(r.log.String(), "Postgres has ended") {
		t.Errorf("it ended with %v and said\n%s", r.endError, r.log)
	}
}

// A call that is under way when the stop comes is answered.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	if !private() {
		return
	}
	r := start(t, stateDir(t), nil)
	conn, err := pgx.Connect(t.Context(), embedded.URL(postgresDir(r.state), database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE`); err != nil { // no decision can be recorded
		t.Fatal(err)
	}
	answered := make(chan string, 1)
	go func() { answered <- r.mayOpen("practitioner-1", "client-1") }()
	eventually(t, "the decision waits for its record", func() bool {
		var waiting bool
		err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'decisions'::regclass)`).Scan(&waiting)
		return err == nil && waiting
	})
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no new calls are taken", func() bool {
		probe, err := net.Dial("tcp", strings.TrimPrefix(r.sidecar, "http://"))
		if err == nil {
			probe.Close()
		}
		return err != nil
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := <-answered, "true because assigned"; got != want {
		t.Errorf("the call under way got %s, want %s", got, want)
	}
	<-r.ended
	if r.endError != nil {
		t.Errorf("it ended with %v\n%s", r.endError, r.log)
	}
}

// With DATABASE_URL and REDIS_URL nothing is started, and the demo is not put
// into a database that is in use.
func TestRunOnStoresOfOnesOwn(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `INSERT INTO practices (id, name) VALUES ('practice-of-ours', 'Ours')`); err != nil {
		t.Fatal(err)
	}
	env := []string{"DATABASE_URL=" + url, "REDIS_URL=" + pgtest.Redis(t), "CHARTGATE_API_KEY=a-key-of-our-own-0001"}
	r := start(t, stateDir(t), env)
	if !strings.Contains(r.said, "Postgres of DATABASE_URL, Redis of REDIS_URL") || strings.Contains(r.said, "curl") {
		t.Errorf("it says\n%s", r.said)
	}
	if r.key != "a-key-of-our-own-0001" {
		t.Errorf("the key is %s", r.key)
	}
	if got, want := r.mayOpen("practitioner-1", "client-1"), "false because no_basis"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	held, err := os.ReadDir(r.state)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range held {
		names = append(names, entry.Name())
	}
	if got := strings.Join(names, " "); got != "lock policy policy-key.pem policy-signing-key.pem spool" {
		t.Errorf("the state folder holds %s", got)
	}
	if err := r.stop(syscall.SIGTERM); err != nil { // what is on record is brought to the database
		t.Errorf("%v\n%s", err, r.log)
	}
	var practices, decisions int
	if err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM practices), (SELECT count(*) FROM decisions)`).Scan(&practices, &decisions); err != nil {
		t.Fatal(err)
	}
	if practices != 1 || decisions != 1 {
		t.Errorf("%d practices and %d decisions in the database, want 1 and 1", practices, decisions)
	}
}

// --no-demo leaves an empty database empty.
func TestNoDemo(t *testing.T) {
	t.Parallel()
	r := start(t, stateDir(t), append(storeOf(t), "CHARTGATE_NO_DEMO=true"))
	if strings.Contains(r.said, "curl") {
		t.Errorf("it says\n%s", r.said)
	}
	if got, want := r.mayOpen("practitioner-1", "client-1"), "false because no_basis"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// --bundle and --decision serve any policy, which gets the request as it came.
func TestPolicyOfOnesOwn(t *testing.T) {
	t.Parallel()
	policy := t.TempDir()
	const rule = "package authzen\n\nallow if input.subject.properties.color == \"green\"\n"
	if err := os.WriteFile(filepath.Join(policy, "own.rego"), []byte(rule), 0o644); err != nil {
		t.Fatal(err)
	}
	r := start(t, stateDir(t), storeOf(t), "--bundle", policy, "--decision", "data.authzen.allow", "--public-url", "https://pdp.example.com/a")
	for color, want := range map[string]bool{"green": true, "red": false} {
		_, answer := r.post(r.sidecar+"/access/v1/evaluation",
			`{"subject":{"type":"t","id":"i","properties":{"color":"`+color+`"}},"action":{"name":"a"},"resource":{"type":"r","id":"i"}}`)
		var d decision
		if err := json.Unmarshal(answer, &d); err != nil || d.Decision != want {
			t.Errorf("%s: %s", color, answer)
		}
	}
	response, err := http.Get(r.sidecar + "/.well-known/authzen-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var metadata struct {
		Point string `json:"policy_decision_point"`
	}
	if err := json.NewDecoder(response.Body).Decode(&metadata); err != nil || metadata.Point != "https://pdp.example.com/a" {
		t.Errorf("metadata name %q (%v)", metadata.Point, err)
	}
}

// All that is wrong is told at once, by flag or variable, and nothing is begun.
func TestFaultsAreToldTogether(t *testing.T) {
	t.Parallel()
	state := stateDir(t)
	said := refused(t, []string{"CHARTGATE_API_KEY=short", "DATABASE_URL=mysql://x", "REDIS_URL=http://secret@x"}, "run", "--state-dir", state,
		"--sidecar-addr", "8181", "--control-addr", "127.0.0.1:99999", "--public-url", "pdp.example.com", "--jwt-issuer", "x")
	for _, name := range []string{"CHARTGATE_API_KEY", "DATABASE_URL", "REDIS_URL", "--sidecar-addr", "--control-addr", "--public-url", "--jwks-url"} {
		if !strings.Contains(said, name) {
			t.Errorf("it does not name %s:\n%s", name, said)
		}
	}
	if strings.Contains(said, "secret") {
		t.Errorf("it shows a password:\n%s", said)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("it made the state folder")
	}
}

// A fault names the flag that it comes from.
func TestFaultsNameTheirFlag(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for flag, arguments := range map[string][]string{
		"--sidecar-addr": {"--sidecar-addr", taken.Addr().String(), "--control-addr", "127.0.0.1:0"},
		"--control-addr": {"--control-addr", taken.Addr().String(), "--sidecar-addr", "127.0.0.1:0"},
		"--bundle":       {"--bundle", filepath.Join(t.TempDir(), "missing")},
		"--decision":     {"--decision", "data.authz.nothing", "--sidecar-addr", "127.0.0.1:0", "--control-addr", "127.0.0.1:0"},
		"--state-dir":    {"--state-dir", filepath.Join(file, "below")},
		"--no-demo":      {"--no-demo=perhaps"},
		"--nonsense":     {"--nonsense"},
	} {
		if said := refused(t, storeOf(t), append([]string{"run", "--state-dir", stateDir(t)}, arguments...)...); !strings.Contains(said, flag) {
			t.Errorf("%v: it says %q", arguments, said)
		}
	}
}
