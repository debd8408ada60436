package record

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// ExportDecisions writes all decisions that fit q, oldest first, one JSON
// object a line, and puts the export on record. It returns how many. Limit and
// After of q are not looked at.
func ExportDecisions(ctx context.Context, tx pgx.Tx, by Read, q Query, to io.Writer) (int, error) {
	out := bufio.NewWriterSize(to, 1<<16)
	lines := json.NewEncoder(out)
	settings := map[settingsDigest]map[string]any{}
	n, err := eachDecision(ctx, tx, by, q, func(chain *uuid.UUID, seq *int64, body []byte, of settingsText) error {
		var d Decision
		if err := d.read(body); err != nil {
			return err
		}
		if chain != nil && seq != nil {
			d.Chain, d.Seq = chain.String(), *seq
		}
		if of.text != nil && settings[of.digest] == nil {
			read, err := ReadSettings(of.text)
			if err != nil {
				return err
			}
			settings[of.digest] = read
		}
		if err := d.fill(func(digest settingsDigest) map[string]any { return settings[digest] }); err != nil {
			return err
		}
		return lines.Encode(d)
	})
	return n, errors.Join(err, out.Flush())
}

// ExportChanges is ExportDecisions for changes.
func ExportChanges(ctx context.Context, tx pgx.Tx, by Read, q Query, to io.Writer) (int, error) {
	q.Limit, q.After = 0, nil
	if err := begin(ctx, tx, by, "record.export", "changes", &q); err != nil {
		return 0, err
	}
	f := q.changeFilter()
	rows, err := tx.Query(ctx, selectChanges+f.where()+` ORDER BY c.at, c.id`, f.arguments...)
	if err != nil {
		return 0, fmt.Errorf("export changes: %w", err)
	}
	defer rows.Close()
	out := bufio.NewWriterSize(to, 1<<16)
	lines := json.NewEncoder(out)
	n := 0
	for ; rows.Next(); n++ {
		c, err := scanChange(rows)
		if err == nil {
			err = lines.Encode(c)
		}
		if err != nil {
			return n, fmt.Errorf("export changes: %w", err)
		}
	}
	return n, errors.Join(rows.Err(), out.Flush())
}

// exportGroup is how many decisions a group of a binary export holds.
const exportGroup = 1024

// ExportBinary writes all decisions that fit q, oldest first, as one segment
// that Reader reads: what replay needs. It puts the export on record, and
// returns how many it wrote.
func ExportBinary(ctx context.Context, tx pgx.Tx, by Read, q Query, to io.Writer) (int, error) {
	out := bufio.NewWriterSize(to, 1<<18)
	if _, err := out.Write(segmentHead{first: 1}.append(nil)); err != nil {
		return 0, err
	}
	known := map[settingsDigest]bool{}
	var added []settingsText
	b, count, first := make([]byte, groupSize), uint32(0), uint64(1)
	flush := func() error {
		if count == 0 {
			return nil
		}
		if len(added) > 0 {
			if _, err := out.Write(settingsGroup(added, first)); err != nil {
				return err
			}
		}
		sealGroup(b, groupDecisions, count, first)
		_, err := out.Write(b)
		first += uint64(count)
		b, count, added = b[:groupSize], 0, nil
		return err
	}
	n, err := eachDecision(ctx, tx, by, q, func(_ *uuid.UUID, _ *int64, body []byte, of settingsText) error {
		if of.text != nil && !known[of.digest] {
			known[of.digest] = true
			added = append(added, settingsText{of.digest, bytes.Clone(of.text)})
		}
		b, _ = appendRecord(b, func(b []byte) ([]byte, error) { return append(b, body...), nil })
		if count++; count < exportGroup {
			return nil
		}
		return flush()
	})
	return n, errors.Join(err, flush(), out.Flush())
}

