package record_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"chartgate/internal/postgres"
	"chartgate/internal/record"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// A test binary that finds this in its environment is the child of
// TestNoAnswerWithoutRecord: it records until it is killed.
const childFolder, childDatabase = "CHARTGATE_TEST_SPOOL", "CHARTGATE_TEST_DATABASE"

func TestMain(m *testing.M) {
	if folder := os.Getenv(childFolder); folder != "" {
		if err := recordUntilKilled(folder, os.Getenv(childDatabase)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// recordUntilKilled answers decisions as a sidecar does: the id is written out
// when Record has returned, and not before.
func recordUntilKilled(folder, database string) error {
	spool, err := record.OpenSpool(folder, record.Options{SyncInterval: 50 * time.Millisecond, SegmentBytes: 64 << 10})
	if err != nil {
		return err
	}
	if database != "" {
		pool, err := postgres.Open(context.Background(), database, postgres.RoleSidecar, 2)
		if err != nil {
			return err
		}
		go func() { _ = record.NewShipper(spool, pool).Run(context.Background()) }()
	}
	failed := make(chan error)
	for i := range 16 {
		go func() {
			for {
				v := record.Sample(i)
				if err := spool.Record(context.Background(), v); err != nil {
					failed <- err
					return
				}
				if _, err := os.Stdout.WriteString(v.ID.String() + "\n"); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// Every decision whose answer left is on record once, whenever the process is
// killed: while it writes, while it ships, and with what is left of several.
func TestNoAnswerWithoutRecord(t *testing.T) {
	s := setup(t)
	folder := t.TempDir()
	var answered []uuid.UUID
	for round := range 6 {
		database := s.url
		if round%3 == 0 {
			database = "" // nothing is shipped: the next start finds it
		}
		answered = append(answered, killedUnderLoad(t, folder, database, 500+rand.IntN(3000))...)
	}
	spool := openSpool(t, folder, record.Options{})
	ship(t, spool, s.sidecar)
	s.wantEach(answered)
	if lost := spool.Stats().Lost.Load(); lost != 0 {
		t.Errorf("%d are counted as lost", lost)
	}
	t.Logf("%d decisions were answered by 6 processes that were killed", len(answered))
}

// killedUnderLoad runs a child until it has answered n decisions, kills it, and
// returns what it answered.
func killedUnderLoad(t *testing.T, folder, database string, n int) []uuid.UUID {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childFolder+"="+folder, childDatabase+"="+database)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var answered []uuid.UUID
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		id, err := uuid.Parse(lines.Text())
		if err != nil {
			break // cut off by the kill: its answer never left whole
		}
		if answered = append(answered, id); len(answered) == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait()
	if len(answered) < n {
		t.Fatalf("the child ended by itself after %d decisions", len(answered))
	}
	return answered
}

// A second process on the same folder is refused, and says why.
func TestSecondProcessIsRefused(t *testing.T) {
	folder := t.TempDir()
	spool := openSpool(t, folder, record.Options{})
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childFolder+"="+folder)
	said, err := child.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "another process writes to it") {
		t.Errorf("the second process: %v: %s", err, said)
	}
	put(t, spool, 1) // the first goes on
}

// wantEach checks that each of ids is on record, and nothing is there twice.
// What was never answered may be there as well.
func (s stores) wantEach(ids []uuid.UUID) {
	s.t.Helper()
	var missing, twice int
	err := s.owner.QueryRow(context.Background(), `SELECT
		(SELECT count(*) FROM unnest($1::uuid[]) AS want (id) WHERE id NOT IN (SELECT id FROM decisions)),
		(SELECT count(*) FROM (SELECT FROM decisions GROUP BY id HAVING count(*) > 1) d)`, ids).Scan(&missing, &twice)
	if err != nil {
		s.t.Fatal(err)
	}
	if missing > 0 || twice > 0 {
		s.t.Errorf("of %d answered decisions %d are not on record; %d are there twice", len(ids), missing, twice)
	}
}

// Whatever is interleaved – groups, batches that are cut off at any moment,
// processes that die and leave half a group – each decision is on record once,
// in order, and no number is left out.
func TestShippedOnceWhereverItCrashes(t *testing.T) {
	s := setup(t)
	rapid.Check(t, func(r *rapid.T) {
		folder, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			r.Fatal(err)
		}
		open := func() (*record.Spool, *record.Shipper) {
			spool, err := record.OpenSpool(folder, record.Options{SyncInterval: time.Hour, SegmentBytes: 1500, Log: quiet})
			if err != nil {
				r.Fatal(err)
			}
			return spool, record.NewShipper(spool, s.sidecar)
		}
		spool, shipper := open()
		defer func() { _ = spool.Close() }()
		ids := []uuid.UUID{}
		r.Repeat(map[string]func(*rapid.T){
			"record": func(r *rapid.T) {
				var wait sync.WaitGroup
				for i := range rapid.IntRange(1, 5).Draw(r, "decisions") {
					v := record.Sample(i)
					ids = append(ids, v.ID)
					wait.Go(func() {
						if err := spool.Record(context.Background(), v); err != nil {
							t.Error(err)
						}
					})
				}
				wait.Wait()
			},
			"ship": func(r *rapid.T) {
				ctx, stop := context.WithTimeout(context.Background(), time.Duration(rapid.IntRange(0, 8000).Draw(r, "microseconds"))*time.Microsecond)
				defer stop()
				_ = shipper.Drain(ctx)
			},
			"crash": func(r *rapid.T) {
				crashed, err := os.MkdirTemp(t.TempDir(), "")
				if err != nil {
					r.Fatal(err)
				}
				if err := os.CopyFS(crashed, os.DirFS(folder)); err != nil {
					r.Fatal(err)
				}
				torn := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(r, "torn")
				f, err := os.OpenFile(lastSegment(t, crashed), os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					r.Fatal(err)
				}
				if _, err := f.Write(torn); err != nil {
					r.Fatal(err)
				}
				f.Close()
				_ = spool.Close() // too late: the copy is what is left
				folder = crashed
				spool, shipper = open()
			},
		})
		// What a try that was cut off had sent may take hold just now, between the
		// look at the chain and what is added to it: that one fails, and the next
		// knows.
		err = shipper.Drain(context.Background())
		for tries := 0; err != nil && tries < 5; tries++ {
			time.Sleep(50 * time.Millisecond)
			err = shipper.Drain(context.Background())
		}
		if err != nil {
			r.Fatal(err)
		}
		id, err := os.ReadFile(filepath.Join(folder, "spool"))
		if err != nil {
			r.Fatal(err)
		}
		var missing, extra, gaps int
		err = s.owner.QueryRow(context.Background(), `WITH mine AS (SELECT d.* FROM decisions d JOIN chains c USING (chain) WHERE c.spool = trim($2)::uuid)
			SELECT (SELECT count(*) FROM unnest($1::uuid[]) AS want (id) LEFT JOIN (SELECT id, count(*) AS n FROM mine GROUP BY id) m USING (id) WHERE n IS DISTINCT FROM 1),
				(SELECT count(*) FROM mine) - cardinality($1::uuid[]),
				(SELECT count(*) FROM chains c WHERE c.spool = trim($2)::uuid AND (SELECT count(DISTINCT seq) FROM mine WHERE mine.chain = c.chain AND seq BETWEEN 1 AND c.last) <> c.last)`,
			ids, string(id[:36])).Scan(&missing, &extra, &gaps)
		if err != nil || missing != 0 || extra != 0 || gaps != 0 || spool.Stats().Lost.Load() != 0 || spool.Stats().DepthRecords.Load() != 0 {
			r.Fatalf("of %d: %d not there once, %d too many, %d chains with gaps, %d lost, %d waiting (%v)", len(ids), missing, extra, gaps,
				spool.Stats().Lost.Load(), spool.Stats().DepthRecords.Load(), err)
		}
	})
}
