package feed_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5/pgxpool"
)

// watch is a follower whose polls a test makes by hand, and all that it heard.
type watch struct {
	owner    *pgxpool.Pool
	follower *feed.Follower
	heard    []feed.News
	refuse   error
	now      atomic.Int64
}

func follow(t *testing.T) *watch {
	t.Helper()
	url := pgtest.URL(t)
	w := &watch{owner: pgtest.PoolAs(t, url, "")}
	w.exec(t, `INSERT INTO practices (id) VALUES ('p1'); INSERT INTO users (id) VALUES ('u1');
		INSERT INTO members (practice, user_id, name, roles, status) VALUES ('p1', 'u1', 'U', '{practitioner}', 'active');
		INSERT INTO clients (id, practice, first_name, last_name) VALUES ('c1', 'p1', 'C', 'One'), ('c2', 'p1', 'C', 'Two')`)
	sidecar := pgtest.PoolAs(t, url, postgres.RoleSidecar)
	d, err := feed.ReadDeployment(t.Context(), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Duration { return time.Duration(w.now.Load()) }
	w.follower, err = feed.NewFollower(sidecar, d, feed.Options{Clock: clock}, func(_ context.Context, news feed.News) error {
		w.heard = append(w.heard, news)
		return w.refuse
	})
	if err != nil {
		t.Fatal(err)
	}
	w.poll(t)
	return w
}

func (w *watch) exec(t *testing.T, sql string) {
	t.Helper()
	if _, err := w.owner.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// poll polls once and returns the keys it heard, "all" among them for a flush.
func (w *watch) poll(t *testing.T) []string {
	t.Helper()
	if err := w.follower.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w.last()
}

func (w *watch) last() []string {
	news := w.heard[len(w.heard)-1]
	var keys []string
	if news.All {
		keys = append(keys, "all")
	}
	for _, touch := range news.Touches {
		key := strings.TrimRight(touch.Key.Kind+" "+touch.Key.A+" "+touch.Key.B, " ")
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: heard %q, want %q", what, got, want)
	}
}

func TestEveryWriterIsHeard(t *testing.T) {
	w := follow(t)
	expect(t, "nothing", w.poll(t))
	for _, c := range []struct {
		sql  string
		want []string
	}{
		{`UPDATE clients SET assigned = 'u1' WHERE id = 'c1'`, []string{"client c1"}},
		{`UPDATE clients SET last_name = 'Uno' WHERE id = 'c1'`, nil}, // no fact
		{`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('p1', 'c2', 'u1', 'u1')`, []string{"grant c2 u1"}},
		{`UPDATE grants SET client = 'c1'`, []string{"grant c1 u1", "grant c2 u1"}}, // the old key and the new one
		{`UPDATE practices SET preset = 'help-centre'`, []string{"settings p1"}},
		{`UPDATE members SET status = 'removed'`, []string{"client c1", "grant c1 u1", "member p1 u1"}},
		{`TRUNCATE grants`, []string{"all"}},
		{`SET session_replication_role = replica; UPDATE clients SET status = 'archived' WHERE id = 'c2'; RESET session_replication_role`, []string{"client c2"}},
		{`UPDATE clients SET id = 'c3' WHERE id = 'c2'`, []string{"client c2", "client c3"}},
		{`ALTER TABLE clients ADD COLUMN shoe_size int`, []string{"all"}},
		{`INSERT INTO clients (id, practice, first_name, last_name) SELECT 'many-' || n, 'p1', 'C', 'M' FROM generate_series(1, 10001) n`, []string{"all"}},
	} {
		w.exec(t, c.sql)
		expect(t, c.sql, w.poll(t), c.want...)
		expect(t, "after "+c.sql, w.poll(t))
	}
}

// Schedule 1: a transaction that is open anywhere in the cluster holds back
// what a position in the feed can claim, and must not hold back a revoke.
func TestOpenTransactionsHoldNothingBack(t *testing.T) {
	w := follow(t)
	w.exec(t, `INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('p1', 'c1', 'u1', 'u1')`)
	w.poll(t)
	open, err := w.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback(context.Background())
	if _, err := open.Exec(t.Context(), `UPDATE practices SET preset = 'help-centre'`); err != nil {
		t.Fatal(err)
	}
	// A transaction that writes a fact wakes followers and can therefore not be
	// prepared; one that writes something else can, and stays open for good.
	w.exec(t, `BEGIN; INSERT INTO users (id) VALUES ('u9'); PREPARE TRANSACTION 'orphan'`)
	for range 3 {
		w.poll(t)
	}
	w.exec(t, `DELETE FROM grants`)
	expect(t, "a revoke beside open transactions", w.poll(t), "grant c1 u1")
	expect(t, "and not again", w.poll(t))
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, "the early one, committed late", w.poll(t), "settings p1")
	w.exec(t, `ROLLBACK PREPARED 'orphan'`)
	expect(t, "the prepared one", w.poll(t))
}

// Schedule 14: a row that is written after a savepoint belongs to the whole
// transaction.
func TestSavepointsAreHeardWithTheirTransaction(t *testing.T) {
	w := follow(t)
	w.exec(t, `BEGIN; SAVEPOINT s; UPDATE clients SET status = 'archived' WHERE id = 'c1'; RELEASE s;
		SAVEPOINT r; UPDATE clients SET status = 'archived' WHERE id = 'c2'; ROLLBACK TO r; COMMIT`)
	expect(t, "a savepoint", w.poll(t), "client c1")
}

func TestTheLeaseCountsFromBeforeThePollAndEnds(t *testing.T) {
	w := follow(t)
	if w.follower.Live() == nil {
		t.Fatal("no lease after a complete poll")
	}
	w.now.Add(int64(feed.MaxLease) - 1)
	if w.follower.Live() == nil {
		t.Error("the lease ended early")
	}
	w.now.Add(1)
	if w.follower.Live() != nil {
		t.Error("the lease outlived its end")
	}
	w.poll(t)
	if s := w.follower.Live(); s == nil || s.Began != time.Duration(w.now.Load()) {
		t.Error("a poll did not renew the lease")
	}
	// Schedule 9: a suspend of an hour, which the clock counts.
	w.now.Add(int64(time.Hour))
	if w.follower.Live() != nil {
		t.Error("the lease outlived a suspend")
	}
}

func TestAPollThatCouldNotBeAppliedDoesNotCount(t *testing.T) {
	w := follow(t)
	w.refuse = errors.New("the release could not be loaded")
	w.exec(t, `UPDATE clients SET status = 'archived' WHERE id = 'c1'`)
	if err := w.follower.Poll(t.Context()); !errors.Is(err, w.refuse) {
		t.Fatalf("the poll returned %v", err)
	}
	if w.follower.Live() != nil {
		t.Error("a lease lives although its news were not applied")
	}
	w.refuse = nil
	if keys := w.poll(t); !slices.Contains(keys, "all") {
		t.Errorf("after news that were half applied: heard %q, want a flush", keys)
	}
}

// Schedule 7: another history of the database.
func TestAnotherHistoryDropsEverything(t *testing.T) {
	w := follow(t)
	w.exec(t, `DELETE FROM deployment; INSERT INTO deployment DEFAULT VALUES`) // a database of another identity answers
	if keys := w.poll(t); !slices.Contains(keys, "all") {
		t.Errorf("heard %q, want a flush", keys)
	}
	expect(t, "then it is followed", w.poll(t))
}

// Schedule 10: a trigger that somebody took away. What was written meanwhile is
// told by nobody, where a superuser has not made the trigger on changes of the
// schema.
func TestMissingTriggersEndTheLease(t *testing.T) {
	w := follow(t)
	w.exec(t, `DROP EVENT TRIGGER IF EXISTS chartgate_schema_changed`)
	before := w.follower.Live().Snapshot
	w.exec(t, `ALTER TABLE grants DISABLE TRIGGER fed_delete`)
	if err := w.follower.Poll(t.Context()); err == nil || w.follower.Live() != nil {
		t.Errorf("polled without a trigger: %v", err)
	}
	w.exec(t, `DELETE FROM grants; ALTER TABLE grants ENABLE ALWAYS TRIGGER fed_delete`)
	if keys := w.poll(t); !slices.Contains(keys, "all") {
		t.Errorf("after the trigger came back: heard %q, want a flush", keys)
	}
	if w.follower.Live() == nil {
		t.Error("no lease after the trigger came back")
	}
	if w.follower.Unchanged(w.follower.Live(), before, []feed.Key{{Kind: feed.KindGrant, A: "c1", B: "u1"}}) {
		t.Error("an entry from before it was taken away holds")
	}
	expect(t, "and once only", w.poll(t))
}

// Schedule 11: pruning never drops what a follower has not seen without its
// noticing.
func TestPruningIsNoticed(t *testing.T) {
	w := follow(t)
	control := `SELECT feed_prune('0 seconds')`
	open, err := w.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback(context.Background())
	if _, err := open.Exec(t.Context(), `UPDATE clients SET status = 'archived' WHERE id = 'c1'`); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first call only marks the moment
		w.exec(t, control)
	}
	if err := open.Commit(t.Context()); err != nil { // its row is older than both marks
		t.Fatal(err)
	}
	expect(t, "a row older than the retention, committed after it", w.poll(t), "client c1")

	w.exec(t, `UPDATE clients SET status = 'archived' WHERE id = 'c2'`)
	for range 2 {
		w.exec(t, control)
	}
	var left int
	if err := w.owner.QueryRow(t.Context(), `SELECT count(*) FROM feed`).Scan(&left); err != nil || left != 0 {
		t.Fatalf("%d rows left, %v", left, err)
	}
	if keys := w.poll(t); !slices.Contains(keys, "all") {
		t.Errorf("a follower behind the low-water mark heard %q, want a flush", keys)
	}
}

