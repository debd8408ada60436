package roster_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/roster"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Each check is several imports: forty are enough for every run, more can be
// asked for by -rapid.checks.
func init() { _ = flag.Set("rapid.checks", "40") }

// TestImportAgainChangesNothing: a random roster, in CSV or NDJSON, its rows
// and files in any order, gives the same facts; imported again, whatever the
// form, it writes nothing: no fact, no history, no feed, no change record.
func TestImportAgainChangesNothing(t *testing.T) {
	t.Parallel()
	first, second := pgtest.Pool(t), pgtest.Pool(t)
	// Tables this small are emptied faster row by row than by TRUNCATE.
	const wipe = `DELETE FROM grants; DELETE FROM clients; DELETE FROM members; DELETE FROM users; DELETE FROM practices;
		DELETE FROM grant_versions; DELETE FROM feed; DELETE FROM changes; DELETE FROM practices_history;
		DELETE FROM members_history; DELETE FROM clients_history; DELETE FROM grants_history`
	rapid.Check(t, func(rt *rapid.T) {
		rosterRows := drawRoster(rt)
		if _, err := first.Exec(t.Context(), wipe); err != nil {
			rt.Fatal(err)
		}
		if _, err := second.Exec(t.Context(), wipe); err != nil {
			rt.Fatal(err)
		}
		report, err := roster.Load(t.Context(), first, drawFiles(rt, t, rosterRows, "first"), roster.Options{Actor: actor, Settle: atOnce})
		if err != nil {
			rt.Fatal(err)
		}
		for kind, counts := range map[string]roster.Counts{"practices": report.Practices, "members": report.Members, "clients": report.Clients, "grants": report.Grants} {
			if want := (roster.Counts{Inserted: int64(len(rosterRows[kind]))}); counts != want {
				rt.Fatalf("%s: %+v, want %+v", kind, counts, want)
			}
		}
		if _, err := roster.Load(t.Context(), second, drawFiles(rt, t, rosterRows, "second"), roster.Options{Actor: actor, Settle: atOnce}); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(facts(t, first), facts(t, second)); diff != "" {
			rt.Fatalf("the same roster in another form gives other facts:\n%s", diff)
		}
		before := written(t, first)
		again, err := roster.Load(t.Context(), first, drawFiles(rt, t, rosterRows, "again"), roster.Options{Actor: "operator-2", Settle: atOnce})
		if err != nil {
			rt.Fatal(err)
		}
		for _, counts := range []roster.Counts{again.Practices, again.Members, again.Clients, again.Grants} {
			if counts.Inserted != 0 || counts.Changed != 0 {
				rt.Fatalf("imported again: %+v", again)
			}
		}
		if diff := cmp.Diff(before, written(t, first)); diff != "" {
			rt.Fatalf("imported again, something is written:\n%s", diff)
		}
	})
}

// drawFiles writes rows as files of random forms, in random order; a kind may
// be spread over two files.
func drawFiles(rt *rapid.T, t *testing.T, rows map[string][]row, label string) []roster.File {
	var content []string
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		list := rapid.Permutation(rows[kind]).Draw(rt, label+" "+kind)
		cut := rapid.IntRange(0, len(list)).Draw(rt, label+" cut")
		for i, part := range [][]row{list[:cut], list[cut:]} {
			if len(part) == 0 {
				continue
			}
			if rapid.Bool().Draw(rt, label+" csv") {
				content = append(content, fmt.Sprintf("%s-%d.csv", kind, i), asCSV(t, part))
			} else {
				content = append(content, fmt.Sprintf("%s-%d.ndjson", kind, i), asNDJSON(t, part))
			}
		}
	}
	return rapid.Permutation(folder(t, content...)).Draw(rt, label+" files")
}

// drawRoster draws rows of all kinds that fit together. Within a kind all rows
// say the same columns.
func drawRoster(rt *rapid.T) map[string][]row {
	rows := map[string][]row{}
	maybe := func(label string, value any) any {
		if rapid.Bool().Draw(rt, label) {
			return value
		}
		return nil
	}
	said := map[string]bool{} // which of the columns that may be missing are there
	for _, column := range []string{"practice name", "preset", "overrides", "member email", "status", "owner", "label", "email", "scope", "reason", "granted_by"} {
		said[column] = rapid.Bool().Draw(rt, "said "+column)
	}
	put := func(r row, column, key string, value any) {
		if said[key] {
			r[column] = value
		}
	}
	name := rapid.SampledFrom([]string{"Client One", `"Quoted", with comma`, "Ünïcode 名", "Line's end"})
	emails := 0
	email := func() any {
		emails++
		return maybe("email", fmt.Sprintf("%s%d@Example.com", rapid.SampledFrom([]string{"client", "CLIENT"}).Draw(rt, "case"), emails))
	}
	for p := range rapid.IntRange(1, 3).Draw(rt, "practices") {
		practice := fmt.Sprintf("practice-%d", p)
		r := row{"id": practice}
		put(r, "name", "practice name", maybe("practice name", "Practice"))
		put(r, "preset", "preset", maybe("preset", "help-centre"))
		put(r, "overrides", "overrides", maybe("overrides", map[string]any{"hide_unassigned": false, "grant_default_scope": "view"}))
		rows["practices"] = append(rows["practices"], r)
		var here []string // members who are not removed
		for u := range rapid.IntRange(0, 4).Draw(rt, "members") {
			user := fmt.Sprintf("user-%d", u)
			roles := rapid.SliceOfDistinct(rapid.SampledFrom(authz.Roles), rapid.ID).Draw(rt, "roles")
			r := row{"practice": practice, "user": user, "name": name.Draw(rt, "name"), "roles": slices.Clone(roles)}
			put(r, "email", "member email", email())
			status := rapid.SampledFrom([]any{nil, "invited", "active", "removed"}).Draw(rt, "status")
			put(r, "status", "status", status)
			removed := said["status"] && status == "removed"
			if !removed {
				here = append(here, user)
			}
			put(r, "owner", "owner", maybe("owner", !removed))
			rows["members"] = append(rows["members"], r)
		}
		for c := range rapid.IntRange(0, 5).Draw(rt, "clients") {
			client := fmt.Sprintf("client-%d-%d", p, c)
			r := row{"id": client, "practice": practice, "first_name": name.Draw(rt, "first name"), "last_name": "Client", "assigned": nil}
			if len(here) > 0 {
				r["assigned"] = maybe("assigned", rapid.SampledFrom(here).Draw(rt, "assigned to"))
			}
			put(r, "label", "label", maybe("label", "Couple"))
			put(r, "email", "email", email())
			rows["clients"] = append(rows["clients"], r)
			rows["grants"] = append(rows["grants"], drawGrants(rt, client, here, put, maybe)...)
		}
	}
	return rows
}

