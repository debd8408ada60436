package roster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/roster"

	"github.com/google/go-cmp/cmp"
)

// TestWhatIsWrongIsSaid: each fault by file, line, column and why, and nothing
// imported.
func TestWhatIsWrongIsSaid(t *testing.T) {
	t.Parallel()
	pool := base(t)
	before := written(t, pool)
	for _, test := range []struct {
		name  string
		files []string // name, content
		want  string
	}{
		{"unknown column", []string{"clients.csv", "id,practice,first_name,last_name,asigned\n"},
			"clients.csv:1: asigned: is no column of clients; there are id, practice, first_name, last_name, label, email, assigned, status"},
		{"missing column", []string{"members.csv", "practice,name\n"}, "members.csv:1: user: this column is missing"},
		{"column twice", []string{"practices.csv", "id,id\n"}, "practices.csv:1: id: stands twice"},
		{"no header", []string{"practices.csv", ""}, "practices.csv:1: is empty; the first line must name the columns: id, name, preset, overrides"},
		{"too few fields", []string{"practices.csv", "id,name\np,P\nq\n"}, "practices.csv:3: must have 2 fields, as the header"},
		{"quote within a field", []string{"practices.csv", "id,name\np,a\"b\nq,\n"},
			`practices.csv:2: has a " within a field; such a field must stand in quotes, with the quote doubled`},
		{"quote that is not closed", []string{"practices.csv", "id,name\np,\"P\nq,Q\n"}, `practices.csv:2: has a quote that is not closed, or goes on after it`},
		{"row without end", []string{"practices.csv", "id,name\np,P\nq,\"" + strings.Repeat("x", 2<<20) + "\n"},
			"practices.csv:3: this row is longer than 1048576 bytes; is a quote never closed?"},
		{"not UTF-8", []string{"practices.csv", "id,name\np,caf\xe9\n"}, "practices.csv:2: name: is not UTF-8"},
		{"line of NDJSON without end", []string{"practices.ndjson", `{"id": "` + strings.Repeat("x", 2<<20)}, "practices.ndjson:1: this row is longer than 1048576 bytes; is a quote never closed?"},
		{"no JSON", []string{"practices.ndjson", "{\"id\": \"p\"}\n\nid=q\n"}, "practices.ndjson:3: must be one JSON object"},
		{"two objects on a line", []string{"practices.ndjson", `{"id": "p"} {"id": "q"}`}, "practices.ndjson:1: must be one JSON object"},
		{"array", []string{"practices.ndjson", `["p"]`}, "practices.ndjson:1: must be one JSON object"},
		{"unknown member", []string{"practices.ndjson", `{"id": "p", "Name": "P"}`}, "practices.ndjson:1: Name: is no column of practices; there are id, name, preset, overrides"},
		{"member twice", []string{"practices.ndjson", `{"id": "p", "id": "q"}`}, "practices.ndjson:1: id: stands twice"},
		{"number for a text", []string{"practices.ndjson", `{"id": 1}`}, "practices.ndjson:1: id: must be a text"},
		{"text for a flag", []string{"members.ndjson", `{"practice": "practice-1", "user": "u", "name": "U", "owner": "true"}`}, "members.ndjson:1: owner: must be true or false"},
		{"text for a list", []string{"members.ndjson", `{"practice": "practice-1", "user": "u", "name": "U", "roles": "biller"}`}, "members.ndjson:1: roles: must be a list of texts"},
		{"half of a surrogate pair", []string{"practices.ndjson", `{"id": "\ud800"}`}, "practices.ndjson:1: id: holds half of a surrogate pair"},
		{"missing member", []string{"members.ndjson", `{"practice": "practice-1", "user": "u"}`}, "members.ndjson:1: name: is missing"},
		{"unknown setting", []string{"practices.ndjson", `{"id": "p", "overrides": {"hide": true}}`}, "practices.ndjson:1: overrides: setting hide: no such setting"},
		{"practice twice", []string{"practices-1.csv", "id\np\n", "practices-2.csv", "id\nq\np\n"}, "practices-2.csv:3: id: this practice stands already in practices-1.csv:2"},
		{"member twice", []string{"members.csv", "practice,user,name\npractice-1,u,U\npractice-1,u,U\n"}, "members.csv:3: user: this member of the practice stands already in members.csv:2"},
		{"no such practice", []string{"members.csv", "practice,user,name\npractice-9,u,U\n"}, "members.csv:2: practice: there is no such practice"},
		{"owner removed", []string{"members.csv", "practice,user,name,status\npractice-1,admin-1,Administrator,removed\n"}, "members.csv:2: status: the owner of a practice cannot be removed"},
		{"removed with full access", []string{"members.csv", "practice,user,name,status,full_clinical_access\npractice-1,practitioner-2,P,removed,true\n"},
			"members.csv:2: full_clinical_access: a removed member cannot have it"},
		{"client twice", []string{"clients.csv", "id,practice,first_name,last_name\nc,practice-1,C,C\nc,practice-1,C,C\n"}, "clients.csv:3: id: this client stands already in clients.csv:2"},
		{"client of no practice", []string{"clients.csv", "id,practice,first_name,last_name\nc,practice-9,C,C\n"}, "clients.csv:2: practice: there is no such practice"},
		{"assigned to nobody we know", []string{"clients.csv", "id,practice,first_name,last_name,assigned\nc,practice-1,C,C,practitioner-9\n"}, "clients.csv:2: assigned: is no member of the practice"},
		{"assigned to a member of another practice", []string{"clients.csv", "id,practice,first_name,last_name,assigned\nc,practice-1,C,C,practitioner-3\n"}, "clients.csv:2: assigned: is no member of the practice"},
		{"assigned to whom the same import removes", []string{"members.csv", "practice,user,name,status\npractice-1,practitioner-1,P,removed\n",
			"clients.csv", "id,practice,first_name,last_name,assigned\nclient-1,practice-1,C,C,practitioner-1\n"}, "clients.csv:2: assigned: is a removed member"},
		{"no e-mail address", []string{"clients.csv", "id,practice,first_name,last_name,email\nc,practice-1,C,C,nobody at example.com\n"}, "clients.csv:2: email: is not an e-mail address"},
		{"e-mail twice, folded", []string{"clients.csv", "id,practice,first_name,last_name,email\nc,practice-1,C,C,A@example.com\nd,practice-1,D,D,a@EXAMPLE.com\n"},
			"clients.csv:3: email: another client of the practice has this e-mail in clients.csv:2"},
		{"e-mail of a client that is there", []string{"clients.csv", "id,practice,first_name,last_name,email\nc,practice-1,C,C,Client-1@example.com\n"},
			"clients.csv:2: email: another client of the practice has this e-mail"},
		{"grant on no client", []string{"grants.csv", "client,user\nclient-9,practitioner-1\n"}, "grants.csv:2: client: there is no such client"},
		{"grant to a member of another practice", []string{"grants.csv", "client,user\nclient-1,practitioner-3\n"}, "grants.csv:2: user: is no member of the client's practice"},
		{"grant that has ended without a beginning", []string{"grants.csv", "client,user,expires_at\nclient-1,practitioner-2,2020-01-01T00:00:00Z\n"},
			"grants.csv:2: expires_at: lies in the past; a grant that has ended must say not_before"},
		{"grant that ends as it begins", []string{"grants.csv", "client,user,not_before,expires_at\nclient-1,practitioner-2,2020-01-01T00:00:00Z,2020-01-01T01:00:00+01:00\n"},
			"grants.csv:2: expires_at: must be later than the beginning"},
		{"no time", []string{"grants.csv", "client,user,not_before\nclient-1,practitioner-2,2020-01-01\n"}, "grants.csv:2: not_before: must be a time such as 2030-01-31T17:00:00Z"},
		{"grants that overlap", []string{"grants.csv", "client,user,not_before,expires_at\nclient-1,practitioner-2,2020-01-01T00:00:00Z,2020-02-01T00:00:00Z\n" +
			"client-1,practitioner-2,2020-01-31T00:00:00Z,2020-02-02T00:00:00Z\n"}, "grants.csv:3: not_before: overlaps the grant of the same user on the same client in grants.csv:2"},
		{"grant that overlaps what is there", []string{"grants.csv", "client,user,not_before,expires_at\nclient-2,practitioner-1,2020-12-31T00:00:00Z,2021-02-01T00:00:00Z\n"},
			"grants.csv:2: not_before: overlaps a grant that this user has on this client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rejected := refused(t, pool, folder(t, test.files...))
			if rejected.Count != 1 || len(rejected.Faults) != 1 || rejected.Faults[0].String() != test.want {
				t.Errorf("got  %v\nwant %s", rejected, test.want)
			}
			if diff := cmp.Diff(before, written(t, pool)); diff != "" {
				t.Errorf("something was imported:\n%s", diff)
			}
		})
	}
}

