package record_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/record"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// inTx runs work as control, and fails the test if it fails.
func (s stores) inTx(work func(tx pgx.Tx) error) {
	s.t.Helper()
	if err := postgres.InTx(s.t.Context(), s.control, work); err != nil {
		s.t.Fatal(err)
	}
}

var reader = record.Read{Actor: "admin-1", Reason: "a complaint"}

// mixed fills the record with decisions that differ in everything that can be
// asked for, and returns them as they were recorded.
func mixed(t *testing.T, s stores, n int) []authz.Verdict {
	t.Helper()
	spool := openSpool(t, t.TempDir(), record.Options{})
	var all []authz.Verdict
	for i := range n {
		v := record.Sample(i % 7)
		v.At = time.Now().Add(-time.Duration(i/3) * time.Hour).Truncate(time.Microsecond) // several at one moment
		v.Facts.Practice = fmt.Sprintf("practice-%d", i%3)
		v.Release = fmt.Sprintf("sha256:%d", i%2)
		if i%4 == 0 {
			v.Exact = authz.Decision{Code: "no_basis", Bases: []string{}}
		}
		if i%5 == 0 {
			v.Exact = authz.Decision{Allow: true, Code: "assigned", Bases: []string{"assigned", "client_grant"}}
		}
		v.Request.Action = []string{"note.read", "note.write"}[i/2%2]
		if err := spool.Record(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	ship(t, spool, s.sidecar)
	return all
}

// A list is the entries that fit, newest first, each once, however it is cut
// into pages.
func TestPagesAreTheEntriesThatFit(t *testing.T) {
	s := setup(t)
	all := mixed(t, s, 60)
	rapid.Check(t, func(r *rapid.T) {
		pick := func(name string, from ...string) string {
			return rapid.SampledFrom(append(from, "", "")).Draw(r, name)
		}
		q := record.Query{Practice: pick("practice", "practice-1", "practice-9"), Client: pick("client", "client-1", "client-2"), User: pick("user", "practitioner-1"),
			Action: pick("action", "note.read"), Code: pick("code", "client_grant", "no_basis", "assigned"), Release: pick("release", "sha256:1"), Limit: rapid.IntRange(1, 25).Draw(r, "limit")}
		if rapid.Bool().Draw(r, "from") {
			q.From = all[30].At
		}
		if rapid.Bool().Draw(r, "to") {
			q.To = all[6].At
		}
		if rapid.Bool().Draw(r, "practices") {
			q.Practices = []string{"practice-0", "practice-1"}
		}
		var want []string
		for _, v := range all {
			fits := func(asked, is string) bool { return asked == "" || asked == is }
			if fits(q.Practice, v.Facts.Practice) && fits(q.Client, v.Request.Resource.Client()) && fits(q.User, v.Request.Subject.ID) && fits(q.Action, v.Request.Action) &&
				(fits(q.Code, v.Exact.Code) || slices.Contains(v.Exact.Bases, q.Code)) && fits(q.Release, v.Release) && (q.Practices == nil || slices.Contains(q.Practices, v.Facts.Practice)) &&
				(q.From.IsZero() || !v.At.Before(q.From)) && (q.To.IsZero() || v.At.Before(q.To)) {
				want = append(want, v.ID.String())
			}
		}
		var got []string
		var last time.Time
		for pages := 0; ; pages++ {
			var page record.Page[record.Decision]
			s.inTx(func(tx pgx.Tx) (err error) { page, err = record.Decisions(t.Context(), tx, reader, q); return err })
			if len(page.Records) > q.Limit || (page.Next != nil && len(page.Records) < q.Limit) {
				r.Fatalf("a page of %d, asked for %d", len(page.Records), q.Limit)
			}
			for _, d := range page.Records {
				if !last.IsZero() && d.At.After(last) {
					r.Fatal("not newest first")
				}
				last = d.At
				got = append(got, d.ID.String())
			}
			if page.Next == nil {
				break
			}
			at, err := record.ParsePosition(page.Next.String())
			if err != nil {
				r.Fatal(err)
			}
			q.After = &at
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("%+v (-want +got)\n%s", q, diff)
		}
	})
}

// Who reads the record is on record himself, with what he asked for (DOMAIN
// rule 129), and the entry that he reads is the one that was written.
func TestReadingIsOnRecord(t *testing.T) {
	s := setup(t)
	all := mixed(t, s, 3)
	var page record.Page[record.Decision]
	s.inTx(func(tx pgx.Tx) (err error) {
		page, err = record.Decisions(t.Context(), tx, reader, record.Query{Practice: "practice-1", Client: "client-1", User: "practitioner-1"})
		return err
	})
	if len(page.Records) != 1 {
		t.Fatalf("%d decisions", len(page.Records))
	}
	want, err := json.Marshal(authz.Document(all[1].Request, all[1].Facts))
	if err != nil {
		t.Fatal(err)
	}
	if string(page.Records[0].Facts) != string(want) {
		t.Errorf("facts\n%s\nwant\n%s", page.Records[0].Facts, want)
	}
	var changes record.Page[record.ChangeEntry]
	s.inTx(func(tx pgx.Tx) (err error) {
		changes, err = record.Changes(t.Context(), tx, reader, record.Query{User: "admin-1"})
		return err
	})
	if len(changes.Records) != 2 { // the read of the changes and the read of the decisions
		t.Fatalf("%d reads on record: %+v", len(changes.Records), changes.Records)
	}
	read := changes.Records[1]
	if read.Action != "record.read" || read.Actor != "admin-1" || read.Client != "client-1" || read.Practice != "practice-1" || read.Target != "practitioner-1" || read.Reason != "a complaint" {
		t.Errorf("%+v", read)
	}
	for _, limit := range []int{-1, 201} {
		err := postgres.InTx(t.Context(), s.control, func(tx pgx.Tx) error {
			_, err := record.Decisions(t.Context(), tx, reader, record.Query{Limit: limit})
			return err
		})
		if !errors.Is(err, authz.ErrMalformed) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	for _, cursor := range []string{"", "x", "1", "1,", ",a"} {
		if _, err := record.ParsePosition(cursor); !errors.Is(err, authz.ErrMalformed) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

// An export holds all that fits, in both forms, with the exact facts.
func TestExportsHoldTheExactFacts(t *testing.T) {
	s := setup(t)
	all := mixed(t, s, 40)
	want := map[string]string{}
	for _, v := range all {
		if v.Facts.Practice == "practice-1" {
			document, err := json.Marshal(authz.Document(v.Request, v.Facts))
			if err != nil {
				t.Fatal(err)
			}
			want[v.ID.String()] = string(document)
		}
	}
	q := record.Query{Practice: "practice-1"}
	var lines, binary bytes.Buffer
	s.inTx(func(tx pgx.Tx) error {
		lines.Reset()
		binary.Reset()
		n, err := record.ExportDecisions(t.Context(), tx, reader, q, &lines)
		if err != nil || n != len(want) {
			t.Errorf("%d lines, want %d", n, len(want))
			return err
		}
		n, err = record.ExportBinary(t.Context(), tx, reader, q, &binary)
		if n != len(want) {
			t.Errorf("%d records, want %d", n, len(want))
		}
		return err
	})
	got := map[string]string{}
	for decoder := json.NewDecoder(&lines); decoder.More(); {
		var d record.Decision
		if err := decoder.Decode(&d); err != nil {
			t.Fatal(err)
		}
		if d.Chain == "" || d.Seq == 0 {
			t.Errorf("%s does not say where it stands", d.ID)
		}
		got[d.ID.String()] = string(d.Facts)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as lines (-want +got)\n%s", diff)
	}
	whole := bytes.Clone(binary.Bytes())
	from, err := record.NewReader(&binary)
	if err != nil {
		t.Fatal(err)
	}
	got = map[string]string{}
	var v record.View
	for {
		err := from.Next(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		document, err := from.Document(&v)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(document)
		got[v.ID.String()] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in binary (-want +got)\n%s", diff)
	}
	for _, damaged := range [][]byte{whole[:len(whole)-1], append(bytes.Clone(whole[:200]), whole[201:]...), whole[:10]} {
		from, err := record.NewReader(bytes.NewReader(damaged))
		for err == nil {
			err = from.Next(&v)
		}
		if errors.Is(err, io.EOF) && len(damaged) > 64 {
			t.Errorf("an export of %d bytes that is damaged was read to its end", len(damaged))
		}
	}
}

// Nothing that is younger than six years or under legal hold is purged (DOMAIN
// rule 125), whoever asks; what is purged leaves chains that can be followed.
func TestPurgeRefusesWhatMustBeKept(t *testing.T) {
	s := setup(t)
	old := time.Now().UTC().AddDate(-7, 0, 0)
	spool := openSpool(t, t.TempDir(), record.Options{})
	for i := range 12 {
		v := record.Sample(i)
		if i%3 != 0 { // old and new ones take turns in the chain
			v.At = old.Add(time.Duration(i) * time.Second)
		}
		if err := spool.Record(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	ship(t, spool, s.sidecar)
	for i := range 6 {
		s.change("now")
		at := time.Now()
		if i%2 == 0 {
			at = old
		}
		s.run(`INSERT INTO changes (at, practice, client, actor, action) VALUES ($1, 'practice-1', 'client-1', 'admin-1', 'access.manage')`, at)
	}
	if err := record.Keep(t.Context(), s.control); err != nil { // moves the old ones out of the default partition
		t.Fatal(err)
	}
	if found := s.verify(record.VerifyOptions{}).Findings; len(found) > 0 {
		t.Fatalf("before: %v", found)
	}
	count := func() (n int) {
		if err := s.owner.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM decisions) + (SELECT count(*) FROM changes WHERE actor = 'admin-1' AND action = 'access.manage')`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	all := count()
	refused := func(why string, day time.Time) {
		t.Helper()
		if _, _, err := record.Purge(t.Context(), s.control, day); !errors.Is(err, authz.ErrConflict) {
			t.Errorf("%s: %v", why, err)
		}
		if n := count(); n != all {
			t.Errorf("%s: %d entries are left of %d", why, n, all)
		}
	}
	refused("this month", time.Now())
	refused("five years and eleven months ago", time.Now().AddDate(-5, -11, 0))
	for _, client := range []string{"client-1", ""} {
		var holds []record.Hold
		s.inTx(func(tx pgx.Tx) error {
			_, err := record.PlaceHold(t.Context(), tx, record.Read{Actor: "admin-1", Reason: "a suit"}, "practice-1", client)
			return err
		})
		refused("under hold "+client, old)
		s.inTx(func(tx pgx.Tx) (err error) { holds, err = record.Holds(t.Context(), tx); return err })
		s.inTx(func(tx pgx.Tx) error { return record.ReleaseHold(t.Context(), tx, reader, holds[0].ID) })
	}
	s.inTx(func(tx pgx.Tx) error {
		_, err := record.PlaceHold(t.Context(), tx, record.Read{Actor: "admin-1", Reason: "a suit"}, "practice-2", "")
		return err
	})
	decisions, changes, err := record.Purge(t.Context(), s.control, old)
	if err != nil || decisions != 8 || changes != 3 {
		t.Fatalf("purged %d decisions and %d changes: %v", decisions, changes, err)
	}
	if n := count(); n != all-11 {
		t.Errorf("%d entries are left, want %d", n, all-11)
	}
	report := s.verify(record.VerifyOptions{})
	for _, f := range report.Findings {
		t.Error(f)
	}
	if len(report.Gaps) != 7 { // four of two decisions each, three of a change
		t.Errorf("gaps %+v", report.Gaps)
	}
	if found := s.after(t, []string{`DELETE FROM changes WHERE action = 'record.purge'`}).Findings; len(found) == 0 {
		t.Error("a purge that nothing on record speaks of was not found")
	}
	if found := s.after(t, []string{`UPDATE purged SET hash = sha256(hash)`}).Findings; len(found) == 0 {
		t.Error("a purge with other links was not found")
	}
}

// No writer fails for want of a partition, whatever its clock says.
func TestRowsFindAPartition(t *testing.T) {
	s := setup(t)
	spool := openSpool(t, t.TempDir(), record.Options{})
	for _, at := range []time.Time{time.Unix(0, 0), time.Now(), time.Now().AddDate(0, 2, 0), time.Now().AddDate(0, 8, 0), authz.NoEnd, {}} {
		v := record.Sample(1)
		v.At = at
		if err := spool.Record(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	ship(t, spool, s.sidecar)
	for range 2 {
		if err := record.Keep(t.Context(), s.control); err != nil {
			t.Fatal(err)
		}
	}
	var astray, all, months int
	if err := s.owner.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM decisions_default), (SELECT count(*) FROM decisions),
		(SELECT count(*) FROM pg_inherits WHERE inhparent = 'decisions'::regclass)`).Scan(&astray, &all, &months); err != nil {
		t.Fatal(err)
	}
	if all != 6 || astray != 3 || months != 6 { // four months ahead, the one of the future, the default
		t.Errorf("%d rows, %d of them in the default partition; %d partitions", all, astray, months)
	}
	if found := s.verify(record.VerifyOptions{}).Findings; len(found) > 0 {
		t.Error(found)
	}
}
