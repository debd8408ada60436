package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/google/uuid"
)

// VerifySpool reads the files of a spool and finds what was altered, removed,
// put in another's place or cut off since it was written. It changes nothing.
// While a process writes there, a last group that is not whole is no finding.
//
// The files protect against accidents, with checksums, numbers and the mark;
// who can write them can also write them anew. The chain that is beyond his
// reach begins when they are shipped, within moments.
func VerifySpool(folder string) ([]Finding, error) {
	names, err := partsOf(folder)
	if err != nil {
		return nil, err
	}
	busy, err := isHeld(folder)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for i, name := range names {
		c := &partCheck{name: name, folder: filepath.Join(folder, name.String()), busy: busy && i == len(names)-1}
		if err := c.run(); err != nil {
			return nil, err
		}
		findings = append(findings, c.findings...)
	}
	return findings, nil
}

// isHeld reports whether a process writes to folder.
func isHeld(folder string) (bool, error) {
	f, err := os.Open(filepath.Join(folder, lockName))
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// partCheck is the check of what one process wrote.
type partCheck struct {
	name     partName
	folder   string
	busy     bool
	findings []Finding

	groups []placed
	holes  []int // indices of findings about damage before a group: [i] is before groups[i], -1 for none
	broken int   // the finding about damage that was met last, -1 for none
	spool  uuid.UUID
}

// placed is a group of decisions, where it stands.
type placed struct {
	file        string
	offset      int64
	first, last uint64
}

func (c *partCheck) find(f Finding) {
	f.Chain = c.name.chain
	c.findings = append(c.findings, f)
}

func (c *partCheck) run() error {
	c.broken = -1
	r := &reader{folder: c.folder}
	r.damage = func(d damaged) {
		switch {
		case d.torn && (c.busy || d.empty):
		case d.torn:
			c.find(Finding{Kind: Truncated, File: d.path, Offset: d.offset, Detail: fmt.Sprintf("the last %d bytes are a group that is not whole", d.size)})
		default:
			c.broken = len(c.findings)
			c.find(Finding{Kind: Altered, File: d.path, Offset: d.offset, Detail: fmt.Sprintf("%d bytes hold no whole group", d.size)})
		}
	}
	defer r.close()
	segment := ""
	for {
		g, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.path != segment {
			segment = r.path
			c.checkHead(r)
		}
		c.checkGroup(r, g)
	}
	c.checkNumbers()
	return nil
}

func (c *partCheck) checkHead(r *reader) {
	if c.spool == (uuid.UUID{}) {
		c.spool = r.head.spool
	}
	if r.head.chain != c.name.chain || r.head.first != r.first || r.head.spool != c.spool {
		c.find(Finding{Kind: Altered, File: r.path, Detail: "the header of the segment is not the one of this chain and place"})
	}
}

func (c *partCheck) checkGroup(r *reader, g group) {
	offset := r.off - g.size()
	n := uint32(0)
	var v View
	for seq, record := range g.records() {
		n++
		if g.kind != groupDecisions {
			continue
		}
		if err := v.Read(record); err != nil {
			c.find(Finding{Kind: Altered, First: seq, Last: seq, File: r.path, Offset: offset, Detail: err.Error()})
		}
	}
	if n != g.count {
		c.find(Finding{Kind: Altered, File: r.path, Offset: offset, Detail: fmt.Sprintf("the group holds %d records, it says %d", n, g.count)})
	}
	if g.kind == groupDecisions && g.count > 0 {
		c.groups = append(c.groups, placed{r.path, offset, g.first, g.first + uint64(g.count) - 1})
		c.holes = append(c.holes, c.broken)
		c.broken = -1
	}
}

// checkNumbers checks that each number is there once and in its place, up to
// what was certainly synced.
func (c *partCheck) checkNumbers() {
	inOrder := slices.Clone(c.groups)
	slices.SortStableFunc(inOrder, func(a, b placed) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i, g := range c.groups {
		if g != inOrder[i] {
			c.find(Finding{Kind: Reordered, First: g.first, Last: g.last, File: g.file, Offset: g.offset,
				Detail: fmt.Sprintf("entries %d to %d belong here", inOrder[i].first, inOrder[i].last)})
		}
	}
	for i := 1; i < len(inOrder); i++ {
		before, g := inOrder[i-1], inOrder[i]
		switch {
		case g.first <= before.last:
			c.find(Finding{Kind: Added, First: g.first, Last: min(g.last, before.last), File: g.file, Offset: g.offset, Detail: "the numbers stand here twice"})
		case g.first > before.last+1:
			c.missing(before, g)
		}
	}
	last := uint64(0)
	if len(inOrder) > 0 {
		last = inOrder[len(inOrder)-1].last
	}
	if mark := readMark(c.folder); mark > last {
		c.find(Finding{Kind: Truncated, First: last + 1, Last: mark, File: c.folder, Detail: "the last entries are missing; the mark says that they were synced"})
	}
}

// missing is a hole in the numbers before g: what damage was met there explains.
func (c *partCheck) missing(before, g placed) {
	if i := slices.Index(c.groups, g); i >= 0 && c.holes[i] >= 0 {
		f := &c.findings[c.holes[i]]
		f.First, f.Last = before.last+1, g.first-1
		return
	}
	c.find(Finding{Kind: Removed, First: before.last + 1, Last: g.first - 1, File: g.file, Offset: g.offset, Detail: "the entries before this group are missing"})
}
