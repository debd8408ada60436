package roster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
)

const (
	// chunk is how many staged rows one statement writes: it bounds what Postgres
	// keeps in memory for triggers and foreign keys.
	chunk = 100_000

	// manyRows is from where on statistics are not left to autovacuum.
	manyRows = 10_000
)

// write brings the staged rows into the facts.
func (l *loader) write(ctx context.Context) error {
	written := int64(0)
	for i := range writes {
		if l.staged[writes[i].kind] == 0 {
			continue
		}
		n, err := l.writeKind(ctx, &writes[i])
		if err != nil {
			return fmt.Errorf("%s: %w", writes[i].kind, err)
		}
		written += n
	}
	if written < manyRows {
		return nil
	}
	// A login that does not own the tables is warned and goes on without.
	_, err := l.tx.Exec(ctx, analyzeFacts)
	return err
}

// writeKind writes the rows of one kind and returns how many it wrote.
func (l *loader) writeKind(ctx context.Context, w *kindWrites) (int64, error) {
	rows := l.staged[w.kind]
	step := Progress{Step: "write " + w.kind, Total: 2 * rows}
	l.progress(step)
	settled, err := l.tx.Exec(ctx, w.settle)
	if err != nil {
		return 0, err
	}
	if settled.RowsAffected() < rows {
		for _, s := range []struct {
			sql string
			add func(*practice, int64) // nil: the statement runs once
		}{
			{w.prepare, nil},
			{w.update, func(p *practice, n int64) { p.Changed += n }},
			{w.forget, nil},
			{byIndexOnly, nil},
			{w.insert, func(p *practice, n int64) { p.Inserted += n }},
			{byAnyPlan, nil},
		} {
			if s.add == nil {
				if _, err := l.tx.Exec(ctx, s.sql); err != nil {
					return 0, err
				}
				continue
			}
			for from := int64(0); from < rows; from += chunk {
				n, err := l.writeChunk(ctx, w.kind, s.sql, from, s.add)
				if err != nil {
					return 0, err
				}
				step.Done += min(chunk, rows-from)
				step.Rows += n
				l.progress(step)
			}
		}
	}
	step.Done, step.Over = step.Total, true
	l.progress(step)
	return step.Rows, nil
}

// writeChunk runs one statement on chunk rows after from, and adds what it
// wrote to each practice.
func (l *loader) writeChunk(ctx context.Context, kind, sql string, from int64, add func(*practice, int64)) (int64, error) {
	rows, err := l.tx.Query(ctx, sql, from, from+chunk)
	if err != nil {
		return 0, err
	}
	var (
		id         string
		n, written int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		if l.done[id] == nil {
			l.done[id] = map[string]*practice{}
		}
		if l.done[id][kind] == nil {
			l.done[id][kind] = &practice{}
		}
		add(l.done[id][kind], n)
		written += n
		return nil
	})
	return written, err
}

// record leaves one change record for each practice in which something
// changed; the steps of one import have one correlation.
func (l *loader) record(ctx context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(l.done)) {
		err := record.AppendChange(ctx, l.tx, record.Change{Practice: id, Actor: l.actor, Action: "import",
			After: l.done[id], Correlation: l.correlation})
		if err != nil {
			return err
		}
	}
	return nil
}
