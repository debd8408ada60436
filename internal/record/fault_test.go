package record_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A disk that runs full refuses decisions and loses none: the torn group is
// taken back, and when there is room again the spool goes on.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	s := setup(t)
	for _, room := range []int64{0, 1, 31, 32, 100, 700} {
		folder := t.TempDir()
		faults := &record.Faults{Room: -1}
		spool := openSpool(t, folder, record.Options{}.WithFaults(faults))
		ids := put(t, spool, 2)
		faults.Now(func(f *record.Faults) { f.Room = room })
		refused := 0
		for range 5 {
			v := record.Sample(1)
			switch err := spool.Record(t.Context(), v); {
			case err == nil:
				ids = append(ids, v.ID)
			case errors.Is(err, authz.ErrUnavailable):
				refused++
			default:
				t.Error(err)
			}
		}
		if refused == 0 {
			t.Errorf("with %d bytes left nothing was refused", room)
		}
		if err := spool.Check(); err != nil {
			t.Errorf("a full disk closed the spool for good: %v", err)
		}
		faults.Now(func(f *record.Faults) { f.Room = -1 })
		ids = append(ids, put(t, spool, 2)...)
		ship(t, spool, s.sidecar)
		s.wantExactly(ids)
		if _, err := s.owner.Exec(t.Context(), `DELETE FROM decisions`); err != nil {
			t.Fatal(err)
		}
	}
}

// The operating system's own limit on the size of a file is a full disk too.
func TestFileSizeLimitIsARefusal(t *testing.T) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	s := setup(t)
	folder := t.TempDir()
	spool := openSpool(t, folder, record.Options{})
	ids := put(t, spool, 3)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 8 << 10, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	var refused error
	for range 100 {
		v := record.Sample(1)
		if err := spool.Record(t.Context(), v); err != nil {
			refused = err
			continue
		}
		ids = append(ids, v.ID)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(refused, authz.ErrUnavailable) || !errors.Is(refused, syscall.EFBIG) {
		t.Errorf("beyond the limit: %v", refused)
	}
	ids = append(ids, put(t, spool, 1)...)
	ship(t, spool, s.sidecar)
	s.wantExactly(ids)
}

// After a sync that failed, or a torn group that cannot be taken back, nobody
// knows what is on the disk: nothing is taken any more, and a new start repairs.
func TestFailedSyncOrTruncateClosesTheSpool(t *testing.T) {
	s := setup(t)
	for name, c := range map[string]struct {
		interval time.Duration
		spoil    func(*record.Faults)
	}{
		"sync of a group":   {0, func(f *record.Faults) { f.Sync = errors.New("input/output error") }},
		"sync in its time":  {time.Millisecond, func(f *record.Faults) { f.Sync = errors.New("input/output error") }},
		"truncate":          {0, func(f *record.Faults) { f.Room, f.Truncate = 100, errors.New("input/output error") }},
		"truncate, no sync": {time.Hour, func(f *record.Faults) { f.Room, f.Truncate = 100, errors.New("input/output error") }},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			faults := &record.Faults{Room: -1}
			spool := openSpool(t, folder, record.Options{SyncInterval: c.interval}.WithFaults(faults))
			ids := put(t, spool, 3)
			faults.Now(c.spoil)
			v := record.Sample(1)
			for err := error(nil); err == nil; err = spool.Check() {
				if err := spool.Record(t.Context(), v); err == nil {
					ids = append(ids, v.ID)
					v = record.Sample(1)
				}
			}
			faults.Now(func(f *record.Faults) { f.Room, f.Sync, f.Truncate = -1, nil, nil })
			if err := spool.Record(t.Context(), record.Sample(1)); !errors.Is(err, authz.ErrUnavailable) {
				t.Errorf("after the fault was over: %v", err)
			}
			if err := spool.Close(); err != nil {
				t.Fatal(err)
			}
			ship(t, openSpool(t, folder, record.Options{}), s.sidecar)
			var missing int
			if err := s.owner.QueryRow(t.Context(), `SELECT count(*) FROM unnest($1::uuid[]) id WHERE id NOT IN (SELECT id FROM decisions)`, ids).Scan(&missing); err != nil || missing > 0 {
				t.Errorf("%d answered decisions are not on record (%v)", missing, err)
			}
		})
	}
}

