package record_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"chartgate/internal/postgres"
	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
)

// written fills the record: two chains of a spool, changes, and decisions of
// control.
func written(t testing.TB) stores {
	t.Helper()
	s := setup(t)
	folder := t.TempDir()
	for range 2 {
		spool := openSpool(t, folder, record.Options{})
		put(t, spool, 9)
		ship(t, spool, s.sidecar)
		if err := spool.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 9 {
		s.change(fmt.Sprintf("change %d, \"quoted\" ß", i))
	}
	return s
}

// change writes a change and the decision that allowed it, as control does.
func (s stores) change(reason string) {
	s.t.Helper()
	err := postgres.InTx(context.Background(), s.control, func(tx pgx.Tx) error {
		v := record.Sample(1)
		if err := record.AppendDecision(context.Background(), tx, v); err != nil {
			return err
		}
		return record.AppendChange(context.Background(), tx, record.Change{Practice: "practice-1", Actor: "admin-1", Action: "access.manage", Target: "practitioner-2",
			Client: "client-1", After: map[string]any{"scope": "view", "n": 1.5}, Reason: reason, Correlation: "c", Decision: v.ID.String()})
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s stores) verify(o record.VerifyOptions) record.Report {
	s.t.Helper()
	report, err := record.Verify(context.Background(), s.owner, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return report
}

func TestWholeRecordVerifies(t *testing.T) {
	s := written(t)
	report := s.verify(record.VerifyOptions{})
	for _, f := range report.Findings {
		t.Error(f)
	}
	if report.Chains != 3 || report.Decisions != 27 || report.Changes != 11 || len(report.Gaps) != 0 || len(report.Anchors) != 3 {
		t.Errorf("%+v", report)
	}
	asControl, err := record.Verify(t.Context(), s.control, record.VerifyOptions{})
	if err != nil || len(asControl.Findings) > 0 {
		t.Errorf("as control: %v, %v", asControl.Findings, err)
	}
}

// Every way to spoil the rows is found, and located: altered, removed, put in
// another's place, cut off (DOMAIN rule 124).
func TestVerifyFindsWhatWasDoneToRows(t *testing.T) {
	s := written(t)
	// The 4th entry of the second chain, and the change at 6 of the ledger.
	const second = `(SELECT chain FROM chains WHERE spool IS NOT NULL ORDER BY number DESC LIMIT 1)`
	const change = `(SELECT change FROM ledger WHERE change IS NOT NULL AND seq >= 6 ORDER BY seq LIMIT 1)`
	const decision = `(SELECT decision FROM ledger WHERE decision IS NOT NULL AND seq >= 6 ORDER BY seq LIMIT 1)`
	type want struct {
		kind        string
		first, last uint64
	}
	for name, c := range map[string]struct {
		do   []string
		want []want
	}{
		"a column":            {[]string{`UPDATE decisions SET allow = NOT allow WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Altered, 4, 4}}},
		"a time":              {[]string{`UPDATE decisions SET at = at + interval '1 microsecond' WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Altered, 4, 4}}},
		"the bases":           {[]string{`UPDATE decisions SET bases = '{}' WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Altered, 4, 4}}},
		"a body":              {[]string{`UPDATE decisions SET body = set_byte(body, 30, (get_byte(body, 30) + 1) % 256) WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Altered, 4, 4}}},
		"a body that is none": {[]string{`UPDATE decisions SET body = '' WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Altered, 4, 4}, {record.Altered, 4, 4}}},
		"a link":              {[]string{`UPDATE decisions SET hash = sha256(hash) WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Altered, 4, 4}}},
		"the settings":        {[]string{`ALTER TABLE record_settings DROP CONSTRAINT record_settings_check`, `UPDATE record_settings SET text = replace(convert_from(text, 'UTF8'), 'full', 'list')::bytea`}, nil},
		"the head":            {[]string{`UPDATE chains SET head = sha256(head) WHERE chain = ` + second}, []want{{record.Altered, 9, 9}}},
		"one removed":         {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq = 4`}, []want{{record.Removed, 4, 4}}},
		"several removed":     {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq BETWEEN 2 AND 5`}, []want{{record.Removed, 2, 5}}},
		"the first removed":   {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq = 1`}, []want{{record.Removed, 1, 1}}},
		"removed, numbers closed": {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq = 4`, `UPDATE decisions SET seq = seq - 1 WHERE chain = ` + second + ` AND seq > 4`,
			`UPDATE chains SET last = 8 WHERE chain = ` + second}, nil},
		"removed and excused": {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq = 4`,
			`INSERT INTO purged SELECT chain, 4, 4, sha256(''), now() FROM chains WHERE chain = ` + second}, nil},
		"two exchanged":  {exchange(second, 4, 7), []want{{record.Reordered, 4, 4}, {record.Reordered, 7, 7}}},
		"two neighbours": {exchange(second, 4, 5), []want{{record.Reordered, 4, 4}, {record.Reordered, 5, 5}}},
		"cut off":        {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq > 6`}, []want{{record.Truncated, 7, 9}}},
		"cut off, and the end moved": {[]string{`DELETE FROM decisions WHERE chain = ` + second + ` AND seq > 6`,
			`UPDATE chains SET last = 6, head = (SELECT hash FROM decisions d WHERE d.chain = chains.chain AND seq = 6) WHERE chain = ` + second}, []want{{record.Truncated, 7, 9}}},
		"a whole chain":         {[]string{`DELETE FROM decisions WHERE chain = ` + second, `DELETE FROM chains WHERE chain = ` + second, `DELETE FROM checkpoints`}, nil},
		"one added":             {[]string{`INSERT INTO decisions SELECT chain, 10, hash, id, at, practice, subject_type, subject_id, action, resource_type, resource_id, client, allow, code, bases, release, body FROM decisions WHERE chain = ` + second + ` AND seq = 9`}, nil},
		"one added of no chain": {[]string{`ALTER TABLE changes DISABLE TRIGGER chained`, `INSERT INTO changes (actor, action) VALUES ('admin-2', 'x')`, `ALTER TABLE changes ENABLE ALWAYS TRIGGER chained`}, nil},

		"a change":                 {[]string{`UPDATE changes SET reason = 'another' WHERE id = ` + change}, []want{{record.Altered, 6, 7}}},
		"what a change was before": {[]string{`UPDATE changes SET after = '{"scope": "collaborate"}' WHERE id = ` + change}, []want{{record.Altered, 6, 7}}},
		"who made a change":        {[]string{`UPDATE changes SET actor = 'admin-2' WHERE id = ` + change}, []want{{record.Altered, 6, 7}}},
		"NULL instead of nothing":  {[]string{`UPDATE changes SET correlation = '', target = NULL WHERE id = ` + change}, []want{{record.Altered, 6, 7}}},
		"a change removed":         {[]string{`DELETE FROM changes WHERE id = ` + change}, []want{{record.Removed, 6, 7}}},
		"a change and its link":    {[]string{`WITH gone AS (DELETE FROM ledger WHERE change = ` + change + ` RETURNING change) DELETE FROM changes WHERE id IN (SELECT change FROM gone)`}, []want{{record.Removed, 6, 7}}},
		"changes cut off":          {[]string{`WITH gone AS (DELETE FROM ledger WHERE seq > 15 RETURNING change, decision), d AS (DELETE FROM decisions WHERE id IN (SELECT decision FROM gone)) DELETE FROM changes WHERE id IN (SELECT change FROM gone)`}, []want{{record.Truncated, 16, 20}}},
		"changes exchanged": {[]string{`CREATE TEMPORARY TABLE two ON COMMIT DROP AS SELECT * FROM ledger WHERE seq IN (8, 12)`, `DELETE FROM ledger WHERE seq IN (8, 12)`,
			`INSERT INTO ledger SELECT 20 - seq, change, decision, decided_at, hash FROM two`}, []want{{record.Reordered, 8, 8}, {record.Reordered, 12, 12}}},
		"a decision of control":      {[]string{`UPDATE decisions SET code = 'assigned' WHERE id = ` + decision}, []want{{record.Altered, 6, 7}}},
		"a decision of control gone": {[]string{`DELETE FROM decisions WHERE id = ` + decision}, []want{{record.Removed, 6, 7}}},
	} {
		t.Run(name, func(t *testing.T) {
			report := s.after(t, c.do)
			if len(report.Findings) == 0 {
				t.Fatal("nothing was found")
			}
			if c.want == nil {
				t.Logf("found: %v", report.Findings)
				return
			}
			if len(report.Findings) != len(c.want) {
				t.Errorf("found %d things, want %d: %v", len(report.Findings), len(c.want), report.Findings)
			}
			for i, w := range c.want {
				found := false
				for _, f := range report.Findings {
					found = found || f.Kind == w.kind && f.First >= w.first && f.Last <= w.last && f.First > 0
				}
				if !found {
					t.Errorf("%d: want %s at %d to %d, found %v", i, w.kind, w.first, w.last, report.Findings)
				}
			}
		})
	}
}

