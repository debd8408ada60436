package roster_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"chartgate/internal/roster"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const actor = "operator-1"

// folder makes files from name, content pairs.
func folder(t testing.TB, nameAndContent ...string) []roster.File {
	t.Helper()
	fsys := fstest.MapFS{}
	for i := 0; i < len(nameAndContent); i += 2 {
		fsys[nameAndContent[i]] = &fstest.MapFile{Data: []byte(nameAndContent[i+1])}
	}
	files, err := roster.Folder(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// atOnce is for imports that no sidecar hears of.
func atOnce(context.Context) error { return nil }

// load imports files that must be right.
func load(t testing.TB, pool *pgxpool.Pool, files []roster.File) roster.Report {
	t.Helper()
	report, err := roster.Load(t.Context(), pool, files, roster.Options{Actor: actor, Settle: atOnce})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// refused imports files that must be wrong, and returns what is wrong.
func refused(t testing.TB, pool *pgxpool.Pool, files []roster.File) *roster.Rejected {
	t.Helper()
	report, err := roster.Load(t.Context(), pool, files, roster.Options{Actor: actor, Settle: atOnce})
	var rejected *roster.Rejected
	if !errors.As(err, &rejected) {
		t.Fatalf("want a *Rejected, got %v, %+v", err, report)
	}
	if report != (roster.Report{}) {
		t.Errorf("a rejected import reports %+v", report)
	}
	return rejected
}

// facts are all rows that an import may write, as text, without what differs
// from import to import.
func facts(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	return texts(t, pool, `
SELECT 'practice', to_jsonb(p) - 'created_at' FROM practices p UNION ALL
SELECT 'user', to_jsonb(u) - 'created_at' FROM users u UNION ALL
SELECT 'member', to_jsonb(m) - '{created_at,id}'::text[] FROM members m UNION ALL
SELECT 'client', to_jsonb(c) - 'created_at' FROM clients c UNION ALL
SELECT 'grant', to_jsonb(g) - '{id,granted_at}'::text[] || CASE WHEN g.not_before = g.granted_at THEN '{"not_before": "at once"}' ELSE '{}'::jsonb END FROM grants g`)
}

// written are all rows that are there because something was written: facts
// with their ids, history, feed and change records.
func written(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	parts := []string{}
	for _, table := range []string{"practices", "users", "members", "clients", "grants", "grant_versions", "feed", "changes",
		"practices_history", "members_history", "clients_history", "grants_history"} {
		parts = append(parts, fmt.Sprintf(`SELECT '%s', to_jsonb(r) FROM %s r`, table, table))
	}
	return texts(t, pool, strings.Join(parts, " UNION ALL "))
}

func texts(t testing.TB, pool *pgxpool.Pool, sql string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var table, text string
		err := row.Scan(&table, &text)
		return table + " " + text, err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// one returns a single value of the database as text.
func one(t testing.TB, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	var text string
	if err := pool.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// row is a row of a file: values as JSON has them, nil for a blank cell.
type row map[string]any

// asNDJSON writes one object a line.
func asNDJSON(t testing.TB, rows []row) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	for _, r := range rows {
		if err := encoder.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// asCSV writes the same rows; all of them have the same columns.
func asCSV(t testing.TB, rows []row) string {
	t.Helper()
	if len(rows) == 0 {
		return ""
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	header := slices.Sorted(maps.Keys(rows[0]))
	records := [][]string{header}
	for _, r := range rows {
		record := make([]string, len(header))
		for i, name := range header {
			switch v := r[name].(type) {
			case nil:
			case string:
				record[i] = v
			case []string:
				record[i] = strings.Join(v, ";")
			default:
				text, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				record[i] = string(text)
			}
		}
		records = append(records, record)
	}
	if err := w.WriteAll(records); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
