package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/postgres/pgtest"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// TestSettingsDifferenceIsBruteForce compares what a change of settings is said
// to change with single checks: of everybody in random practices, and of random
// questions for the actions that are said to stay as they are.
func TestSettingsDifferenceIsBruteForce(t *testing.T) {
	pool := pgtest.Pool(t)
	rng := rand.New(rand.NewPCG(5, 6))
	e := variant(t, true)
	questions := newHistory(t, e, 12)
	for i, change := range []struct {
		preset    string
		overrides map[string]any
	}{
		{"help-centre", nil},
		{"seed", map[string]any{"hide_unassigned": false, "scheduler_creates_clients": true}},
		{"seed", map[string]any{"access_managers": []any{"assigned_practitioner"}, "biller_sees_diagnoses": false}},
		{"seed", map[string]any{"admin_record_access": "list_only", "practitioner_creates_clients": false}},
		{"seed", map[string]any{"grant_max_days": int64(90)}}, // no rule reads it
	} {
		practice := fmt.Sprintf("practice-%d", i)
		populate(t, pool, rng, practice)
		after, err := authz.NewSettings(change.preset, change.overrides)
		if err != nil {
			t.Fatal(err)
		}
		snapshot(t, pool, func(tx pgx.Tx) error {
			preset, overrides, err := PracticeSettings(t.Context(), tx, practice)
			if err != nil {
				return err
			}
			before, err := authz.NewSettings(preset, overrides)
			if err != nil {
				return err
			}
			report, err := SettingsDifference(t.Context(), tx, e, practice, change.preset, change.overrides)
			if err != nil {
				return err
			}
			actions := map[string]string{}
			for name, a := range policyOf(t, e).Actions {
				if on := a.On; !strings.HasPrefix(name, "portal.") && on != authz.ResourceFormTemplate && on != authz.ResourceMember {
					actions[name] = on
				}
			}
			want := map[string]bool{}
			for key := range everyPair(t, tx, e, e, [2]*authz.Settings{before, after}, actions) {
				if strings.HasPrefix(key, practice+" ") {
					want[key] = true
				}
			}
			side := sideOf(t, e)
			changed := side
			changed.Settings = after
			got := reported(t, tx, side, changed, BlastOptions{Practices: []string{practice}, Actions: report.Blast.Actions, Pairs: 2})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: (-single checks +difference)\n%s", practice, diff)
			}
			for range 3000 {
				r, f := questions.question()
				was, err := under(t.Context(), e, r, f, before)
				if err != nil {
					return err
				}
				is, err := under(t.Context(), e, r, f, after)
				if err != nil {
					return err
				}
				if was.key() != is.key() && !slices.Contains(report.Actions, r.Action) {
					t.Errorf("%s changes and is not named in %v", r.Action, report.Actions)
				}
			}
			if same := digest(before) == digest(after); same != (len(report.Settings) == 0) {
				t.Errorf("%s: the settings are the same: %v; %v change", practice, same, report.Settings)
			}
			return nil
		})
	}
}

// TestSettingsDifferenceShowsTheCells looks at one well-known change: the
// administrator stops reading what is clinical.
func TestSettingsDifferenceShowsTheCells(t *testing.T) {
	pool := pgtest.Pool(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO practices (id) VALUES ('practice-1')`); err != nil {
		t.Fatal(err)
	}
	snapshot(t, pool, func(tx pgx.Tx) error {
		report, err := SettingsDifference(t.Context(), tx, variant(t, true), "practice-1", "help-centre", nil)
		if err != nil {
			return err
		}
		said, _ := json.Marshal(report.Settings)
		if string(said) != `[{"name":"admin_record_access","before":"full","after":"non_clinical"}]` {
			t.Errorf("settings %s", said)
		}
		if !slices.Equal(report.Actions, []string{"diagnosis.read", "document.read", "note.read"}) {
			t.Errorf("actions %v", report.Actions)
		}
		notes := 0
		for _, c := range report.Cells {
			if c.Who != "administrator" || c.Before.Code != "administrator" || c.After.Code != "no_basis" {
				t.Errorf("%+v", c)
			}
			if c.Action == "note.read" {
				notes += len(c.Notes)
			}
		}
		if len(report.Cells) != 6 || notes == 0 {
			t.Errorf("%d cells, of %d kinds of notes: %+v", len(report.Cells), notes, report.Cells)
		}
		if _, err := SettingsDifference(t.Context(), tx, variant(t, true), "practice-9", "seed", nil); !errors.Is(err, authz.ErrNotFound) {
			t.Errorf("no such practice: %v", err)
		}
		if _, err := SettingsDifference(t.Context(), tx, variant(t, true), "practice-1", "sead", nil); !errors.Is(err, authz.ErrMalformed) {
			t.Errorf("no such preset: %v", err)
		}
		return nil
	})
}
