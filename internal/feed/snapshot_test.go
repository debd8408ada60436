package feed_test

import (
	"slices"
	"testing"

	"chartgate/internal/feed"
	"chartgate/internal/postgres/pgtest"

	"pgregory.net/rapid"
)

// history is a run of transactions: who is still running after each step.
func TestLaterSnapshotsSeeMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			next      uint64 = 3
			running   []uint64
			committed = map[uint64]bool{}
			taken     []feed.Snapshot
			known     []map[uint64]bool
		)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 2).Draw(t, "step"); {
			case step == 0:
				running = append(running, next)
				next++
			case step == 1 && len(running) > 0:
				i := rapid.IntRange(0, len(running)-1).Draw(t, "who")
				committed[running[i]] = true
				running = slices.Delete(running, i, i+1)
			}
			s := snapshotOf(t, next, running)
			now := map[uint64]bool{}
			for xid := range committed {
				now[xid] = true
			}
			taken, known = append(taken, s), append(known, now)
		}
		for i, s := range taken {
			for xid := uint64(3); xid < next; xid++ {
				if s.Sees(xid) != known[i][xid] {
					t.Fatalf("snapshot %v sees %d: %v", s, xid, s.Sees(xid))
				}
			}
			for j, other := range taken {
				includes := true
				for xid := range known[j] {
					includes = includes && known[i][xid]
				}
				if i >= j && !s.AtLeast(other) {
					t.Fatalf("%v came after %v and is not at least as fresh", s, other)
				}
				if s.AtLeast(other) && !includes {
					t.Fatalf("%v counts as at least as fresh as %v, which sees more", s, other)
				}
			}
		}
	})
}

func snapshotOf(t *rapid.T, next uint64, running []uint64) feed.Snapshot {
	text := ""
	xmin := next
	for i, xid := range running {
		xmin = min(xmin, xid)
		if i > 0 {
			text += ","
		}
		text += feed.Number(xid)
	}
	s, err := feed.ParseSnapshot(feed.Number(xmin) + ":" + feed.Number(next) + ":" + text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSnapshotReadsWhatPostgresWrites(t *testing.T) {
	pool := pgtest.Pool(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	var xid uint64
	if err := tx.QueryRow(t.Context(), `SELECT pg_current_xact_id()::text::bigint`).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	var text string
	if err := pool.QueryRow(t.Context(), `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	s, err := feed.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != text {
		t.Errorf("read %q, wrote %q", text, s)
	}
	if s.Sees(xid) {
		t.Errorf("%s sees %d, which is still running", text, xid)
	}
	for _, bad := range []string{"", "1:2", "2:1:", "1:5:7", "1:5:3,2", "a:b:", "1:5:2,,3", "1:5:2:"} {
		if s, err := feed.ParseSnapshot(bad); err == nil {
			t.Errorf("%q was read as %v", bad, s)
		}
	}
}

func TestTokensCannotBeMadeUp(t *testing.T) {
	pool := pgtest.Pool(t)
	d, err := feed.ReadDeployment(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	token, err := d.Revision(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ParseToken(token); err != nil {
		t.Error(err)
	}
	elsewhere := pgtest.Pool(t) // made from the same template: only what follows makes it another deployment
	if _, err := elsewhere.Exec(t.Context(), `DELETE FROM deployment; INSERT INTO deployment DEFAULT VALUES`); err != nil {
		t.Fatal(err)
	}
	other, err := feed.ReadDeployment(t.Context(), elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ParseToken(token); err == nil {
		t.Error("a token of another deployment was read")
	}
	for i := range token {
		altered := []byte(token)
		altered[i] = 'A' + (altered[i]-'A'+1)%26
		if _, err := d.ParseToken(string(altered)); err == nil && string(altered) != token {
			t.Errorf("altered at %d, and read", i)
		}
	}
}