// What waits for Postgres is bounded: beyond it decisions are refused, until
// the shipper has made room.
func TestFullSpoolRefuses(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{MaxBytes: 8 << 10, SegmentBytes: 2 << 10})
	var ids []uuid.UUID
	var refused error
	for refused == nil {
		v := record.Sample(len(ids))
		if refused = spool.Record(t.Context(), v); refused == nil {
			ids = append(ids, v.ID)
		}
	}
	if !errors.Is(refused, authz.ErrUnavailable) || len(ids) < 10 || len(ids) > 40 {
		t.Errorf("after %d decisions: %v", len(ids), refused)
	}
	shipper := record.NewShipper(spool, s.sidecar)
	if err := shipper.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, put(t, spool, 4)...)
	if err := shipper.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantExactly(ids)
}

// A tail that was torn when the process died is cut off, however much of it
// got to the file, and every whole group is shipped.
func TestTornTailIsCutOff(t *testing.T) {
	s := setup(t)
	for torn := range 40 {
		folder := t.TempDir()
		spool := openSpool(t, folder, record.Options{SyncInterval: time.Hour})
		ids := put(t, spool, 3)
		path := lastSegment(t, folder)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, spool, 1)
		more, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		crashed := t.TempDir() // as the folder stood when the process died
		if err := os.CopyFS(crashed, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		size := len(whole) + torn*(len(more)-len(whole)-1)/39
		if err := os.WriteFile(lastSegment(t, crashed), more[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		ship(t, openSpool(t, crashed, record.Options{}), s.sidecar)
		s.wantExactly(ids)
		if _, err := s.owner.Exec(t.Context(), `DELETE FROM decisions`); err != nil {
			t.Fatal(err)
		}
	}
}

// lastSegment is the newest file of the newest part of a spool.
func lastSegment(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segment below %s: %v", folder, err)
	}
	return files[len(files)-1]
}

// What somebody spoiled in the middle of a spool costs what stood there and no
// more. The loss is counted, and stands on record as a gap.
func TestDamageInTheMiddleIsAGapOnRecord(t *testing.T) {
	s := setup(t)
	folder := t.TempDir()
	spool := openSpool(t, folder, record.Options{})
	ids := put(t, spool, 9)
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	path := lastSegment(t, folder)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0xff
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	again := openSpool(t, folder, record.Options{})
	ship(t, again, s.sidecar)
	if lost := again.Stats().Lost.Load(); lost != 1 {
		t.Errorf("%d decisions are counted as lost, want 1", lost)
	}
	var n, gaps int
	if err := s.owner.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM decisions WHERE id = ANY ($1)), (SELECT count(*) FROM changes WHERE action = 'record.gap')`, ids).Scan(&n, &gaps); err != nil {
		t.Fatal(err)
	}
	if n != 8 || gaps != 1 {
		t.Errorf("%d decisions and %d gaps are on record, want 8 and 1", n, gaps)
	}
	if kept, _ := filepath.Glob(filepath.Join(folder, "damaged-*", "*.seg")); len(kept) != 1 {
		t.Errorf("the damaged files are not kept: %v", kept)
	}
}

// An orphaned spool beside this one is shipped; one that somebody writes to,
// or did a moment ago, is left alone.
func TestOrphanedSpoolsAreShipped(t *testing.T) {
	s := setup(t)
	root := t.TempDir()
	orphan := openSpool(t, filepath.Join(root, "sidecar-1"), record.Options{})
	ids := put(t, orphan, 5)
	if err := orphan.Close(); err != nil {
		t.Fatal(err)
	}
	busy := openSpool(t, filepath.Join(root, "sidecar-2"), record.Options{})
	put(t, busy, 1)
	if err := os.Mkdir(filepath.Join(root, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	patient := openSpool(t, filepath.Join(root, "sidecar-3"), record.Options{Orphans: root})
	ids = append(ids, put(t, patient, 1)...)
	ship(t, patient, s.sidecar)
	s.wantExactly(ids[5:])
	if err := patient.Close(); err != nil {
		t.Fatal(err)
	}
	mine := openSpool(t, filepath.Join(root, "sidecar-3"), record.Options{Orphans: root}.AdoptAfter(time.Nanosecond))
	ids = append(ids, put(t, mine, 1)...)
	ship(t, mine, s.sidecar)
	s.wantExactly(ids)
	openSpool(t, filepath.Join(root, "sidecar-1"), record.Options{}) // its folder is free again
}

// The chain of each start goes on from the one before.
func TestChainsGoOnFromEachOther(t *testing.T) {
	s := setup(t)
	folder := t.TempDir()
	for range 3 {
		spool := openSpool(t, folder, record.Options{})
		put(t, spool, 2)
		ship(t, spool, s.sidecar)
		if err := spool.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var chains, linked, closed int
	if err := s.owner.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE p.chain IS NOT NULL), count(*) FILTER (WHERE c.closed) FROM chains c
		LEFT JOIN chains p ON p.chain = c.parent AND p.last = c.parent_last AND p.head = c.parent_head AND p.closed WHERE c.spool IS NOT NULL`).Scan(&chains, &linked, &closed); err != nil {
		t.Fatal(err)
	}
	if chains != 3 || linked != 2 || closed != 2 {
		t.Errorf("%d chains, %d go on from another, %d are closed", chains, linked, closed)
	}
}

