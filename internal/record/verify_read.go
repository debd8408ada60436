package record

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ledgerGenesis is the head of the ledger before its first entry.
func ledgerGenesis(chain uuid.UUID) hash {
	return sha256.Sum256(append([]byte("chartgate record ledger 1"), chain[:]...))
}

func (v *verifier) readChains(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, selectChains)
	if err != nil {
		return err
	}
	ledgers := 0
	v.chains, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*chainRow, error) {
		c := &chainRow{}
		err := row.Scan(&c.chain, &c.spool, &c.last, &c.head, &c.parent, &c.parentLast, &c.parentHead, &c.closed)
		if c.spool == nil {
			ledgers++
		}
		return c, err
	})
	if err == nil && ledgers != 1 {
		v.find(Finding{Kind: Removed, Detail: fmt.Sprintf("there are %d ledgers, want 1", ledgers)})
	}
	return err
}

func (v *verifier) readPoints(ctx context.Context) error {
	v.points = map[uuid.UUID]map[uint64]hash{}
	rows, err := v.tx.Query(ctx, `SELECT chain, seq, head FROM checkpoints`)
	if err != nil {
		return err
	}
	var chain uuid.UUID
	var seq uint64
	var head []byte
	_, err = pgx.ForEachRow(rows, []any{&chain, &seq, &head}, func() error {
		if len(head) != len(hash{}) {
			v.find(Finding{Kind: Altered, Chain: chain, First: seq, Last: seq, Detail: "the checkpoint holds no link"})
			return nil
		}
		v.point(chain, seq, head)
		return nil
	})
	return err
}

// readSettings reads the digests of settings whose text is what they say.
func (v *verifier) readSettings(ctx context.Context) error {
	v.settings = map[settingsDigest]bool{}
	rows, err := v.tx.Query(ctx, `SELECT digest, text FROM record_settings`)
	if err != nil {
		return err
	}
	var digest, text []byte
	_, err = pgx.ForEachRow(rows, []any{&digest, &text}, func() error {
		sum := sha256.Sum256(text)
		v.settings[settingsDigest(sum[:digestSize])] = true
		return nil
	})
	return err
}

// readGaps reads what was purged and what was lost. Both count only if the
// ledger holds the change record that says so.
func (v *verifier) readGaps(ctx context.Context) error {
	v.gaps = map[uuid.UUID][]gapRow{}
	said := map[string]bool{}
	rows, err := v.tx.Query(ctx, selectPurges)
	if err != nil {
		return err
	}
	var month, digest string
	if _, err := pgx.ForEachRow(rows, []any{&month, &digest}, func() error { said[month+digest] = true; return nil }); err != nil {
		return err
	}
	if rows, err = v.tx.Query(ctx, selectPurged); err != nil {
		return err
	}
	var chain uuid.UUID
	var g gapRow
	if _, err := pgx.ForEachRow(rows, []any{&chain, &g.first, &g.last, &g.hash, &month, &digest}, func() error {
		g.explained = said[month+digest]
		v.gaps[chain] = append(v.gaps[chain], g)
		return nil
	}); err != nil {
		return err
	}
	if rows, err = v.tx.Query(ctx, selectLosses); err != nil {
		return err
	}
	var first, last uint64
	_, err = pgx.ForEachRow(rows, []any{&chain, &first, &last}, func() error {
		v.gaps[chain] = append(v.gaps[chain], gapRow{first: first, last: last, explained: true})
		return nil
	})
	return err
}

// readStrays finds entries that no chain holds, and chains that were opened and
// are gone with all that they held.
func (v *verifier) readStrays(ctx context.Context) error {
	rows, err := v.tx.Query(ctx, selectOpened)
	if err != nil {
		return err
	}
	var chain uuid.UUID
	var what, id string
	if _, err := pgx.ForEachRow(rows, []any{&chain, &id}, func() error {
		v.find(Finding{Kind: Removed, Chain: chain, Entry: id, Detail: "the chain is missing; the ledger says that it was opened"})
		return nil
	}); err != nil {
		return err
	}
	if rows, err = v.tx.Query(ctx, selectStrays); err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, []any{&what, &id}, func() error {
		v.find(Finding{Kind: Added, Entry: id, Detail: what + " that no chain holds"})
		return nil
	})
	return err
}

// ledgerEntry reads an entry of the ledger with the change or the decision that
// it chains.
func (v *verifier) ledgerEntry(rows pgx.Rows) (entry, error) {
	var e entry
	var link []byte
	var isChange, found bool
	var ref string
	var c changeRow
	var id *uuid.UUID
	var d decisionRow
	var at *time.Time
	var texts [6]*string
	var allow *bool
	var release *string
	err := rows.Scan(&e.seq, &link, &isChange, &ref, &found,
		&c.id, &c.at, &c.xid, &c.practice, &c.actor, &c.action, &c.target, &c.client, &c.before, &c.after, &c.reason, &c.correlation, &c.decision,
		&id, &at, &d.practice, &texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &d.client, &allow, &texts[5], &d.bases, &release, &d.body)
	if err != nil {
		return e, err
	}
	e.id = ref
	e.wrong = v.wrongLink(&e, link)
	if !found {
		return e, nil
	}
	if isChange {
		v.report.Changes++
		e.kind, e.content = linkChange, c.content()
		return e, nil
	}
	v.report.Decisions++
	d.id, d.at, d.allow = *id, *at, *allow
	d.subjectType, d.subjectID, d.action, d.resourceType, d.resourceID, d.code, d.release = *texts[0], *texts[1], *texts[2], *texts[3], *texts[4], *texts[5], *release
	e.kind, e.content = linkDecision, d.body
	if e.wrong == "" {
		e.wrong = v.wrongColumns(&d)
	}
	return e, nil
}

// changeRow is a change as the ledger's trigger saw it.
type changeRow struct {
	id                                           *int64
	at                                           *time.Time
	xid                                          *string
	practice, actor, action, target, client      *string
	before, after, reason, correlation, decision *string
}

// content is record_change_content of the migration, byte for byte.
func (c *changeRow) content() []byte {
	number := func(n int64) *string { s := strconv.FormatInt(n, 10); return &s }
	var b []byte
	for _, part := range []*string{number(*c.id), number(c.at.UnixMicro()), c.xid, c.practice, c.actor, c.action, c.target, c.client,
		c.before, c.after, c.reason, c.correlation, c.decision} {
		if part == nil {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(*part))), *part...)
	}
	return b
}
