package record_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// stores is a database, and pools that have taken each role.
type stores struct {
	t                       testing.TB
	url                     string
	owner, sidecar, control *pgxpool.Pool
}

func setup(t testing.TB) stores {
	t.Helper()
	url := pgtest.URL(t)
	return stores{t, url, pgtest.PoolAs(t, url, ""), pgtest.PoolAs(t, url, postgres.RoleSidecar), pgtest.PoolAs(t, url, postgres.RoleControl)}
}

// quiet keeps the log of faults that are wanted out of the tests' output.
var quiet = slog.New(slog.DiscardHandler)

func openSpool(t testing.TB, folder string, o record.Options) *record.Spool {
	t.Helper()
	o.Log = quiet
	s, err := record.OpenSpool(folder, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put records n decisions and returns their ids.
func put(t testing.TB, s *record.Spool, n int) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, n)
	for i := range ids {
		v := record.Sample(i)
		ids[i] = v.ID
		if err := s.Record(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func ship(t testing.TB, s *record.Spool, pool *pgxpool.Pool) {
	t.Helper()
	if err := record.NewShipper(s, pool).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// run executes, as the owner, one statement that must work.
func (s stores) run(statement string, arguments ...any) {
	s.t.Helper()
	if _, err := s.owner.Exec(context.Background(), statement, arguments...); err != nil {
		s.t.Fatalf("%s: %v", statement, err)
	}
}

// wantExactly checks that each of ids is on record once, and nothing else.
func (s stores) wantExactly(ids []uuid.UUID) {
	s.t.Helper()
	var wrong, total int
	err := s.owner.QueryRow(context.Background(), `SELECT
		(SELECT count(*) FROM unnest($1::uuid[]) AS want (id) LEFT JOIN (SELECT id, count(*) AS n FROM decisions GROUP BY id) d USING (id) WHERE n IS DISTINCT FROM 1),
		(SELECT count(*) FROM decisions)`, ids).Scan(&wrong, &total)
	if err != nil {
		s.t.Fatal(err)
	}
	if wrong > 0 || total != len(ids) {
		s.t.Errorf("of %d decisions %d are not on record once; there are %d", len(ids), wrong, total)
	}
}

// A busy process has few decisions shipped at a time, an idle one as many as
// there are: who asks meanwhile waits for Postgres no longer than for those.
func TestABusyProcessShipsFewAtATime(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	shipper := record.NewShipper(spool, s.sidecar)
	var all []uuid.UUID
	for _, step := range []struct {
		busy    float64
		batches int64
	}{{1, 4}, {0, 1}} {
		before := spool.Stats().Batches.Load()
		all = append(all, put(t, spool, 2000)...)
		shipper.Found(step.busy)
		if err := shipper.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := spool.Stats().Batches.Load() - before; n != step.batches {
			t.Errorf("busy %v: 2000 decisions in %d transactions, want %d", step.busy, n, step.batches)
		}
	}
	s.wantExactly(all)
}

func TestRecordedDecisionsAreShippedOnce(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	shipper := record.NewShipper(spool, s.sidecar)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shipper.Run(ctx) }()

	var all []uuid.UUID
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i := range 16 {
		wait.Go(func() {
			for range 50 {
				one, two := record.Sample(i), record.Sample(i+1)
				if err := spool.Record(t.Context(), one, two); err != nil {
					t.Error(err)
				}
				mu.Lock()
				all = append(all, one.ID, two.ID)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	s.wantExactly(all)
	stats := spool.Stats()
	if stats.DepthBytes.Load() != 0 || stats.DepthRecords.Load() != 0 || stats.Lost.Load() != 0 || stats.OldestUnshipped() != 0 {
		t.Errorf("after all is shipped the spool says it holds %d bytes, %d records, %v old, %d lost",
			stats.DepthBytes.Load(), stats.DepthRecords.Load(), stats.OldestUnshipped(), stats.Lost.Load())
	}
	var sum int64
	for _, n := range stats.GroupSizes() {
		sum += n
	}
	if sum != stats.Groups.Load() || stats.Recorded.Load() != int64(len(all)) {
		t.Errorf("%d groups are counted by size, %d in all; %d decisions", sum, stats.Groups.Load(), stats.Recorded.Load())
	}
}

// The row says what was decided, and the facts document can be rebuilt from it.
func TestRowHoldsTheDecision(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	want := record.Sample(1)
	if err := spool.Record(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	ship(t, spool, s.sidecar)
	var body, text, columns []byte
	if err := s.owner.QueryRow(t.Context(), `SELECT body, (SELECT text FROM record_settings), to_jsonb(d) - 'body' - 'hash' - 'chain' - 'at' FROM decisions d`).Scan(&body, &text, &columns); err != nil {
		t.Fatal(err)
	}
	row := map[string]any{}
	if err := json.Unmarshal(columns, &row); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"seq": 1.0, "id": want.ID.String(), "practice": "practice-1", "subject_type": "user", "subject_id": "practitioner-1",
		"action": "note.read", "resource_type": "note", "resource_id": "note-1", "client": "client-1", "allow": true, "code": "client_grant",
		"bases": []any{"client_grant"}, "release": want.Release}, row); diff != "" {
		t.Errorf("the row (-want +got)\n%s", diff)
	}
	var view record.View
	if err := view.Read(body); err != nil {
		t.Fatal(err)
	}
	settings, err := record.ReadSettings(text)
	if err != nil {
		t.Fatal(err)
	}
	document, err := view.Document(settings)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(authz.Document(want.Request, want.Facts), document); diff != "" {
		t.Errorf("the facts (-want +got)\n%s", diff)
	}
}

// The sidecar's role appends, and can neither read nor change what is there,
// nor move the head of a chain but forward.
func TestSidecarMayOnlyAppend(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	put(t, spool, 3)
	ship(t, spool, s.sidecar)
	for _, statement := range []string{
		`SELECT * FROM decisions`, `UPDATE decisions SET code = 'x'`, `DELETE FROM decisions`, `TRUNCATE decisions`,
		`SELECT * FROM chains`, `UPDATE chains SET last = 0`, `DELETE FROM checkpoints`, `INSERT INTO checkpoints VALUES (gen_random_uuid(), 1, '', now())`,
		`INSERT INTO ledger (seq) VALUES (9)`, `INSERT INTO purged VALUES (gen_random_uuid(), 1, 2, '', now())`, `SELECT * FROM changes`,
		`SELECT record_purge('2001-01-01Z')`, `SELECT record_partitions(1)`, `DELETE FROM record_settings`, `SELECT * FROM legal_holds`,
	} {
		if _, err := s.sidecar.Exec(t.Context(), statement); err == nil {
			t.Errorf("the sidecar may: %s", statement)
		}
	}
	var chain uuid.UUID
	if err := s.owner.QueryRow(t.Context(), `SELECT chain FROM chains WHERE spool IS NOT NULL`).Scan(&chain); err != nil {
		t.Fatal(err)
	}
	for _, last := range []int{0, 2, 3} {
		if _, err := s.sidecar.Exec(t.Context(), `SELECT record_ship($1, 3, $2, sha256(''))`, chain, last); err == nil {
			t.Errorf("the sidecar moved its head from 3 to %d", last)
		}
	}
}

func TestOwnBundleLeavesOnlyADigest(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	v := authz.NewVerdict(authz.Request{}, "own", "")
	v.Input = []byte(`{"subject":{"id":"someone@example.com"}}`)
	if err := spool.Record(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	ship(t, spool, s.sidecar)
	var body []byte
	if err := s.owner.QueryRow(t.Context(), `SELECT body FROM decisions`).Scan(&body); err != nil {
		t.Fatal(err)
	}
	var view record.View
	if err := view.Read(body); err != nil {
		t.Fatal(err)
	}
	if _, err := view.Document(nil); len(view.InputDigest) != 32 || view.Replayable() || err == nil {
		t.Errorf("digest %x, replayable %v, %v", view.InputDigest, view.Replayable(), err)
	}
}

func TestChangeAndItsRecordAreOne(t *testing.T) {
	s := setup(t)
	stop := errors.New("stop")
	change := record.Change{Practice: "practice-1", Actor: "admin-1", Action: "settings.manage",
		Before: map[string]any{"preset": "seed"}, After: map[string]any{"preset": "help-centre"}, Reason: "audit"}
	for _, end := range []error{stop, nil} {
		err := postgres.InTx(t.Context(), s.control, func(tx pgx.Tx) error {
			if err := record.AppendChange(t.Context(), tx, change); err != nil {
				return err
			}
			if err := record.AppendDecision(t.Context(), tx, record.Sample(1)); err != nil {
				return err
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		var changes, decisions, links int
		if err := s.owner.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM decisions), (SELECT count(*) FROM ledger)`).Scan(&changes, &decisions, &links); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 0, false: 1}[end != nil]; changes != want || decisions != want || links != 2*want {
			t.Errorf("after %v: %d changes, %d decisions, %d links", end, changes, decisions, links)
		}
	}
	for _, statement := range []string{`UPDATE changes SET actor = 'admin-2'`, `DELETE FROM ledger`, `UPDATE chains SET last = 0`, `DELETE FROM purged`, `UPDATE legal_holds SET reason = 'x'`} {
		if _, err := s.control.Exec(t.Context(), statement); err == nil {
			t.Errorf("control may: %s", statement)
		}
	}
}

// A start with a folder that cannot be used is a clear error, not a spool that
// forgets.
func TestUnusableFolderIsAnErrorAtStart(t *testing.T) {
	folder := t.TempDir()
	first := openSpool(t, folder, record.Options{SyncInterval: time.Hour})
	if _, err := record.OpenSpool(folder, record.Options{}); !errors.Is(err, record.ErrHeld) {
		t.Errorf("a second process: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Record(t.Context(), record.Sample(1)); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("recording to a closed spool: %v", err)
	}
	openSpool(t, folder, record.Options{})
	for name, at := range map[string]string{"below a file": filepath.Join(folder, "lock", "spool"), "in a folder of the system": "/proc/chartgate"} {
		if _, err := record.OpenSpool(at, record.Options{}); err == nil {
			t.Errorf("a spool %s was opened", name)
		}
	}
	if _, err := record.OpenSpool(t.TempDir(), record.Options{}.WithFaults(&record.Faults{Room: 10})); err == nil {
		t.Error("a spool on a full disk was opened")
	}
	if _, err := record.OpenSpool(t.TempDir(), record.Options{SyncInterval: -1}); err == nil {
		t.Error("a negative sync interval was taken")
	}
}