// A commit whose outcome is not known is looked up: nothing is brought twice,
// nothing is left out. The proxy cuts the connection before, within and after
// the commit, by counting what Postgres is told and says.
func TestUnknownCommitIsLookedUp(t *testing.T) {
	s := setup(t)
	proxy := startProxy(t, s.url)
	pool := proxy.pool(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	shipper := record.NewShipper(spool, pool)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shipper.Run(ctx) }()
	var ids []uuid.UUID
	for cut := range 60 {
		ids = append(ids, put(t, spool, 3)...)
		proxy.cutAfter(cut)
		for spool.Stats().DepthRecords.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.wantExactly(ids)
	if proxy.cuts.Load() < 20 || proxy.answered.Load() == 0 || spool.Stats().Lost.Load() != 0 {
		t.Errorf("%d connections were cut, %d of them after the commit had reached Postgres; %d lost", proxy.cuts.Load(), proxy.answered.Load(), spool.Stats().Lost.Load())
	}
}

// proxy stands between a pool and Postgres, and cuts connections.
type proxy struct {
	address  string
	target   string
	url      *url.URL
	cuts     atomic.Int64
	answered atomic.Int64 // cuts that swallowed the answer to a COMMIT
	budget   atomic.Int64 // messages from the client until the next cut; -1: none
	mu       sync.Mutex
}

func startProxy(t *testing.T, address string) *proxy {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: u}
	p.budget.Store(-1)
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	network := "tcp"
	p.target = net.JoinHostPort(config.ConnConfig.Host, fmt.Sprint(config.ConnConfig.Port))
	if strings.HasPrefix(config.ConnConfig.Host, "/") {
		network, p.target = "unix", filepath.Join(config.ConnConfig.Host, fmt.Sprintf(".s.PGSQL.%d", config.ConnConfig.Port))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p.address = listener.Addr().String()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, p.target)
			if err != nil {
				client.Close()
				continue
			}
			go p.forward(client, server)
			go func() {
				buffer := make([]byte, 64<<10)
				for {
					n, err := server.Read(buffer)
					if err == nil {
						_, err = client.Write(buffer[:n])
					}
					if err != nil {
						client.Close()
						server.Close()
						return
					}
				}
			}()
		}
	}()
	return p
}

// forward passes on what the client says. When its budget is used up it passes
// on one message more and closes the client's side at once, so that the answer,
// to a COMMIT too, never arrives.
func (p *proxy) forward(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			server.Close()
			return
		}
		cut := p.budget.Load() >= 0 && p.budget.Add(-1) < 0
		if cut {
			p.cuts.Add(1)
			if strings.Contains(strings.ToLower(string(buffer[:n])), "commit") {
				p.answered.Add(1)
			}
			client.Close()
		}
		if _, err := server.Write(buffer[:n]); err != nil || cut {
			time.Sleep(5 * time.Millisecond) // Postgres reads it before it sees the end
			server.Close()
			client.Close()
			return
		}
	}
}

// cutAfter cuts the connection that is in use when n messages more were sent.
func (p *proxy) cutAfter(n int) { p.budget.Store(int64(n % 12)) }

func (p *proxy) pool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	u := *p.url
	query := u.Query()
	query.Del("host")
	query.Del("port")
	u.Host, u.RawQuery = p.address, query.Encode()
	return pgtest.PoolAs(t, u.String(), postgres.RoleSidecar)
}
