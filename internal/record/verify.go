package record

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Kinds of findings.
const (
	Altered   = "altered"   // an entry, or what is said about it, is not what was written
	Removed   = "removed"   // entries are missing between others
	Truncated = "truncated" // the last entries are missing
	Reordered = "reordered" // entries stand in each other's place
	Added     = "added"     // an entry that no chain knows
	Unlinked  = "unlinked"  // a chain does not go on from the one before it
)

// Finding is one thing that is wrong with the record, and where.
type Finding struct {
	Kind   string    `json:"kind"`
	Chain  uuid.UUID `json:"chain,omitzero"`
	First  uint64    `json:"first,omitempty"` // sequence numbers that it concerns
	Last   uint64    `json:"last,omitempty"`
	Entry  string    `json:"entry,omitempty"` // id of the decision or change
	File   string    `json:"file,omitempty"`
	Offset int64     `json:"offset,omitempty"`
	Detail string    `json:"detail"`
}

// String says it in one line.
func (f Finding) String() string {
	where := f.File
	switch {
	case where != "":
		where = fmt.Sprintf("%s at %d", where, f.Offset)
	case f.First != 0 && f.First == f.Last:
		where = fmt.Sprintf("chain %s, entry %d", f.Chain, f.First)
	case f.First != 0:
		where = fmt.Sprintf("chain %s, entries %d to %d", f.Chain, f.First, f.Last)
	default:
		where = fmt.Sprintf("chain %s", f.Chain)
	}
	if f.Entry != "" {
		where += " (" + f.Entry + ")"
	}
	return f.Kind + ": " + where + ": " + f.Detail
}

// Gap is a stretch of a chain that is missing, as the ledger says: entries that
// were lost (change record.gap), or that were purged in time (record.purge).
type Gap struct {
	Chain  uuid.UUID `json:"chain"`
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	Purged bool      `json:"purged"`
}

// Anchor is the head of a chain at one moment. Kept outside of the database, it
// also finds a chain that was written anew from end to end.
type Anchor struct {
	Chain uuid.UUID `json:"chain"`
	Seq   uint64    `json:"seq"`
	Head  []byte    `json:"head"`
	At    time.Time `json:"at"`
}

// Report is what Verify found.
type Report struct {
	Chains    int       `json:"chains"`
	Decisions int64     `json:"decisions"`
	Changes   int64     `json:"changes"`
	Gaps      []Gap     `json:"gaps"`
	Findings  []Finding `json:"findings"` // none: the record is whole
	Anchors   []Anchor  `json:"anchors"`  // the heads now
}

// VerifyOptions say what Verify looks at beside the database.
type VerifyOptions struct {
	Spools  []string // folders of spools on this host
	Anchors []Anchor // heads that were kept outside, from earlier reports
}

// Verify reads the whole record, as of one moment, and follows every chain: it
// finds each entry of decisions and changes that was altered, removed, put in
// another's place or cut off at an end (DOMAIN rule 124), says which, and goes
// on behind it. An error means that it could not look.
//
// What it cannot find: a record that was written anew as a whole, with chains,
// checkpoints and ledger, by who owns the database; anchors find that.
func Verify(ctx context.Context, pool *pgxpool.Pool, o VerifyOptions) (Report, error) {
	v := &verifier{}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		v.tx = tx
		return v.all(ctx, o.Anchors)
	})
	if err != nil {
		return Report{}, fmt.Errorf("verify the record: %w", err)
	}
	for _, folder := range o.Spools {
		findings, err := VerifySpool(folder)
		if err != nil {
			return Report{}, fmt.Errorf("verify the spool %s: %w", folder, err)
		}
		v.report.Findings = append(v.report.Findings, findings...)
	}
	return v.report, nil
}

// verifier is one run of Verify.
type verifier struct {
	tx       pgx.Tx
	report   Report
	chains   []*chainRow
	gaps     map[uuid.UUID][]gapRow
	points   map[uuid.UUID]map[uint64]hash // checkpoints and anchors
	settings map[settingsDigest]bool
	linker   linker
}

