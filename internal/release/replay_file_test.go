package release

import (
	"flag"
	"os"
	"testing"

	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
)

// recordedFile is a thousand decisions of the shipped policy on made-up facts,
// for trying a replay without a database.
const recordedFile = "../../testdata/recorded/decisions.seg"

var writeRecorded = flag.Bool("write-recorded", false, "write testdata/recorded anew")

// TestTheRecordedDecisionsHold replays the file that ships: the shipped policy
// still gives every one of its answers. Where it is meant not to, run this test
// with -write-recorded.
func TestTheRecordedDecisionsHold(t *testing.T) {
	if *writeRecorded {
		s := newHistory(t, variant(t, false), 9).keep(t, 1000)
		out, err := os.Create(recordedFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := pgx.BeginFunc(t.Context(), s.control, func(tx pgx.Tx) error {
			_, err := record.ExportBinary(t.Context(), tx, replayer, record.Query{}, out)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file, err := record.OpenFile(recordedFile, record.Query{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	report := replayed(t, file, variant(t, true), ReplayOptions{})
	for _, g := range report.Groups {
		t.Errorf("%s: %s, %v was %v: %d decisions, such as %v", g.Change, g.Action, g.After, g.Before, g.Decisions, g.Examples)
	}
	if report.Read != 1000 || report.Replayed < 950 {
		t.Errorf("%d decisions, %d replayed", report.Read, report.Replayed)
	}
}
