package record_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/record"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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
		if err := spool.Check(); err == nil {
			t.Errorf("with %d bytes left the spool calls itself open", room)
		}
		faults.Now(func(f *record.Faults) { f.Room = -1 })
		if err := spool.Check(); err != nil {
			t.Errorf("a full disk closed the spool for good: %v", err)
		}
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
	spool := openSpool(t, folder, record.Options{SyncInterval: time.Hour})
	ids := put(t, spool, 3)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 8 << 10, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	var refused error
	for range 20000 { // more than the room that was taken before there was a limit
		v := record.Sample(1)
		if err := spool.Record(t.Context(), v); err != nil {
			refused = err
			break
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
	if err := spool.Check(); err == nil {
		t.Error("a spool that is full calls itself open")
	}
	shipper := record.NewShipper(spool, s.sidecar)
	if err := shipper.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := spool.Check(); err != nil {
		t.Errorf("a spool that was emptied: %v", err)
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
		whole := holds(t, path)
		put(t, spool, 1)
		more := holds(t, path)
		crashed := t.TempDir() // as the folder stood when the process died
		if err := os.CopyFS(crashed, os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		size := len(whole) + torn*(len(more)-len(whole)-1)/39
		cut := more[:size:size]
		if torn%2 == 0 { // the room that was taken beforehand stands behind it
			cut = append(cut, make([]byte, 3<<20)...)
		}
		if err := os.WriteFile(lastSegment(t, crashed), cut, 0o600); err != nil {
			t.Fatal(err)
		}
		ship(t, openSpool(t, crashed, record.Options{}), s.sidecar)
		s.wantExactly(ids)
		if _, err := s.owner.Exec(t.Context(), `DELETE FROM decisions`); err != nil {
			t.Fatal(err)
		}
	}
}

// holds is what a segment holds, without the room behind it.
func holds(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := 64
	for end < len(b) && b[end] != 0 {
		end += 32 + int(binary.LittleEndian.Uint32(b[end+8:]))
	}
	return b[:end]
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

// A database that was brought back to an earlier moment gets again what the
// spool still holds; only what is nowhere any more is a gap.
func TestRestoredDatabaseIsFilledFromTheSpool(t *testing.T) {
	s := setup(t)
	folder := t.TempDir()
	spool := openSpool(t, folder, record.Options{})
	shipper := record.NewShipper(spool, s.sidecar)
	drain := func() {
		t.Helper()
		for range 2 { // the first finds that the chain is not where it was
			_ = shipper.Drain(t.Context())
		}
	}
	ids := put(t, spool, 5)
	drain()
	ids = append(ids, put(t, spool, 4)...)
	drain()
	s.run(`DELETE FROM decisions WHERE seq > 3`)
	s.run(`UPDATE chains SET last = 3, head = (SELECT hash FROM decisions d WHERE d.chain = chains.chain AND seq = 3) WHERE spool IS NOT NULL`)
	ids = append(ids, put(t, spool, 2)...)
	drain()
	s.wantExactly(ids)
	if n := spool.Stats().Lost.Load(); n != 0 {
		t.Errorf("%d are counted as lost", n)
	}
	if n := spool.Stats().DepthRecords.Load(); n != 0 {
		t.Errorf("%d are said to wait", n)
	}
	if found := s.verify(record.VerifyOptions{}).Findings; len(found) > 0 {
		t.Error(found)
	}
}

// A tail that was synced and is gone is a loss: it is counted, and the chain
// says which entries it was.
func TestCutTailIsAGapOnRecord(t *testing.T) {
	s := setup(t)
	folder := t.TempDir()
	spool := openSpool(t, folder, record.Options{})
	ids := put(t, spool, 6)
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	path := lastSegment(t, folder)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(groupsOf(b)[6])); err != nil { // two decisions and the end
		t.Fatal(err)
	}
	again := openSpool(t, folder, record.Options{})
	ship(t, again, s.sidecar)
	s.wantExactly(ids[:4])
	report := s.verify(record.VerifyOptions{Spools: []string{folder}})
	if len(report.Findings) > 0 || len(report.Gaps) != 1 || report.Gaps[0].First != 5 || report.Gaps[0].Last != 6 || report.Gaps[0].Purged || again.Stats().Lost.Load() != 2 {
		t.Errorf("%+v, %d lost", report, again.Stats().Lost.Load())
	}
	if found := s.after(t, []string{`DELETE FROM changes WHERE action = 'record.gap'`}).Findings; len(found) == 0 {
		t.Error("a gap that nothing on record speaks of was not found")
	}
}

// The ledger's order is that of the commits, whoever comes together.
func TestLedgerUnderConcurrentCommits(t *testing.T) {
	s := setup(t)
	var wait sync.WaitGroup
	stop := errors.New("stop")
	for i := range 8 {
		wait.Go(func() {
			for k := range 25 {
				err := postgres.InTx(t.Context(), s.control, func(tx pgx.Tx) error {
					// A savepoint that is taken back leaves nothing.
					_ = pgx.BeginFunc(t.Context(), tx, func(inner pgx.Tx) error {
						_ = record.AppendChange(t.Context(), inner, record.Change{Actor: "admin-1", Action: "taken back"})
						return stop
					})
					for range 1 + k%3 {
						if err := record.AppendChange(t.Context(), tx, record.Change{Actor: fmt.Sprintf("admin-%d", i), Action: "access.manage"}); err != nil {
							return err
						}
					}
					if k%5 == 0 {
						return stop
					}
					return record.AppendDecision(t.Context(), tx, record.Sample(i))
				})
				if err != nil && !errors.Is(err, stop) {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	report := s.verify(record.VerifyOptions{})
	if len(report.Findings) > 0 || report.Changes != 8*39 || report.Decisions != 8*20 {
		t.Errorf("%d changes, %d decisions, %v", report.Changes, report.Decisions, report.Findings)
	}
}