func TestEntriesAreJudgedByTheWindow(t *testing.T) {
	w := follow(t)
	before := w.follower.Live().Snapshot
	key := feed.Key{Kind: feed.KindClient, A: "c1"}
	other := feed.Key{Kind: feed.KindClient, A: "c2"}
	if !w.follower.Unchanged(w.follower.Live(), before, []feed.Key{key}) {
		t.Error("nothing happened, and the entry does not hold")
	}
	w.exec(t, `UPDATE clients SET status = 'archived' WHERE id = 'c1'`)
	w.poll(t)
	state := w.follower.Live()
	if w.follower.Unchanged(state, before, []feed.Key{key}) {
		t.Error("the key was touched, and the entry holds")
	}
	if !w.follower.Unchanged(state, before, []feed.Key{other}) || !w.follower.Unchanged(state, state.Snapshot, []feed.Key{key}) {
		t.Error("an entry that nothing touched does not hold")
	}
	ancient, err := feed.ParseSnapshot("4:4:")
	if err != nil {
		t.Fatal(err)
	}
	w.exec(t, `SELECT feed_prune('0 seconds'); SELECT feed_prune('0 seconds')`)
	fresh := follow(t)
	fresh.exec(t, `SELECT feed_prune('0 seconds'); SELECT pg_sleep(0.01); SELECT feed_prune('0 seconds')`)
	fresh.poll(t)
	if fresh.follower.Unchanged(fresh.follower.Live(), ancient, []feed.Key{other}) {
		t.Error("an entry from before the window holds")
	}
	future, err := feed.ParseSnapshot("4000000:4000000:")
	if err != nil {
		t.Fatal(err)
	}
	if w.follower.Unchanged(state, future, []feed.Key{other}) {
		t.Error("an entry that is newer than the last poll holds")
	}
	w.exec(t, `TRUNCATE grants`)
	w.poll(t)
	if w.follower.Unchanged(w.follower.Live(), state.Snapshot, []feed.Key{other}) {
		t.Error("everything may have changed, and the entry holds")
	}
}

