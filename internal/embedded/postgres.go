package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	owner = "chartgate" // the superuser of a private cluster
	port  = "5432"      // names the socket file; nothing listens on it

	maxSocketPath = 107 // bytes, the kernel's limit less the closing NUL

	leftoverWait = 15 * time.Second // for the server of a killed process to end
	startWait    = 60 * time.Second // crash recovery included
	stopWait     = 10 * time.Second // for a fast shutdown, before an immediate one
)

// Postgres is a private server. It belongs to this process: it ends with it.
type Postgres struct {
	dir     string
	process *os.Process
	exited  chan struct{} // closed once the server has ended
	err     error         // how it ended; read after exited
}

// PostgresOptions chooses how a private server runs.
type PostgresOptions struct {
	// Dir is the folder of the cluster; it is made when it is missing. The
	// caller sees to it that no other process uses it (Lock). As root the
	// server runs as another user, who must be able to reach it.
	Dir string
	// Volatile gives up durability for speed: for throw-away clusters.
	Volatile bool
	// Busy keeps a volatile cluster vacuumed: for one that is written to for long.
	Busy bool
}

// StartPostgres makes the cluster where there is none, starts its server and
// returns when it accepts connections. The server of a process that was killed
// a moment ago is waited for. What the server logs goes to Dir+".log".
func StartPostgres(ctx context.Context, options PostgresOptions) (*Postgres, error) {
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return nil, fmt.Errorf("folder of the database: %w", err)
	}
	if socket := filepath.Join(dir, ".s.PGSQL."+port); len(socket) > maxSocketPath {
		return nil, fmt.Errorf("%s is %d bytes long, a unix socket may have %d: choose a shorter folder", socket, len(socket), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("folder of the database: %w", err)
	}
	version, _ := os.ReadFile(filepath.Join(dir, "PG_VERSION")) // none: a new cluster
	programs, err := findBinaries(strings.TrimSpace(string(version)))
	if err != nil {
		return nil, err
	}
	who, err := serverUser()
	if err != nil {
		return nil, err
	}
	if err := who.mayEnter(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	if version == nil {
		if err := initCluster(ctx, programs, who, dir, options.Volatile); err != nil {
			return nil, err
		}
	}
	for deadline := time.Now().Add(leftoverWait); ; {
		p, err := startServer(ctx, programs, who, dir, options)
		if err == nil || !errors.Is(err, errLeftover) || time.Now().After(deadline) {
			return p, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// initCluster makes the cluster beside its place and moves it there, so that
// an interrupted start leaves no half of one.
func initCluster(ctx context.Context, programs binaries, who account, dir string, volatile bool) error {
	if held, err := os.ReadDir(dir); err == nil && len(held) > 0 {
		return fmt.Errorf("%s holds something else than a database, %s for one: choose another folder", dir, held[0].Name())
	}
	making := dir + ".new"
	if err := os.RemoveAll(making); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	if err := os.Mkdir(making, 0o700); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	if err := who.give(making); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	arguments := []string{"-D", making, "-U", owner, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"}
	if volatile {
		arguments = append(arguments, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, programs.initdb, arguments...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = making, serverEnvironment(), who.attributes()
	// Pdeathsig counts the thread that started the child as the parent.
	runtime.LockOSThread()
	output, err := cmd.CombinedOutput()
	runtime.UnlockOSThread()
	if err != nil {
		return fmt.Errorf("make the database: %s: %w: %s", programs.initdb, err, bytes.TrimSpace(output))
	}
	if err := os.Rename(making, dir); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	return nil
}

// serverEnvironment keeps PGPORT, PGDATA and locales of the caller away from
// the server.
func serverEnvironment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}

// errLeftover: a server runs on this folder already.
var errLeftover = errors.New("a server is still running on this folder")

func startServer(ctx context.Context, programs binaries, who account, dir string, options PostgresOptions) (*Postgres, error) {
	log, err := os.OpenFile(dir+".log", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the database: %w", err)
	}
	defer log.Close()
	settings := []string{
		"-D", dir, "-k", dir, "-p", port,
		"-c", "listen_addresses=", "-c", "unix_socket_permissions=0700",
		"-c", "max_connections=200", "-c", "max_prepared_transactions=8", "-c", "timezone=UTC", "-c", "log_timezone=UTC",
		// Details of an error hold values of rows, and statements may.
		"-c", "log_error_verbosity=terse", "-c", "log_min_error_statement=panic",
	}
	if options.Volatile {
		settings = append(settings, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
			"-c", "shared_buffers=64MB")
		if !options.Busy {
			settings = append(settings, "-c", "autovacuum=off")
		}
	}
	cmd := exec.Command(programs.postgres, settings...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = dir, serverEnvironment(), who.attributes()
	cmd.Stdout, cmd.Stderr = log, log

	p := &Postgres{dir: dir, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The thread that starts a child is its parent as Pdeathsig sees it:
		// this one lives until the server has ended.
		runtime.LockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.process = cmd.Process
		started <- nil
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the database: %w", err)
	}
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// ready waits until the server's own pid file says so. Asking by a connection
// would be answered by another server on the same folder just as well.
func (p *Postgres) ready(ctx context.Context) error {
	deadline := time.After(startWait)
	for {
		select {
		case <-p.exited:
			text, _ := os.ReadFile(p.dir + ".log")
			if bytes.Contains(text, []byte(`lock file "`)) && bytes.Contains(text, []byte("already exists")) {
				return fmt.Errorf("start the database: %w: %s", errLeftover, tail(text))
			}
			return fmt.Errorf("start the database: %w: %s", p.err, tail(text))
		case <-ctx.Done():
			return errors.Join(ctx.Err(), p.Stop())
		case <-deadline:
			return errors.Join(fmt.Errorf("start the database: not ready after %s, see %s.log", startWait, p.dir), p.Stop())
		case <-time.After(5 * time.Millisecond):
		}
		text, err := os.ReadFile(filepath.Join(p.dir, "postmaster.pid"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return errors.Join(fmt.Errorf("start the database: %w", err), p.Stop())
		}
		// Line 1 is the pid of the server, line 8 its state.
		lines := strings.Split(string(text), "\n")
		if len(lines) >= 8 && lines[0] == strconv.Itoa(p.process.Pid) && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
	}
}

// tail is the end of the server's log, short enough for an error.
func tail(log []byte) []byte {
	log = bytes.TrimSpace(log)
	return log[max(0, len(log)-1500):]
}

// URL is the address of a database on this server, as its superuser. The
// database "postgres" always exists.
func (p *Postgres) URL(database string) string { return URL(p.dir, database) }

// URL is the address of a database of the private server that runs in folder
// dir, perhaps started by another process.
func URL(dir, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(owner), Path: "/" + database}
	u.RawQuery = url.Values{"host": {dir}, "port": {port}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// Pid is the process id of the server.
func (p *Postgres) Pid() int { return p.process.Pid }

// Exited is closed when the server has ended, for whatever reason.
func (p *Postgres) Exited() <-chan struct{} { return p.exited }

// Stop ends the server and returns when it is gone. Open connections are cut.
// Stopping twice does no harm.
func (p *Postgres) Stop() error {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} { // fast, immediate, by force
		if err := p.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop the database: %w", err)
		}
		select {
		case <-p.exited:
			if s == syscall.SIGINT {
				return nil
			}
			return fmt.Errorf("stop the database: it had to be ended by %s", s)
		case <-time.After(stopWait):
		}
	}
	return fmt.Errorf("stop the database: process %d does not end", p.process.Pid)
}
