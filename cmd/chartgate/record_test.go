package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"chartgate/internal/embedded"
)

// A record that a run wrote is whole; an entry that somebody alters in the
// database is found.
func TestRecordVerify(t *testing.T) {
	t.Parallel()
	if !private() {
		return // on a server of one's own the record is verified in internal/record
	}
	state := stateDir(t)
	r := start(t, state, nil)
	r.mayOpen("practitioner-1", "client-1")
	r.mayOpen("practitioner-1", "client-2")
	if err := r.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	anchors := filepath.Join(filepath.Dir(state), "anchors.json")
	if said := output(t, nil, "record", "verify", "--state-dir", state, "--write-anchors", anchors); !strings.Contains(said, "0 findings") {
		t.Errorf("a record that nobody touched: %s", said)
	}

	if said := output(t, nil, "record", "export", "decisions", "--state-dir", state, "--actor", "admin-1", "--client", "client-2"); strings.Count(said, "\n") != 1 || !strings.Contains(said, `"code":"no_basis"`) {
		t.Errorf("exported decisions: %s", said)
	}
	if said := output(t, nil, "record", "export", "changes", "--state-dir", state, "--actor", "admin-1"); !strings.Contains(said, `"action":"record.export"`) {
		t.Errorf("exported changes: %s", said)
	}

	hold := strings.TrimSpace(output(t, nil, "record", "hold", "place", "--state-dir", state, "--practice", "practice-1", "--client", "client-1", "--actor", "admin-1", "--reason", "court order"))
	if said := output(t, nil, "record", "hold", "list", "--state-dir", state); !strings.Contains(said, hold) || !strings.Contains(said, "court order") {
		t.Errorf("legal holds: %s", said)
	}
	output(t, nil, "record", "hold", "release", hold, "--state-dir", state, "--actor", "admin-1", "--reason", "it is over")
	if said := refused(t, nil, "record", "hold", "release", hold, "--state-dir", state, "--actor", "admin-1", "--reason", "twice"); !strings.Contains(said, "not") {
		t.Errorf("released twice: %s", said)
	}
	month := time.Now().UTC().Format("2006-01")
	if said := refused(t, nil, "record", "purge", month, "--state-dir", state); !strings.Contains(said, "six years") {
		t.Errorf("purge of this month: %s", said)
	}

	s, err := embedded.StartPostgres(t.Context(), embedded.PostgresOptions{Dir: filepath.Join(state, "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	if tag, err := conn.Exec(t.Context(), `UPDATE decisions SET body = set_byte(body, 60, get_byte(body, 60) # 1) WHERE subject_id = 'practitioner-1'`); err != nil || tag.RowsAffected() == 0 {
		t.Fatalf("%v, %v", tag, err)
	}
	conn.Close(t.Context())
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if said := refused(t, nil, "record", "verify", "--state-dir", state, "--anchors", anchors); !strings.Contains(said, "altered") {
		t.Errorf("an altered entry: %s", said)
	}
}