// TestRule106IdOfAnotherPracticeIsRefused, and the refusal does not say whose
// it is: it is the same whatever practice has it.
func TestRule106IdOfAnotherPracticeIsRefused(t *testing.T) {
	t.Parallel()
	pool := base(t)
	rejected := refused(t, pool, folder(t, "clients.csv", "id,practice,first_name,last_name\nclient-1,practice-2,Client,One\n"))
	if want := "clients.csv:2: id: cannot be used in this practice: ids are unique across practices"; len(rejected.Faults) != 1 || rejected.Faults[0].String() != want {
		t.Errorf("got  %v\nwant %s", rejected, want)
	}
	if strings.Contains(rejected.Error(), "practice-1") {
		t.Errorf("the refusal names the other practice: %v", rejected)
	}
	if got := one(t, pool, `SELECT practice FROM clients WHERE id = 'client-1'`); got != "practice-1" {
		t.Errorf("client-1 is of %s", got)
	}
}

// TestEveryFaultIsCounted, in the order of the files, and the first are listed.
func TestEveryFaultIsCounted(t *testing.T) {
	t.Parallel()
	pool := base(t)
	var clients strings.Builder
	clients.WriteString("id,practice,first_name,last_name,assigned,status\n")
	for i := range 150 {
		fmt.Fprintf(&clients, "c%d,practice-1,C,C,nobody,gone\n", i) // one fault of the row itself, one with the others
	}
	rejected := refused(t, pool, folder(t, "clients.csv", clients.String(), "members.csv", "practice,user,name\npractice-1,u,\n"))
	if rejected.Count != 301 || len(rejected.Faults) != 100 {
		t.Errorf("%d faults are counted, %d listed", rejected.Count, len(rejected.Faults))
	}
	if first := rejected.Faults[0].String(); first != "members.csv:2: name: is missing" {
		t.Errorf("first: %s", first)
	}
	if a, b := rejected.Faults[1], rejected.Faults[2]; a.Line != 2 || b.Line != 2 || a.Column == b.Column {
		t.Errorf("both faults of the first client: %v, %v", a, b)
	}
	if text := rejected.Error(); !strings.HasPrefix(text, "nothing was imported, 301 things are wrong:\n  members.csv:2:") || !strings.HasSuffix(text, "and 201 more") {
		t.Errorf("error: %s", text)
	}
}

