package record

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Stream reads decisions of the database for a replay: in no order, many at a
// time, and without holding more than what is being looked at.
type Stream struct {
	tx       pgx.Tx
	rows     pgx.Rows
	settings map[settingsDigest][]byte
	done     atomic.Int64
	total    int64
}

// maxSettings bounds the different settings that a replay may meet: practices
// with equal settings share them.
const maxSettings = 1 << 16

// OpenStream begins to read the decisions that fit q, of them the newest if
// limit is not 0, and puts the replay on record before it reads anything
// (DOMAIN rule 129). Limit and After
// of q are not looked at. It holds a connection until Close.
func OpenStream(ctx context.Context, pool *pgxpool.Pool, by Read, q Query, limit int) (*Stream, error) {
	s := &Stream{settings: map[settingsDigest][]byte{}}
	q.Limit, q.After = 0, nil
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return begin(ctx, tx, by, "record.replay", "decisions", &q) })
	if err == nil {
		s.tx, err = pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	}
	if err == nil {
		err = s.query(ctx, q, limit)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("replay decisions: %w", err)
	}
	return s, nil
}

func (s *Stream) query(ctx context.Context, q Query, limit int) error {
	f := q.decisionFilter()
	if err := s.tx.QueryRow(ctx, countDecisions+f.where(), f.arguments...).Scan(&s.total); err != nil {
		return err
	}
	if err := s.readSettings(ctx); err != nil {
		return err
	}
	sql := selectBodies + f.where()
	if limit > 0 {
		sql += ` ORDER BY d.at DESC, d.id DESC` + f.limit(limit)
		s.total = min(s.total, int64(limit))
	}
	var err error
	s.rows, err = s.tx.Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, f.arguments...)...)
	return err
}

// Next fills b with the next decisions; io.EOF when there are no more.
func (s *Stream) Next(_ context.Context, b *Bodies) error {
	b.clear()
	for !b.full() && s.rows.Next() {
		b.add(s.rows.RawValues()[0])
	}
	if err := s.rows.Err(); err != nil {
		return fmt.Errorf("replay decisions: %w", err)
	}
	if b.Len() == 0 {
		return io.EOF
	}
	s.done.Add(int64(b.Len()))
	return nil
}

// readSettings reads all settings first: while decisions come, the connection
// can give nothing else, and waiting for a second one could wait for ever.
func (s *Stream) readSettings(ctx context.Context) error {
	rows, err := s.tx.Query(ctx, selectAllSettings)
	if err != nil {
		return err
	}
	var digest, text []byte
	_, err = pgx.ForEachRow(rows, []any{&digest, &text}, func() error {
		if len(s.settings) >= maxSettings {
			return fmt.Errorf("more than %d different settings are on record", maxSettings)
		}
		s.settings[settingsDigest(digest)] = text
		text = nil
		return nil
	})
	return err
}

// Settings returns the JSON of the settings of a digest, nil where it is not
// there. It may be called beside Next.
func (s *Stream) Settings(_ context.Context, digest []byte) ([]byte, error) {
	return s.settings[settingsDigest(digest)], nil
}

// Progress says how many decisions were read, of how many.
func (s *Stream) Progress() (done, total int64) { return s.done.Load(), s.total }

// Close ends the reading.
func (s *Stream) Close() {
	if s.rows != nil {
		s.rows.Close()
	}
	if s.tx != nil {
		_ = s.tx.Rollback(context.Background()) // it has written nothing
	}
}