// chainRow is what the database says of a chain.
type chainRow struct {
	chain      uuid.UUID
	spool      *uuid.UUID // nil: the ledger
	last       uint64
	head       []byte
	parent     *uuid.UUID
	parentLast *int64
	parentHead []byte
	closed     bool
}

// gapRow is a stretch that may be missing, and the link behind it.
type gapRow struct {
	first, last uint64
	hash        []byte // of a purge; nil for a loss, whose link is computed
	explained   bool   // the ledger says so as well
}

func (v *verifier) find(f Finding) { v.report.Findings = append(v.report.Findings, f) }

func (v *verifier) all(ctx context.Context, anchors []Anchor) error {
	v.report.Findings, v.report.Gaps = []Finding{}, []Gap{}
	for _, step := range []func(context.Context) error{v.readChains, v.readPoints, v.readSettings} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, a := range anchors {
		if len(a.Head) == len(hash{}) {
			v.point(a.Chain, a.Seq, a.Head)
		}
	}
	if err := v.readGaps(ctx); err != nil {
		return err
	}
	v.checkParents()
	now := time.Now().UTC()
	for _, c := range v.chains {
		w := &walk{v: v, chain: c, next: 1, head: v.genesis(c)}
		query := chainEntries
		if c.spool == nil {
			query = ledgerEntries
		}
		if err := w.run(ctx, query); err != nil {
			return err
		}
		v.report.Chains++
		v.report.Anchors = append(v.report.Anchors, Anchor{c.chain, c.last, c.head, now})
	}
	v.checkPointsOfNoChain()
	return v.readStrays(ctx)
}

func (v *verifier) genesis(c *chainRow) hash {
	if c.spool == nil {
		return ledgerGenesis(c.chain)
	}
	var p parent
	if c.parent != nil {
		p = parent{chain: *c.parent, last: uint64(*c.parentLast)}
		copy(p.head[:], c.parentHead)
	}
	return genesis(c.chain, p)
}

// checkParents checks that each chain goes on from where the one before it
// ended, and that each spool has one beginning.
func (v *verifier) checkParents() {
	by := map[uuid.UUID]*chainRow{}
	for _, c := range v.chains {
		by[c.chain] = c
	}
	began := map[uuid.UUID]uuid.UUID{}
	for _, c := range v.chains {
		if c.spool == nil {
			continue
		}
		if c.parent == nil {
			if first, twice := began[*c.spool]; twice {
				v.find(Finding{Kind: Unlinked, Chain: c.chain, Detail: fmt.Sprintf("it goes on from none, and so does %s of the same spool", first)})
			}
			began[*c.spool] = c.chain
			continue
		}
		p := by[*c.parent]
		switch {
		case p == nil:
			v.find(Finding{Kind: Removed, Chain: *c.parent, Detail: fmt.Sprintf("the chain is missing; %s goes on from it", c.chain)})
		case p.last != uint64(*c.parentLast) || !slices.Equal(p.head, c.parentHead):
			v.find(Finding{Kind: Unlinked, Chain: c.chain, Detail: fmt.Sprintf("it goes on from entry %d of %s, which ends at %d or otherwise", *c.parentLast, p.chain, p.last)})
		}
	}
}

func (v *verifier) point(chain uuid.UUID, seq uint64, head []byte) {
	if v.points[chain] == nil {
		v.points[chain] = map[uint64]hash{}
	}
	v.points[chain][seq] = hash(head)
}

// checkPointsOfNoChain finds checkpoints and anchors that no chain passed.
func (v *verifier) checkPointsOfNoChain() {
	by := map[uuid.UUID]uint64{}
	for _, c := range v.chains {
		by[c.chain] = c.last
	}
	for chain, points := range v.points {
		last, there := by[chain]
		for seq := range points {
			if !there {
				v.find(Finding{Kind: Removed, Chain: chain, First: seq, Last: seq, Detail: "the chain is missing; a checkpoint says that it was there"})
			} else if seq > last {
				v.find(Finding{Kind: Truncated, Chain: chain, First: last + 1, Last: seq, Detail: fmt.Sprintf("the chain ends at %d; a checkpoint says that it went on", last)})
			}
		}
	}
}