// TestFilesSayWhatTheyHold by their names, wherever they come from.
func TestFilesSayWhatTheyHold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"grants.ndjson", "clients_2.csv", "Clients-1.CSV", "practices.jsonl", "README.md"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := roster.Paths(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f.Name))
	}
	if diff := cmp.Diff([]string{"practices.jsonl", "Clients-1.CSV", "clients_2.csv", "grants.ndjson"}, names); diff != "" {
		t.Error(diff)
	}
	if _, err := roster.Paths(filepath.Join(dir, "README.md")); err == nil {
		t.Error("README.md was taken for a roster")
	}
	if _, err := roster.Paths(filepath.Join(dir, "missing.csv")); err == nil {
		t.Error("a missing file was accepted")
	}
	if _, err := roster.Paths(); err == nil {
		t.Error("no file was accepted")
	}
	for _, fsys := range []fstest.MapFS{{}, {"people.csv": &fstest.MapFile{}}} {
		if files, err := roster.Folder(fsys); err == nil {
			t.Errorf("accepted %v", files)
		}
	}
}

// TestActorMustBeNamed: an import without an actor would leave no record of who
// did it.
func TestActorMustBeNamed(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	for _, bad := range []string{"", "a\nb"} {
		if _, err := roster.Load(t.Context(), pool, folder(t, "practices.csv", "id\np\n"), roster.Options{Actor: bad}); err == nil {
			t.Errorf("actor %q was accepted", bad)
		}
	}
	if _, err := roster.Load(t.Context(), pool, nil, roster.Options{Actor: actor}); err == nil {
		t.Error("an import of nothing was accepted")
	}
}
