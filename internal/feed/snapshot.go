package feed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is a position in the feed: the transactions that one statement of
// Postgres could see (pg_current_snapshot).
type Snapshot struct {
	xmin, xmax uint64
	running    []uint64 // between xmin and xmax, in order
}

// ParseSnapshot reads what pg_current_snapshot()::text writes: "10:20:10,14".
func ParseSnapshot(text string) (Snapshot, error) {
	var s Snapshot
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("snapshot %q: want xmin:xmax:list", text)
	}
	var err error
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", text, err)
	}
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", text, err)
	}
	if s.xmin > s.xmax {
		return Snapshot{}, fmt.Errorf("snapshot %q: begins after its end", text)
	}
	last := s.xmin
	for _, part := range strings.Split(parts[2], ",") {
		if part == "" && parts[2] == "" {
			break
		}
		xid, err := strconv.ParseUint(part, 10, 64)
		if err != nil || xid < last || xid >= s.xmax {
			return Snapshot{}, fmt.Errorf("snapshot %q: bad list", text)
		}
		s.running, last = append(s.running, xid), xid
	}
	return s, nil
}

// String writes s as Postgres does.
func (s Snapshot) String() string {
	b := strconv.AppendUint(nil, s.xmin, 10)
	b = strconv.AppendUint(append(b, ':'), s.xmax, 10)
	b = append(b, ':')
	for i, xid := range s.running {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return string(b)
}

// Sees reports whether transaction xid, if it committed, is visible in s.
func (s Snapshot) Sees(xid uint64) bool {
	if xid < s.xmin {
		return true
	}
	if xid >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.running, xid)
	return !running
}

// AtLeast reports whether s sees everything that other sees: whether facts
// read at s are at least as fresh as facts read at other.
func (s Snapshot) AtLeast(other Snapshot) bool {
	if s.xmax < other.xmax {
		return false
	}
	for _, xid := range s.running {
		if other.Sees(xid) {
			return false
		}
	}
	return true
}

// Span is how many transactions lie between the oldest that s may not see and
// the first that began after it.
func (s Snapshot) Span() uint64 { return s.xmax - s.xmin }

// Oldest returns the first transaction that s may not see: nothing before it
// needs to be looked at to find what s missed.
func (s Snapshot) Oldest() string { return strconv.FormatUint(s.xmin, 10) }