// after runs statements as the owner in a transaction, verifies, and rolls back.
func (s stores) after(t *testing.T, statements []string) record.Report {
	t.Helper()
	report, err := record.VerifyAfter(t.Context(), s.owner, statements)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// exchange puts two entries of a chain in each other's place, links and all.
func exchange(chain string, a, b int) []string {
	return []string{fmt.Sprintf(`UPDATE decisions SET seq = CASE seq WHEN %d THEN %d ELSE %d END WHERE chain = %s AND seq IN (%d, %d)`, a, b, a, chain, a, b)}
}

// A record that was written anew from end to end, by who owns the database,
// passes every check inside it; a head that was kept outside finds it.
func TestAnchorsFindARecordWrittenAnew(t *testing.T) {
	s := written(t)
	before := s.verify(record.VerifyOptions{}).Anchors
	s.change("one more")
	if found := s.verify(record.VerifyOptions{Anchors: before}).Findings; len(found) > 0 {
		t.Fatalf("a record that only grew: %v", found)
	}
	for _, statement := range []string{
		`UPDATE changes SET actor = 'admin-2' WHERE id = (SELECT max(change) FROM ledger WHERE seq < 10)`,
		`DELETE FROM checkpoints`,
		`DO $$ DECLARE l ledger; c chains; BEGIN
			SELECT * INTO c FROM chains WHERE spool IS NULL;
			c.head := sha256('chartgate record ledger 1'::bytea || uuid_send(c.chain));
			FOR l IN SELECT * FROM ledger ORDER BY seq LOOP
				c.head := sha256(c.head || int8send(l.seq) || CASE WHEN l.change IS NULL THEN 'd'::bytea || (SELECT body FROM decisions WHERE id = l.decision)
					ELSE 'c'::bytea || (SELECT record_change_content(x) FROM changes x WHERE x.id = l.change) END);
				UPDATE ledger SET hash = c.head WHERE seq = l.seq;
			END LOOP;
			UPDATE chains SET head = c.head WHERE chain = c.chain;
		END $$`,
	} {
		s.run(statement)
	}
	if found := s.verify(record.VerifyOptions{}).Findings; len(found) > 0 {
		t.Fatalf("the record was not written anew well enough for this test: %v", found)
	}
	if found := s.verify(record.VerifyOptions{Anchors: before}).Findings; len(found) == 0 {
		t.Error("the anchors did not find it")
	}
}

// Every way to spoil the files of a spool is found, and located.
func TestVerifyFindsWhatWasDoneToFiles(t *testing.T) {
	folder := t.TempDir()
	spool := openSpool(t, folder, record.Options{})
	put(t, spool, 9)
	path := lastSegment(t, folder)
	if found, err := record.VerifySpool(folder); err != nil || len(found) > 0 {
		t.Fatalf("a spool in use: %v, %v", found, err)
	}
	if err := spool.Close(); err != nil {
		t.Fatal(err)
	}
	if found, err := record.VerifySpool(folder); err != nil || len(found) > 0 {
		t.Fatalf("a spool that was closed: %v, %v", found, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := groupsOf(whole) // [0] is the header, then settings, 9 decisions, the end
	cut := func(from, to int) []byte { return append(bytes.Clone(whole[:at[from]]), whole[at[to]:]...) }
	for name, c := range map[string]struct {
		file        []byte
		kind        string
		first, last uint64
		offset      int64
	}{
		"altered":              {flip(whole, at[5]+60), record.Altered, 4, 4, int64(at[5])},
		"its header altered":   {flip(whole, at[5]+17), record.Altered, 4, 4, int64(at[5])},
		"removed":              {cut(5, 6), record.Removed, 4, 4, int64(at[5])},
		"several removed":      {cut(3, 7), record.Removed, 2, 5, int64(at[3])},
		"reordered":            {swap(whole, at, 4, 7), record.Reordered, 6, 6, int64(at[4])},
		"a torn end":           {whole[:at[10]+50], record.Truncated, 0, 0, int64(at[10])},
		"cut off between two":  {whole[:at[9]], record.Truncated, 8, 9, 0},
		"twice":                {append(bytes.Clone(whole[:at[6]]), whole[at[5]:]...), record.Added, 4, 4, int64(at[6])},
		"the segment's header": {flip(whole, 20), record.Altered, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			findings, err := record.VerifySpool(folder)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				if f.Kind == c.kind && f.First == c.first && f.Last == c.last && f.Offset == c.offset && strings.HasPrefix(path, f.File) {
					return
				}
			}
			t.Errorf("want %s of %d to %d at %d, found %v", c.kind, c.first, c.last, c.offset, findings)
		})
	}
}

// groupsOf is where each group of a segment begins, after its header at 0.
func groupsOf(b []byte) []int {
	at := []int{0}
	for i := 64; i < len(b); i += 32 + int(binary.LittleEndian.Uint32(b[i+8:])) {
		at = append(at, i)
	}
	return at
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// swap exchanges the groups i and k.
func swap(b []byte, at []int, i, k int) []byte {
	var out []byte
	out = append(out, b[:at[i]]...)
	out = append(out, b[at[k]:at[k+1]]...)
	out = append(out, b[at[i+1]:at[k]]...)
	out = append(out, b[at[i]:at[i+1]]...)
	return append(out, b[at[k+1]:]...)
}