// drawGrants draws grants on one client, for each member a series in which none
// begins before the last one ended. At most one begins at once.
func drawGrants(rt *rapid.T, client string, members []string, put func(row, string, string, any), maybe func(string, any) any) []row {
	var rows []row
	for _, user := range members {
		for _, period := range rapid.SampledFrom([][][2]any{
			{}, {}, {},
			{{nil, nil}},
			{{"2020-01-01T00:00:00Z", nil}},
			{{"2020-01-01T00:00:00Z", "2021-01-01T00:00:00.000001Z"}, {"2021-01-01T01:00:00.000001+01:00", "2022-01-01T00:00:00Z"}},
			{{"2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"}, {nil, "2200-01-01T00:00:00Z"}, {"2200-01-01T00:00:00Z", nil}},
		}).Draw(rt, "periods") {
			r := row{"client": client, "user": user, "not_before": period[0], "expires_at": period[1]}
			put(r, "scope", "scope", maybe("scope", "view"))
			put(r, "reason", "reason", maybe("reason", "Shared care"))
			put(r, "granted_by", "granted_by", maybe("granted_by", "admin-1"))
			rows = append(rows, r)
		}
	}
	return rows
}

// TestBadRowLeavesNothing: whatever row of a random roster is spoilt, nothing
// is imported and the fault names the file and the line.
func TestBadRowLeavesNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	load(t, pool, folder(t, "practices.csv", "id\npractice-0\n"))
	before := written(t, pool)
	spoil := map[string]map[string]any{ // by kind, column: what no row may say
		"practices": {"id": strings.Repeat("x", authz.MaxID+1), "preset": "sead", "overrides": map[string]any{"hide_unasigned": true}},
		"members":   {"user": "a\nb", "name": " ", "roles": []string{"doctor"}, "status": "gone", "owner": "perhaps", "email": "nobody"},
		"clients":   {"practice": "practice-9", "first_name": nil, "assigned": "user-9", "status": "removed", "email": "a@b@c"},
		"grants":    {"client": "client-9", "user": "user-9", "scope": "all", "not_before": "yesterday", "expires_at": "2019-01-01T00:00:00Z"},
	}
	rapid.Check(t, func(rt *rapid.T) {
		rows := drawRoster(rt)
		maps.DeleteFunc(rows, func(_ string, list []row) bool { return len(list) == 0 })
		kind := rapid.SampledFrom(slices.Sorted(maps.Keys(rows))).Draw(rt, "kind")
		line := rapid.IntRange(0, len(rows[kind])-1).Draw(rt, "line")
		column := rapid.SampledFrom(slices.Sorted(maps.Keys(spoil[kind]))).Draw(rt, "column")
		for i, r := range rows[kind] {
			if _, ok := r[column]; !ok {
				r[column] = nil
			}
			if i == line {
				r[column] = spoil[kind][column]
			}
		}
		var content []string
		for k, list := range rows {
			content = append(content, k+".csv", asCSV(t, list))
		}
		rejected := refused(t, pool, folder(t, content...))
		if !slices.ContainsFunc(rejected.Faults, func(f roster.Fault) bool {
			return f.File == kind+".csv" && f.Line == line+2 && f.Column == column && f.Why != ""
		}) {
			rt.Fatalf("%s of row %d of %s is wrong; reported is:\n%v", column, line+1, kind, rejected)
		}
		if diff := cmp.Diff(before, written(t, pool)); diff != "" {
			rt.Fatalf("something was imported:\n%s", diff)
		}
	})
}

// TestTimesAreCutToMicroseconds: what a file says finer than Postgres keeps is
// the same when it is imported again.
func TestTimesAreCutToMicroseconds(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	files := folder(t, "practices.csv", "id\np\n", "members.csv", "practice,user,name\np,u,User\n",
		"clients.csv", "id,practice,first_name,last_name\nc,p,Client,One\n",
		"grants.csv", "client,user,not_before,expires_at\nc,u,2020-01-01T00:00:00.123456789Z,9999-12-31T23:59:59.999999999Z\n")
	load(t, pool, files)
	if report := load(t, pool, files); report.Grants != (roster.Counts{Unchanged: 1}) {
		t.Errorf("imported again: %+v", report.Grants)
	}
	var start, end time.Time
	if err := pool.QueryRow(t.Context(), `SELECT not_before, expires_at FROM grants`).Scan(&start, &end); err != nil {
		t.Fatal(err)
	}
	if start.Nanosecond() != 123_456_000 || !end.Equal(authz.NoEnd) {
		t.Errorf("from %s to %s", start, end)
	}
}
