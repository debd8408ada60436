package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"chartgate/internal/embedded"
)

// childFolder, when it is set, makes this test binary the other process of a
// test: it locks the folder, starts a server in it and waits to be killed.
const childFolder = "CHARTGATE_TEST_CHILD_FOLDER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		child(folder)
		return
	}
	if os.Getenv("DATABASE_URL") != "" {
		fmt.Println("DATABASE_URL is set, so no private Postgres is started, and none is tested")
		flag.Parse()
		if err := flag.Set("test.run", "Redis|Newest"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func child(folder string) {
	_, err := embedded.Lock(folder)
	if err == nil {
		var server *embedded.Postgres
		if server, err = embedded.StartPostgres(context.Background(), embedded.PostgresOptions{Dir: filepath.Join(folder, "pg"), Volatile: true}); err == nil {
			fmt.Println(server.Pid())
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// folder is a place that is short enough for a socket, and that the user whom
// the server runs as can enter.
func folder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "chartgate-embedded-")
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
	return folder
}

func start(t *testing.T, options embedded.PostgresOptions) *embedded.Postgres {
	t.Helper()
	server, err := embedded.StartPostgres(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func value(t *testing.T, server *embedded.Postgres, query string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var v string
	if err := conn.QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// What was written is there after a stop and a start; nothing listens on a port,
// whatever the caller's environment says.
func TestPostgresKeepsWhatWasWritten(t *testing.T) {
	t.Setenv("PGPORT", "1")
	t.Setenv("PGDATA", "/nowhere")
	options := embedded.PostgresOptions{Dir: filepath.Join(folder(t), "pg")}
	server := start(t, options)
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `CREATE TABLE kept AS SELECT 'kept' AS word`); err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{"listen_addresses": "", "fsync": "on", "TimeZone": "UTC", "server_encoding": "UTF8"} {
		if got := value(t, server, `SHOW `+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	// A connection that is open does not hold up the stop.
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, start(t, options), `SELECT word FROM kept`); got != "kept" {
		t.Errorf("got %q", got)
	}
}

// spawn starts this test binary as the other process and returns it and the
// first line it says.
func spawn(t *testing.T, folder string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFolder+"="+folder)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

// kill -9 of the process that started a server ends the server too, and the
// next start on the folder works at once.
func TestKilledParentLeavesNoServer(t *testing.T) {
	folder := folder(t)
	cmd, said := spawn(t, folder)
	pid, err := strconv.Atoi(said)
	if err != nil {
		t.Fatalf("the other process said %q", said)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	lock, err := embedded.Lock(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	server := start(t, embedded.PostgresOptions{Dir: filepath.Join(folder, "pg"), Volatile: true})
	if server.Pid() == pid {
		t.Fatal("the old server was taken for a new one")
	}
	if running(pid) {
		t.Errorf("the server %d of the killed process still runs", pid)
	}
	if got := value(t, server, `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
}

// running reports whether a process is there and no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !errors.Is(err, os.ErrNotExist)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

// A folder is one process's at a time; a second one is told who has it, and
// leaves the first alone.
func TestLockHoldsOneProcess(t *testing.T) {
	folder := folder(t)
	cmd, said := spawn(t, folder)
	pid, err := strconv.Atoi(said)
	if err != nil {
		t.Fatalf("the other process said %q", said)
	}
	_, err = embedded.Lock(folder)
	if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("got %v, want 'in use' and pid %d", err, cmd.Process.Pid)
	}
	if _, said := spawn(t, folder); !strings.Contains(said, "in use") {
		t.Errorf("a third process said %q", said)
	}
	if !running(pid) {
		t.Error("the first process's server is gone")
	}
	if _, err := embedded.Lock(filepath.Join(folder, "missing")); err == nil || errors.Is(err, embedded.ErrInUse) {
		t.Errorf("a folder that does not exist: %v", err)
	}
}

// Without the lock Postgres itself still refuses a second server.
func TestTwoServersOnOneFolder(t *testing.T) {
	options := embedded.PostgresOptions{Dir: filepath.Join(folder(t), "pg"), Volatile: true}
	first := start(t, options)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if second, err := embedded.StartPostgres(ctx, options); err == nil {
		t.Errorf("a second server %d runs beside %d", second.Pid(), first.Pid())
	}
	if got := value(t, first, `SELECT 'up'`); got != "up" {
		t.Errorf("got %q", got)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Run("no binaries", func(t *testing.T) {
		t.Setenv("PG_BIN", t.TempDir())
		_, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(folder(t), "pg")})
		if err == nil || !strings.Contains(err.Error(), "PG_BIN") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("path too long", func(t *testing.T) {
		_, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(folder(t), strings.Repeat("long", 25))})
		if err == nil || !strings.Contains(err.Error(), "choose a shorter folder") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not enterable", func(t *testing.T) {
		if os.Geteuid() != 0 {
			return // then the server runs as this user, who made the folder
		}
		closed := filepath.Join(folder(t), "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(closed, "pg")})
		if err == nil || !strings.Contains(err.Error(), closed) || !strings.Contains(err.Error(), "cannot enter") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not a cluster", func(t *testing.T) {
		dir := filepath.Join(folder(t), "pg")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "precious"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if server, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: dir}); err == nil {
			t.Errorf("server %d runs in a folder of something else", server.Pid())
		}
		if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
			t.Error(err)
		}
	})
}

// An initdb that was interrupted leaves nothing that the next start trips over.
func TestInterruptedInitIsMadeAgain(t *testing.T) {
	folder := folder(t)
	making := filepath.Join(folder, "pg.new")
	if err := os.MkdirAll(filepath.Join(making, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(making, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, embedded.PostgresOptions{Dir: filepath.Join(folder, "pg"), Volatile: true})
	if _, err := os.Stat(making); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", making, err)
	}
}

// A server that ends by itself is noticed.
func TestExitedTellsOfACrash(t *testing.T) {
	server := start(t, embedded.PostgresOptions{Dir: filepath.Join(folder(t), "pg"), Volatile: true})
	if err := syscall.Kill(server.Pid(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Exited():
	case <-time.After(20 * time.Second):
		t.Fatal("nobody noticed that the server ended")
	}
}
