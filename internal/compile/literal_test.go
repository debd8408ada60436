package compile_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// TestTextMeansItsParameters: whatever a value is, written as a literal it is
// what Postgres gets as a parameter, with old string rules too, and it is plain
// ASCII with no quote inside.
func TestTextMeansItsParameters(t *testing.T) {
	pool := pgtest.Pool(t)
	texts := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune(`'"\$1;-/*éẞ漢😀`+"\n\t\x01\x7f\u2028E")))).
		Filter(func(s string) bool { return !strings.ContainsRune(s, 0) })
	rapid.Check(t, func(t *rapid.T) {
		s, list := texts.Draw(t, "text"), rapid.SliceOfN(texts, 0, 4).Draw(t, "list")
		n, on := rapid.Int64().Draw(t, "number"), rapid.Bool().Draw(t, "flag")
		at := time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds"), 1000*rapid.Int64Range(0, 999_999).Draw(t, "microseconds")).UTC()
		if list == nil {
			list = []string{}
		}
		q := compile.Query{SQL: "SELECT $1::text, $2::text[], $3::bigint, $4::boolean, $5::timestamptz, $1::text", Args: []any{s, list, n, on, at}}
		text, err := q.Text()
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || strings.Contains(text, "$") || strings.Contains(text, "''''") {
			t.Fatalf("the text is not plain: %s", text)
		}
		rules := rapid.SampledFrom([]string{"on", "off"}).Draw(t, "standard_conforming_strings")
		err = pgx.BeginFunc(context.Background(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(context.Background(), "SET LOCAL standard_conforming_strings = "+rules); err != nil {
				return err
			}
			var s1, s2 string
			var l []string
			var n1 int64
			var on1 bool
			var at1 time.Time
			if err := tx.QueryRow(context.Background(), text).Scan(&s1, &l, &n1, &on1, &at1, &s2); err != nil {
				return err
			}
			if s1 != s || s2 != s || !slices.Equal(l, list) || n1 != n || on1 != on || !at1.Equal(at) {
				return fmt.Errorf("read %q %q %v %v %v", s1, l, n1, on1, at1)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

func TestTextRefusesWhatItCannotWrite(t *testing.T) {
	for _, v := range []any{"a\x00b", "\xff", time.Time{}.AddDate(10_000, 0, 0), 1.5, nil, []string{"\x00"}} {
		if text, err := (compile.Query{SQL: "SELECT $1", Args: []any{v}}).Text(); err == nil {
			t.Errorf("%v was written as %s", v, text)
		}
	}
	if text, err := (compile.Query{SQL: "SELECT $2", Args: []any{"x"}}).Text(); err == nil {
		t.Errorf("no parameter was written as %s", text)
	}
}

// TestFilterTextIsTheFilter: as text, under any name of the table, the filter
// chooses the rows that it chooses with parameters, in practices with names of
// every kind.
func TestFilterTextIsTheFilter(t *testing.T) {
	pool := pgtest.Pool(t)
	s := theShipped(t)
	actions := slices.DeleteFunc(slices.Sorted(maps.Keys(s.policy.Actions)), func(name string) bool { return s.policy.Actions[name].On != "client" })
	n, found, never := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		name := rapid.SampledFrom([]string{"p", `o'b`, `b\'; --`, `$1 "c".id`, "é漢😀 c.id"}).Draw(t, "name")
		w := drawWorld(t, fmt.Sprintf("%s%d-", name, n))
		w.write(t, pool)
		now := rapid.SampledFrom(moments[:5]).Draw(t, "now")
		alias := rapid.SampledFrom([]string{"clients", "c", "x1", "client"}).Draw(t, "alias")
		for _, action := range []string{rapid.SampledFrom(actions).Draw(t, "action"), "chart.open", "demographics.write"} {
			for _, m := range w.members {
				l := compile.Listing{Request: askAbout(action, "client", m.User, "", nil), Limit: 1,
					Facts: authz.Facts{Now: now, Latest: now, Practice: w.practice, Settings: w.settings, Member: &m}}
				want := filter(t, pool, s.policy, l)
				f, err := s.policy.ClientsText(l, alias)
				if err != nil {
					t.Fatal(err)
				}
				if f.Never {
					if never++; want != nil {
						t.Fatalf("never, and %v", want)
					}
					continue
				}
				rows, err := pool.Query(context.Background(), "SELECT "+alias+".id FROM clients "+alias+" WHERE "+f.SQL+" ORDER BY 1")
				if err != nil {
					t.Fatalf("%s: %v", f.SQL, err)
				}
				got, err := pgx.CollectRows(rows, pgx.RowTo[string])
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("%s: %v, want %v, %v", f.SQL, got, want, err)
				}
				found += len(got)
			}
		}
	})
	if found < 100 || never < 10 {
		t.Errorf("%d rows, %d times never: nothing is tried", found, never)
	}
	for _, alias := range []string{"", "g", "h", "earlier", "grants", "a b", "A", `x"`, "x;", strings.Repeat("x", 64)} {
		if f, err := s.policy.ClientsText(compile.Listing{}, alias); err == nil {
			t.Errorf("%q was taken: %s", alias, f.SQL)
		}
	}
}