// Schedule 12: a lease longer than writers wait for is refused at the start.
func TestLeaseIsChecked(t *testing.T) {
	for _, c := range []struct {
		lease, poll time.Duration
		ok          bool
	}{
		{feed.MaxLease, feed.MaxLease / 5, true},
		{feed.MaxLease + 1, feed.MaxLease / 5, false},
		{100 * time.Millisecond, 60 * time.Millisecond, false},
		{100 * time.Millisecond, 0, false},
	} {
		if err := feed.CheckLease(c.lease, c.poll); (err == nil) != c.ok {
			t.Errorf("lease %v, poll %v: %v", c.lease, c.poll, err)
		}
	}
}

// Schedule 2: an interrupted wait is never a success.
func TestAwaitTaken(t *testing.T) {
	began := feed.BootTime()
	if err := feed.AwaitTaken(t.Context(), feed.BootTime); err != nil {
		t.Fatal(err)
	}
	if waited := feed.BootTime() - began; waited < feed.MaxLease+feed.Margin {
		t.Errorf("waited %v", waited)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := feed.AwaitTaken(ctx, feed.BootTime); err == nil {
		t.Error("an interrupted wait was a success")
	}
}

// A poll wakes by NOTIFY long before its interval is over.
func TestRunHearsByNotify(t *testing.T) {
	w := follow(t)
	heard := make(chan feed.News, 100)
	sidecar := w.owner
	d, err := feed.ReadDeployment(t.Context(), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	f, err := feed.NewFollower(sidecar, d, feed.Options{}, func(_ context.Context, news feed.News) error {
		if len(news.Touches) > 0 {
			heard <- news
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	for range 3 {
		w.exec(t, `UPDATE clients SET status = CASE status WHEN 'active' THEN 'archived' ELSE 'active' END WHERE id = 'c1'`)
		select {
		case <-heard:
		case <-time.After(10 * time.Second):
			t.Fatal("a change was not heard of")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
