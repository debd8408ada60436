package soak

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"chartgate/internal/feed"
)

// A replica that lost writes is promoted: what the sidecar and Redis remember
// is of another history, and is never met again (freshness, schedule 7). The
// server's own transactions have gone on beyond the lost ones by then, so that
// only the timeline tells.
func TestAPromotedReplicaIsAnotherHistory(t *testing.T) {
	f := start(t, 1)
	pairs := f.populate(t)
	kept, lost := pairs[0], pairs[1]
	if _, ok := f.grant(t.Context(), kept); !ok {
		t.Fatal("the grant that stays was not given")
	}
	// The replica has all up to here.
	if err := f.pg.Stop(); err != nil {
		t.Fatal(err)
	}
	main, replica := filepath.Join(f.dir, "pg"), filepath.Join(f.dir, "replica")
	if out, err := exec.Command("cp", "-a", main, replica).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	if err := f.startPostgres(); err != nil {
		t.Fatal(err)
	}
	var ok bool
	for deadline := time.Now().Add(30 * time.Second); !ok && time.Now().Before(deadline); {
		_, ok = f.grant(t.Context(), lost) // control's connections were cut
	}
	if !ok || !f.allowed(t, lost, true) || !f.allowed(t, kept, true) {
		t.Fatal("the grants are not used before the fail-over")
	}
	s := f.sidecars[0]
	s.pg.set(refuses)
	if err := f.pg.Stop(); err != nil {
		t.Fatal(err)
	}
	// It recovers what it has and goes on in a timeline of its own, as a promoted
	// one does.
	if err := os.Rename(main, main+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(replica, main); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `cd "$1" && cp -p PG_VERSION recovery.signal && echo "restore_command = 'false'" >>postgresql.auto.conf`, "sh", main).CombinedOutput(); err != nil {
		t.Fatalf("promote: %v: %s", err, out)
	}
	if err := f.startPostgres(); err != nil {
		t.Fatal(err)
	}
	for range 200 { // beyond every transaction that was lost
		if _, err := f.owner.Exec(t.Context(), `SELECT pg_current_xact_id()`); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	time.Sleep(feed.MaxLease) // who fails over waits for it as for the old primary's end: see the README on P2
	s.pg.set(passes)
	if f.allowed(t, lost, false) {
		t.Error("allowed on a grant that this history does not have")
	}
	if !f.allowed(t, kept, true) {
		t.Error("denied in spite of a grant that this history has")
	}
}

// allowed asks until an answer comes that is wanted, or half a minute has
// passed; what is not wanted counts from the first answer on.
func (f *fleet) allowed(t *testing.T, p *pair, wanted bool) bool {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		allow, decided := f.question(t.Context(), 0, p)
		if decided && (allow == wanted || !wanted) {
			return allow
		}
	}
	t.Fatal("no answer came")
	return false
}
