package feed_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
)

// told lets the database tell another story about itself than it would: its
// functions are found in the schema public first, and say what the table says.
const told = `
CREATE TABLE told (about text PRIMARY KEY, value text NOT NULL);
GRANT SELECT ON told TO chartgate_sidecar;
CREATE FUNCTION pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS
  $$ SELECT EXISTS (SELECT FROM told WHERE about = 'replica') $$;
CREATE FUNCTION pg_walfile_name(lsn pg_lsn) RETURNS text LANGUAGE sql AS
  $$ SELECT coalesce((SELECT value FROM told WHERE about = 'timeline'), pg_catalog.pg_walfile_name(lsn)) $$;
CREATE FUNCTION pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql AS
  $$ SELECT coalesce((SELECT value::timestamptz FROM told WHERE about = 'start'), pg_catalog.pg_postmaster_start_time()) $$;
CREATE FUNCTION pg_current_snapshot() RETURNS pg_snapshot LANGUAGE sql AS
  $$ SELECT coalesce((SELECT value::pg_snapshot FROM told WHERE about = 'snapshot'), pg_catalog.pg_current_snapshot()) $$;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$;`

// Schedule 7: a poll that another server answers, or one that went back, is
// complete and hears nothing; each statement tells which it is.
func TestEachPollChecksWhoAnswers(t *testing.T) {
	url := pgtest.URL(t)
	owner := pgtest.PoolAs(t, url, "")
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(told)
	sidecar := pgtest.PoolAs(t, url, postgres.RoleSidecar)
	d, err := feed.ReadDeployment(t.Context(), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	var heard feed.News
	f, err := feed.NewFollower(sidecar, d, feed.Options{}, func(_ context.Context, news feed.News) error {
		heard = news
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	settle := func() {
		t.Helper()
		exec(`DELETE FROM told`)
		for range 2 { // the second is of the history of the first
			if err := f.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if heard.All || f.Live() == nil {
			t.Fatal("the same history is taken for another one")
		}
	}
	entry := []feed.Key{{Kind: feed.KindClient, A: "c1"}}
	for about, value := range map[string]string{
		"timeline": "000000FF0000000000000001",
		"start":    "2001-01-01Z",
		"snapshot": "5:5:", // an xmax that went back
	} {
		settle()
		before := f.Live()
		exec(`INSERT INTO told VALUES ('` + about + `', '` + value + `')`)
		if err := f.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !heard.All {
			t.Errorf("another %s: what is remembered was kept", about)
		}
		if live := f.Live(); live != nil && f.Unchanged(live, before.Snapshot, entry) {
			t.Errorf("another %s: an entry of the other history holds", about)
		}
		if about != "snapshot" && f.Live().Identity == before.Identity {
			t.Errorf("another %s: entries in Redis are found under the same identity", about)
		}
	}
	settle()
	exec(`INSERT INTO told VALUES ('replica', 'yes')`)
	if err := f.Poll(t.Context()); err == nil || f.Live() != nil {
		t.Errorf("a replica answered, and the lease lives: %v", err)
	}
	exec(`DELETE FROM told`)
	if err := f.Poll(t.Context()); err != nil || !heard.All {
		t.Errorf("after a replica: %v, a flush %v", err, heard.All)
	}
}

// Schedule 10: none of the fact tables is partitioned or inherited from: rows
// that go into a partition by its own name would pass the statement triggers by.
func TestFactTablesAreWhole(t *testing.T) {
	owner := pgtest.Pool(t)
	var kinds []string
	if err := owner.QueryRow(t.Context(), `SELECT array_agg(DISTINCT relkind::text) FROM pg_class WHERE NOT relispartition AND NOT relhassubclass
		AND oid IN (SELECT r::regclass FROM unnest(ARRAY['practices', 'members', 'clients', 'grants', 'portal_access', 'activation']) r)`).Scan(&kinds); err != nil || !slices.Equal(kinds, []string{"r"}) {
		t.Errorf("fact tables are of the kinds %q, %v", kinds, err)
	}
	var count int
	if err := owner.QueryRow(t.Context(), `SELECT count(DISTINCT tgrelid) FROM pg_trigger WHERE tgname = 'fed_truncate' AND tgenabled = 'A'`).Scan(&count); err != nil || count != 6 {
		t.Errorf("%d tables tell of a TRUNCATE, %v", count, err)
	}
}

// Schedule 3: a poll counts from before it was sent, and is published only after
// its evictions: what it says of the lease never outlives what it knows.
func TestAPollCountsFromBeforeItAndIsPublishedAfterItsEvictions(t *testing.T) {
	pool := pgtest.Pool(t)
	d, err := feed.ReadDeployment(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	var readings time.Duration // of a clock on which every reading takes a nanosecond
	clock := func() time.Duration { readings++; return readings }
	var f *feed.Follower
	var heard []feed.News
	f, err = feed.NewFollower(pool, d, feed.Options{Clock: clock}, func(_ context.Context, news feed.News) error {
		if live := f.Live(); live != nil && live.Number >= news.Number {
			t.Errorf("poll %d is published before its news were applied", news.Number)
		}
		heard = append(heard, news)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		before := readings
		if err := f.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := heard[len(heard)-1].State
		if s.Began != before+1 || s.Ended <= s.Began {
			t.Errorf("the poll began at %d and ended at %d of the clock; it was called at %d", s.Began, s.Ended, before)
		}
		if f.Live() != s {
			t.Error("what is published is not what the listeners were told")
		}
		now := readings
		if lower, upper := s.Bounds(now); !lower.Equal(s.Primary.Add(now-s.Ended)) || !upper.Equal(s.Primary.Add(now-s.Began)) {
			t.Errorf("schedule 6: the primary's clock stands between %v and %v, it stood at %v", lower, upper, s.Primary)
		}
	}
}