// eachDecision calls take with every decision that fits q, oldest first, and
// with its settings. What it is given holds until it returns.
func eachDecision(ctx context.Context, tx pgx.Tx, by Read, q Query, take func(chain *uuid.UUID, seq *int64, body []byte, of settingsText) error) (int, error) {
	q.Limit, q.After = 0, nil
	if err := begin(ctx, tx, by, "record.export", "decisions", &q); err != nil {
		return 0, err
	}
	f := q.decisionFilter()
	rows, err := tx.Query(ctx, selectExport+f.where()+` ORDER BY d.at, d.id`, f.arguments...)
	if err != nil {
		return 0, fmt.Errorf("export decisions: %w", err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var chain *uuid.UUID
		var seq *int64
		var body, digest, text []byte
		err := rows.Scan(&chain, &seq, (*pgtype.DriverBytes)(&body), &digest, &text)
		if err == nil {
			of := settingsText{text: text}
			copy(of.digest[:], digest)
			err = take(chain, seq, body, of)
		}
		if err != nil {
			return n, fmt.Errorf("export decisions: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("export decisions: %w", err)
	}
	return n, nil
}

// Reader reads the decisions of a segment or a binary export, one after the
// other, without allocating for each.
type Reader struct {
	from     *bufio.Reader
	buffer   []byte
	unread   unread // of the group at hand
	settings map[settingsDigest]map[string]any
	keep     func(settingsDigest, []byte) // told of settings as they stand in the file; may be nil
}

// NewReader reads the header of from.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{from: bufio.NewReaderSize(from, 1<<20), settings: map[settingsDigest]map[string]any{}}
	head := make([]byte, segmentSize)
	if _, err := io.ReadFull(r.from, head); err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	if _, err := readSegmentHead(head); err != nil {
		return nil, fmt.Errorf("read the record: %w", err)
	}
	return r, nil
}

// Next reads the next decision into v, which holds until the next call. At the
// end it returns io.EOF; a group that is not whole is an error.
func (r *Reader) Next(v *View) error {
	for r.unread.left == 0 {
		if err := r.nextGroup(); err != nil {
			return err
		}
	}
	body, ok := r.unread.next()
	if !ok {
		return fmt.Errorf("read the record: %w", errDamage)
	}
	return v.Read(body)
}

func (r *Reader) nextGroup() error {
	if cap(r.buffer) < groupSize {
		r.buffer = make([]byte, groupSize, 1<<20)
	}
	b := r.buffer[:groupSize]
	if _, err := io.ReadFull(r.from, b); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("read the record: %w", err)
	}
	c := cursor{b: b[8:]}
	length := int(c.uint32())
	if length > maxGroupPayload {
		return fmt.Errorf("read the record: %w", errDamage)
	}
	if whole := groupSize + length; cap(b) < whole {
		r.buffer = append(make([]byte, 0, 2*whole), b...)
		b = r.buffer
	}
	b = b[:groupSize+length]
	if _, err := io.ReadFull(r.from, b[groupSize:]); err != nil {
		return fmt.Errorf("read the record: %w", errShort)
	}
	g, err := readGroup(b)
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	switch g.kind {
	case groupDecisions:
		r.unread.begin(g)
	case groupSettings:
		for _, record := range g.records() {
			if len(record) <= digestSize {
				return fmt.Errorf("read the record: %w", errDamage)
			}
			settings, err := ReadSettings(record[digestSize:])
			if err != nil {
				return err
			}
			r.settings[settingsDigest(record[:digestSize])] = settings
			if r.keep != nil {
				r.keep(settingsDigest(record[:digestSize]), record[digestSize:])
			}
		}
	}
	return nil
}

// Document rebuilds the facts document of the decision that Next has read. The
// settings in it are shared, and may not be changed.
func (r *Reader) Document(v *View) (map[string]any, error) {
	if v.SettingsDigest == nil {
		return v.Document(nil)
	}
	return v.Document(r.settings[settingsDigest(v.SettingsDigest)])
}
