package record

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// An idle process never makes the record wait, nor does a spool that fills; and
// more work, or more that waits, never turns a rest the wrong way.
func TestTheShipperGivesWayToDecisions(t *testing.T) {
	const most = 1 << 30
	rapid.Check(t, func(t *rapid.T) {
		busy, waiting := rapid.Float64Range(0, 1).Draw(t, "busy"), rapid.Int64Range(0, most).Draw(t, "waiting")
		much := leisure(busy, waiting, most)
		switch {
		case much < 0 || much > 1:
			t.Fatalf("leisure %v", much)
		case (busy <= busyFrom || waiting >= most/shallow) && much != 0:
			t.Fatalf("busy %v, %d bytes wait, and it has leisure of %v", busy, waiting, much)
		case leisure(min(1, busy+0.1), waiting, most) < much, leisure(busy, waiting+1<<20, most) > much:
			t.Fatalf("busy %v, %d bytes wait: more of it turns the leisure of %v the wrong way", busy, waiting, much)
		}
	})
	if leisure(busyWhole, 0, most) != 1 {
		t.Error("a busy process gives it no leisure")
	}
}

func TestTheLoadOfTheProcessIsMeasured(t *testing.T) {
	var l load
	l.measure()
	l.at = l.at.Add(-busyWindow)
	for used := cpuUsed(); cpuUsed()-used < 20*time.Millisecond; { // work
	}
	if busy := l.measure(); busy <= 0 || busy > 1.5 {
		t.Errorf("the load is %v", busy)
	}
	if again := l.measure(); again != l.busy {
		t.Errorf("the load was measured again at once: %v", again)
	}
}
