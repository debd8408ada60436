package record

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// walk follows one chain, entry by entry.
type walk struct {
	v     *verifier
	chain *chainRow
	next  uint64 // the sequence number that comes next
	head  hash   // the link before it
	sure  bool   // false behind a hole that nothing explains: head is not known

	unfit []entry // entries whose link did not fit, to be told apart at the end
}

// entry is one entry of a chain as it stands in the database.
type entry struct {
	seq     uint64
	kind    byte
	id      string
	content []byte // nil: the entry itself is missing
	hash    hash
	before  hash // the link before it, as the chain went
	wrong   string
}

// maxUnfit is how many entries that do not fit are kept to be told apart.
const maxUnfit = 1000

func (w *walk) run(ctx context.Context, query string) error {
	w.sure = true
	rows, err := w.v.tx.Query(ctx, query, w.chain.chain)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var e entry
		if w.chain.spool == nil {
			e, err = w.v.ledgerEntry(rows)
		} else {
			e, err = w.v.decisionEntry(rows)
		}
		if err != nil {
			return err
		}
		w.step(e)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	w.end()
	return nil
}

func (w *walk) find(kind string, first, last uint64, id, detail string) {
	w.v.find(Finding{Kind: kind, Chain: w.chain.chain, First: first, Last: last, Entry: id, Detail: detail})
}

func (w *walk) step(e entry) {
	if e.seq < w.next {
		w.find(Added, e.seq, e.seq, e.id, "the number is taken by another entry")
		return
	}
	if e.seq > w.next {
		w.hole(e.seq - 1)
	}
	e.before = w.head
	switch {
	case e.content == nil:
		w.find(Removed, e.seq, e.seq, e.id, "the ledger knows it, and it is not there")
		w.head = e.hash
	case !w.sure: // the link before is gone with the entries: this one is where the chain is taken up
		w.head, w.sure = e.hash, true
	default:
		w.fits(e)
	}
	if e.wrong != "" {
		w.find(Altered, e.seq, e.seq, e.id, e.wrong)
	}
	w.next = e.seq + 1
	if point, ok := w.v.points[w.chain.chain][e.seq]; ok && point != w.head {
		w.find(Altered, e.seq, e.seq, e.id, "a checkpoint says that the chain was another here")
	}
}

// fits checks the link of e, and goes on from it.
func (w *walk) fits(e entry) {
	link := w.v.linker.next(w.head, e.seq, e.kind, e.content)
	w.head = e.hash
	if link == e.hash {
		return
	}
	if len(w.unfit) < maxUnfit {
		w.unfit = append(w.unfit, e)
	} else {
		w.find(Altered, e.seq, e.seq, e.id, "its link does not fit")
	}
}

// hole is a stretch that is missing before an entry, up to and with last.
func (w *walk) hole(last uint64) {
	for w.next <= last {
		gap := w.gapAt(w.next)
		if gap == nil || gap.last > last {
			w.find(Removed, w.next, last, "", "the entries are missing, and nothing on record says why")
			w.next, w.sure = last+1, false
			return
		}
		w.pass(gap)
	}
}

// pass goes behind a gap that was put on record.
func (w *walk) pass(gap *gapRow) {
	if !gap.explained {
		w.find(Removed, gap.first, gap.last, "", "the entries are marked as purged or lost, and the ledger does not say so")
	} else {
		w.v.report.Gaps = append(w.v.report.Gaps, Gap{w.chain.chain, gap.first, gap.last, gap.hash != nil})
	}
	if gap.hash != nil {
		copy(w.head[:], gap.hash)
		w.sure = true
	} else {
		var first [8]byte
		binary.BigEndian.PutUint64(first[:], gap.first)
		w.head = w.v.linker.next(w.head, gap.last, linkGap, first[:])
	}
	w.next = gap.last + 1
}

func (w *walk) gapAt(first uint64) *gapRow {
	gaps := w.v.gaps[w.chain.chain]
	for i := range gaps {
		if gaps[i].first == first {
			return &gaps[i]
		}
	}
	return nil
}

// end checks that the chain ends where it says, and tells apart what did not fit.
func (w *walk) end() {
	for gap := w.gapAt(w.next); gap != nil && gap.last <= w.chain.last; gap = w.gapAt(w.next) {
		w.pass(gap)
	}
	last := w.next - 1
	switch {
	case last < w.chain.last:
		w.find(Truncated, w.next, w.chain.last, "", "the last entries of the chain are missing")
	case last > w.chain.last:
		w.find(Added, w.chain.last+1, last, "", "the entries are behind the end of the chain")
	case w.head != hash(w.chain.head):
		w.find(Altered, last, last, "", "the head of the chain is not the link of its last entry")
	}
	w.tellApart()
}

