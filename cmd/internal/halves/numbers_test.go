package halves_test

import (
	"strings"
	"testing"
	"time"

	"chartgate/cmd/internal/halves"
)

// A decision shows in the numbers: where its facts came from, and that it is on
// record; nothing is ever lost.
func TestNumbersOfASidecar(t *testing.T) {
	half, err := halves.Sidecar(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, half)
	var said string
	for deadline := time.Now().Add(20 * time.Second); ; {
		mayOpen(t, base)
		if _, said = call(t, "GET", base+"/metrics", ""); !strings.Contains(said, `chartgate_facts_total{layer="memory"} 0`) || time.Now().After(deadline) {
			break
		}
	}
	for _, want := range []string{"chartgate_lease_age_seconds 0", "chartgate_decisions_lost_total 0", "chartgate_spool_records ", "chartgate_lease_live 1", "chartgate_feed_held_back_transactions ",
		`chartgate_decision_part_seconds_count{part="record"} `, `chartgate_refused_busy_total{class="list"} 0`, `chartgate_facts_total{layer="postgres"} `,
		"chartgate_program_on ", "chartgate_program_certified ", `chartgate_facts_seconds_count{layer="redis"} 0`, "chartgate_evaluations_skipped_total 0",
		`chartgate_guarantees_broken_total{guarantee="client_status"} 0`} {
		if !strings.Contains(said, "\n"+want) {
			t.Errorf("no %q in the numbers", want)
		}
	}
	for _, bad := range []string{`chartgate_facts_seconds_count{layer="postgres"} 0`, "chartgate_decisions_recorded_total 0\n", `chartgate_facts_total{layer="memory"} 0`} {
		if strings.Contains(said, bad) {
			t.Errorf("after decisions the numbers still say %q", bad)
		}
	}
}
