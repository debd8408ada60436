package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/embedded"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5/pgxpool"
)

const apiKey = "a-key-for-the-soak-test"

// fleet is a whole deployment: Postgres, Redis, control, and sidecars that see
// both stores through proxies of their own.
type fleet struct {
	dir      string
	group    int // of its processes
	pg       *embedded.Postgres
	redis    *exec.Cmd
	owner    *pgxpool.Pool
	control  *process
	sidecars []*sidecar
}

type sidecar struct {
	*process
	pg, redis *proxy
}

// process is one of our binaries, running.
type process struct {
	cmd  *exec.Cmd
	base string // http://127.0.0.1:port
}

// start brings up n sidecars. Extra build flags make a build that is broken on
// purpose.
func start(t *testing.T, n int, flags ...string) *fleet {
	t.Helper()
	dir, err := os.MkdirTemp("", "soak-") // t.TempDir may be too long for a socket, and closed to another user
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fleet{dir: dir}
	f.sweepUp(t)
	// What is built here is not what the test cache looks at: walking the source
	// makes go run the test again when any of it has changed.
	for _, room := range []string{"cmd", "internal", "bundles"} {
		if err := filepath.WalkDir(filepath.Join("../../..", room), func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", append(append([]string{"build"}, flags...), "-o", dir+"/", "chartgate/cmd/sidecar", "chartgate/cmd/control")...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := f.startPostgres(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.pg.Stop() })
	url := f.url(filepath.Join(dir, "pg"))
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if f.owner, err = postgres.Open(t.Context(), url, "", 8); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.owner.Close)
	if err := f.startRedis(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stopRedis)
	f.control = f.run(t, "control", url, "unix://"+filepath.Join(dir, "redis.sock"))
	for i := range n {
		own := filepath.Join(dir, fmt.Sprintf("s%d", i))
		if err := os.MkdirAll(own, 0o755); err != nil {
			t.Fatal(err)
		}
		s := &sidecar{
			pg:    newProxy(t, filepath.Join(own, ".s.PGSQL.5432"), filepath.Join(dir, "pg", ".s.PGSQL.5432")),
			redis: newProxy(t, filepath.Join(own, "redis.sock"), filepath.Join(dir, "redis.sock")),
		}
		s.process = f.run(t, "sidecar", f.url(own), "unix://"+filepath.Join(own, "redis.sock"))
		f.sidecars = append(f.sidecars, s)
	}
	return f
}

// sweepUp has every process of the fleet killed, one that is stopped too, and
// the folder removed, when this process ends: also when it is killed itself.
func (f *fleet) sweepUp(t testing.TB) {
	t.Helper()
	// read ends when the only other end of the pipe, ours, is closed.
	cmd := exec.Command("sh", "-c", `read -r _; rm -rf "$1"; kill -9 0`, "sweep", f.dir)
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.group = cmd.Process.Pid
	t.Cleanup(func() {
		lifeline.Close()
		_ = cmd.Wait() // it kills itself
	})
}

// start starts cmd as a process of the fleet.
func (f *fleet) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: f.group}
	return cmd.Start()
}

func (f *fleet) url(host string) string {
	return "postgres://chartgate@/postgres?sslmode=disable&port=5432&host=" + host
}

func (f *fleet) startPostgres() error {
	pg, err := embedded.StartPostgres(context.Background(), embedded.PostgresOptions{Dir: filepath.Join(f.dir, "pg"), Volatile: true, Busy: true})
	if err == nil {
		f.pg = pg
	}
	return err
}

func (f *fleet) startRedis() error {
	socket := filepath.Join(f.dir, "redis.sock")
	f.redis = exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--dir", f.dir, "--save", "", "--loglevel", "warning")
	if err := f.start(f.redis); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (f *fleet) stopRedis() {
	_ = f.redis.Process.Kill()
	_ = f.redis.Wait()
}

// run starts one of our binaries on a free port and waits until it is ready.
func (f *fleet) run(t testing.TB, name, databaseURL, redisURL string) *process {
	t.Helper()
	cmd := exec.Command(filepath.Join(f.dir, name), "--addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "REDIS_URL="+redisURL, "CHARTGATE_API_KEY="+apiKey, "CHARTGATE_DEVELOPMENT=true",
		"CHARTGATE_SPOOL_DIR="+filepath.Join(f.dir, "spool-"+name+"-"+filepath.Base(filepath.Dir(strings.TrimPrefix(redisURL, "unix://")))))
	errors, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.start(cmd); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	t.Cleanup(p.kill)
	found := make(chan string, 1)
	var said []string
	var mu sync.Mutex
	go func() {
		for lines := bufio.NewScanner(errors); lines.Scan(); {
			var line struct {
				Msg, Address string
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Address != "" {
				select {
				case found <- line.Address:
				default:
				}
			}
			mu.Lock()
			said = append(said, lines.Text())
			mu.Unlock()
		}
	}()
	select {
	case address := <-found:
		p.base = "http://" + address
	case <-time.After(60 * time.Second):
		mu.Lock()
		defer mu.Unlock()
		t.Fatalf("%s did not start:\n%s", name, strings.Join(said, "\n"))
	}
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process at once, and waits for it. Killing twice does no harm.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