// tellApart says of each entry that did not fit whether it was altered, or is
// another one that belongs elsewhere. One that only follows such an entry fits
// once it is tried with the link that truly was before it.
func (w *walk) tellApart() {
	var before []hash // what may truly have been before the entry at hand
	for i, e := range w.unfit {
		if i == 0 || w.unfit[i-1].seq != e.seq-1 {
			before = []hash{e.before}
		}
		if w.fitting(before, e, e) {
			before = []hash{e.hash}
			continue
		}
		if home := w.belonging(before, i); home >= 0 {
			w.find(Reordered, e.seq, e.seq, e.id, fmt.Sprintf("in its place belongs %s, which stands at %d", w.unfit[home].id, w.unfit[home].seq))
			before = []hash{w.unfit[home].hash}
			continue
		}
		w.find(Altered, e.seq, e.seq, e.id, "its content is not what its link says")
		// Its content was changed, or its link: then the one that it should have.
		next := []hash{e.hash}
		for _, b := range before {
			next = append(next, w.v.linker.next(b, e.seq, e.kind, e.content))
		}
		before = next[:min(len(next), 4)]
	}
}

// fitting reports whether c, in the place of e, fits behind one of before.
func (w *walk) fitting(before []hash, e, c entry) bool {
	for _, b := range before {
		if w.v.linker.next(b, e.seq, c.kind, c.content) == c.hash {
			return true
		}
	}
	return false
}

// belonging is the entry that belongs in the place of the i-th, or -1.
func (w *walk) belonging(before []hash, i int) int {
	for k := range w.unfit {
		if k != i && w.fitting(before, w.unfit[i], w.unfit[k]) {
			return k
		}
	}
	return -1
}

// decisionEntry reads a decision, and checks that the columns it is searched by
// say what its body says.
func (v *verifier) decisionEntry(rows pgx.Rows) (entry, error) {
	var e entry
	var r decisionRow
	var link []byte
	if err := rows.Scan(append([]any{&e.seq, &link}, r.into()...)...); err != nil {
		return e, err
	}
	v.report.Decisions++
	e.id, e.kind, e.content = r.id.String(), linkDecision, r.body
	e.wrong = v.wrongLink(&e, link)
	if e.wrong == "" {
		e.wrong = v.wrongColumns(&r)
	}
	return e, nil
}

func (v *verifier) wrongLink(e *entry, link []byte) string {
	if len(link) != len(hash{}) {
		return "its link is not one"
	}
	e.hash = hash(link)
	return ""
}

// decisionRow is the columns of a decision beside its place in a chain.
type decisionRow struct {
	id                             uuid.UUID
	at                             time.Time
	practice, client               *string
	subjectType, subjectID, action string
	resourceType, resourceID       string
	allow                          bool
	code                           string
	bases                          []string
	release                        string
	body                           []byte
}

func (r *decisionRow) into() []any {
	return []any{&r.id, &r.at, &r.practice, &r.subjectType, &r.subjectID, &r.action, &r.resourceType, &r.resourceID, &r.client,
		&r.allow, &r.code, &r.bases, &r.release, &r.body}
}

// wrongColumns says which column of r is not what its body says, or "".
func (v *verifier) wrongColumns(r *decisionRow) string {
	var w View
	if err := w.Read(r.body); err != nil {
		return "its body cannot be read"
	}
	if w.SettingsDigest != nil && !v.settings[settingsDigest(w.SettingsDigest)] {
		return fmt.Sprintf("its settings %x are missing or altered", w.SettingsDigest)
	}
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	for _, c := range []struct {
		name string
		same bool
	}{
		{"id", w.ID == r.id}, {"at", w.At == r.at.UnixMicro()}, {"practice", string(w.Practice) == text(r.practice)},
		{"subject_type", string(w.SubjectType) == r.subjectType}, {"subject_id", string(w.SubjectID) == r.subjectID},
		{"action", string(w.Action) == r.action}, {"resource_type", string(w.ResourceType) == r.resourceType},
		{"resource_id", string(w.ResourceID) == r.resourceID}, {"client", string(w.Client()) == text(r.client)},
		{"allow", w.Allow == r.allow}, {"code", string(w.Code) == r.code}, {"release", string(w.Release) == r.release},
		{"bases", sameTexts(w.Bases, r.bases)},
	} {
		if !c.same {
			return "column " + c.name + " is not what its body says"
		}
	}
	return ""
}

func sameTexts(t Texts, list []string) bool {
	i := 0
	for s := range t.All() {
		if i >= len(list) || list[i] != string(s) {
			return false
		}
		i++
	}
	return i == len(list)
}
