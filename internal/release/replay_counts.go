package release

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"chartgate/internal/record"

	"github.com/google/uuid"
)

// What a decision became.
const (
	unchanged = iota
	gained
	lost
	reason
)

var changeNames = [...]string{unchanged: "unchanged", gained: "gained", lost: "lost", reason: "reason"}

// maxGroups bounds the groups of a report; maxDistinct the members and the
// clients that each tells apart.
const (
	maxGroups   = 10_000
	maxDistinct = 50_000
)

// counts are what came out so far. Adding them up in any order gives the same.
type counts struct {
	examples int
	read     int64
	changes  [4]tally
	groups   map[groupKey]*group
	actions  map[string]*[4]int64
	skipped  map[string]int64
	slow     map[string]int64
}

type groupKey struct {
	change        int
	action        string
	before, after string // code and bases, parted by NUL
}

type group struct {
	tally
	examples []uuid.UUID // the smallest, in order
}

type tally struct {
	decisions        int64
	members, clients distinct
}

// distinct tells ids apart by 64 bits of their hash: among as many as it keeps
// two are taken for one about once in ten thousand million times.
type distinct struct {
	seen map[uint64]struct{}
	more bool
}

func (d *distinct) add(h uint64) {
	if d.seen == nil {
		d.seen = map[uint64]struct{}{}
	}
	if _, ok := d.seen[h]; !ok && len(d.seen) >= maxDistinct {
		d.more = true
		return
	}
	d.seen[h] = struct{}{}
}

func (d *distinct) join(other *distinct) {
	d.more = d.more || other.more
	for h := range other.seen {
		d.add(h)
	}
}

func newCounts(examples int) *counts {
	return &counts{examples: examples, groups: map[groupKey]*group{}, actions: map[string]*[4]int64{}, skipped: map[string]int64{}, slow: map[string]int64{}}
}

// compare counts one decision. action is how it is counted; v says what it was.
func (c *counts) compare(action string, v *record.View, before, after Answer) {
	change := unchanged
	switch {
	case !before.Allow && after.Allow:
		change = gained
	case before.Allow && !after.Allow:
		change = lost
	case before.Code != after.Code || !slices.Equal(before.Bases, after.Bases):
		change = reason
	}
	if c.actions[action] == nil {
		c.actions[action] = &[4]int64{}
	}
	c.actions[action][change]++
	c.changes[change].decisions++
	if change == unchanged {
		return
	}
	key := groupKey{change, string(v.Action), before.key(), after.key()}
	g := c.groups[key]
	if g == nil {
		if len(c.groups) > maxGroups {
			return // fault says so
		}
		g = &group{}
		c.groups[key] = g
	}
	g.decisions++
	member := hashed(v.Practice, v.SubjectType, v.SubjectID)
	g.members.add(member)
	c.changes[change].members.add(member)
	if id := v.Client(); len(id) > 0 {
		client := hashed(id)
		g.clients.add(client)
		c.changes[change].clients.add(client)
	}
	g.example(v.ID, c.examples)
}

func (a Answer) key() string { return strings.Join(append([]string{a.Code}, a.Bases...), "\x00") }

// unkey is the answer of a key: an allowance has a basis, and a denial none.
func unkey(key string) Answer {
	parts := strings.Split(key, "\x00")
	return Answer{Allow: len(parts) > 1, Code: parts[0], Bases: parts[1:]}
}

func hashed(parts ...[]byte) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write(p)
		h.Write([]byte{0})
	}
	return h.Sum64()
}

func (g *group) example(id uuid.UUID, most int) {
	at, found := slices.BinarySearchFunc(g.examples, id, compareIDs)
	if found || at >= most {
		return
	}
	g.examples = slices.Insert(g.examples, at, id)
	g.examples = g.examples[:min(len(g.examples), most)]
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

func (t *tally) join(other *tally) {
	t.decisions += other.decisions
	t.members.join(&other.members)
	t.clients.join(&other.clients)
}

func (t *tally) tally() Tally {
	return Tally{Decisions: t.decisions, Members: len(t.members.seen), Clients: len(t.clients.seen), AtLeast: t.members.more || t.clients.more}
}

func (c *counts) add(other *counts) {
	c.read += other.read
	for i := range c.changes {
		c.changes[i].join(&other.changes[i])
	}
	for key, theirs := range other.groups {
		mine := c.groups[key]
		if mine == nil {
			c.groups[key] = theirs
			continue
		}
		mine.join(&theirs.tally)
		for _, id := range theirs.examples {
			mine.example(id, c.examples)
		}
	}
	for action, theirs := range other.actions {
		if c.actions[action] == nil {
			c.actions[action] = &[4]int64{}
		}
		for i, n := range theirs {
			c.actions[action][i] += n
		}
	}
	for why, n := range other.skipped {
		c.skipped[why] += n
	}
	for action, n := range other.slow {
		c.slow[action] += n
	}
}

// fault says that there is more than a report can hold.
func (c *counts) fault() error {
	if len(c.groups) > maxGroups {
		return fmt.Errorf("the changes are of more than %d kinds: replay a shorter period, or one practice", maxGroups)
	}
	return nil
}

// report puts the counts in order.
func (r *replay) report(c *counts) *ReplayReport {
	out := &ReplayReport{Candidate: r.candidate.engine.Revision(), Read: c.read, Unchanged: c.changes[unchanged].decisions,
		Gained: c.changes[gained].tally(), Lost: c.changes[lost].tally(), Reason: c.changes[reason].tally(),
		Groups: []ReplayGroup{}, Actions: []ReplayAction{}, NotReplayed: []Skipped{}, Slow: []SlowAction{}}
	out.Replayed = out.Unchanged + out.Changed()
	if r.against != nil {
		out.Against = r.against.engine.Revision()
	}
	for key, g := range c.groups {
		out.Groups = append(out.Groups, ReplayGroup{Change: changeNames[key.change], Action: key.action, Tally: g.tally.tally(), Examples: g.examples,
			Before: unkey(key.before), After: unkey(key.after)})
	}
	slices.SortFunc(out.Groups, func(a, b ReplayGroup) int {
		return cmp.Or(slices.Index(changeNames[:], a.Change)-slices.Index(changeNames[:], b.Change), cmp.Compare(a.Action, b.Action),
			cmp.Compare(a.Before.key(), b.Before.key()), cmp.Compare(a.After.key(), b.After.key()))
	})
	for _, name := range slices.Sorted(maps.Keys(c.actions)) {
		n := c.actions[name]
		out.Actions = append(out.Actions, ReplayAction{name, n[unchanged] + n[gained] + n[lost] + n[reason], n[gained], n[lost], n[reason]})
	}
	for _, why := range slices.Sorted(maps.Keys(c.skipped)) {
		out.NotReplayed = append(out.NotReplayed, Skipped{why, c.skipped[why]})
	}
	for _, name := range slices.Sorted(maps.Keys(c.slow)) {
		out.Slow = append(out.Slow, SlowAction{name, c.slow[name]})
	}
	return out
}
