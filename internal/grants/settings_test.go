package grants

import (
	"context"
	"reflect"
	"testing"
)

func TestSaveSettings(t *testing.T) {
	b := setup(t)
	first, err := b.Settings(t.Context(), admin, "practice-1")
	if err != nil || first.Preset != "seed" || len(first.Overrides) != 0 {
		t.Fatalf("at first: %+v, %v", first, err)
	}
	b.settings("help-centre", map[string]any{"grant_max_days": int64(30), "on_reassign_previous": map[string]any{"grant_days": int64(14)},
		"grantee_roles": []any{"practitioner", "practitioner"}})
	saved, err := b.Settings(t.Context(), admin, "practice-1")
	if err != nil || saved.Preset != "help-centre" || saved.Effective.Number("grant_max_days") != 30 ||
		saved.Effective.Number("on_reassign_previous") != 14 || saved.Effective.Text("admin_record_access") != "non_clinical" {
		t.Errorf("saved: %+v, %v", saved, err)
	}
	want := map[string]any{"preset": "help-centre", "overrides": map[string]any{"grant_max_days": 30.0,
		"on_reassign_previous": map[string]any{"grant_days": 14.0}, "grantee_roles": []any{"practitioner"}}}
	if c := b.lastChange(); c.Action != "settings.manage" || !reflect.DeepEqual(c.After, want) || c.Before["preset"] != "seed" {
		t.Errorf("record: %+v", c)
	}
	b.unchanged(func() {
		b.settings("help-centre", map[string]any{"grantee_roles": []any{"practitioner"}, "grant_max_days": int64(30),
			"on_reassign_previous": map[string]any{"grant_days": int64(14)}})
		_, err := b.SaveSettings(t.Context(), admin, "practice-1", "seed", nil, func(Settings) bool { return false }, nothing)
		if p := problem(t, err, "changed-meanwhile"); p.Status != 412 {
			t.Errorf("%+v", p)
		}
		_, err = b.SaveSettings(t.Context(), admin, "practice-1", "sead", nil, any1[Settings], nothing)
		problem(t, err, "malformed")
		_, err = b.SaveSettings(t.Context(), admin, "practice-1", "seed", map[string]any{"hide": true}, any1[Settings], nothing)
		problem(t, err, "malformed")
		_, err = b.SaveSettings(t.Context(), user("practitioner-1"), "practice-1", "seed", nil, any1[Settings], nothing)
		problem(t, err, "not-allowed")
		_, err = b.SaveSettings(t.Context(), user("admin-2"), "practice-1", "seed", nil, any1[Settings], nothing)
		problem(t, err, "not-found")
	})
	b.settings("seed", nil)
	if again, err := b.Settings(t.Context(), admin, "practice-1"); err != nil || again.Preset != "seed" || len(again.Overrides) != 0 {
		t.Errorf("set back: %+v, %v", again, err)
	}
}

func TestRule108_110_111_SettingsOfOnePracticeAreItsOwn(t *testing.T) {
	b := setup(t)
	b.exec(`UPDATE members SET roles = '{administrator}' WHERE user_id = 'user-both'`)
	b.settings("seed", map[string]any{"admin_record_access": "list_only"})
	b.opens("user-both", "client-1")
	b.opens("user-both", "client-4", "administrator")
	if n := b.count(`SELECT count(*) FROM practices WHERE id = 'practice-2' AND preset = 'seed' AND overrides = '{}'`); n != 1 {
		t.Error("the other practice's settings were written")
	}
	_, err := b.Settings(t.Context(), admin, "practice-2")
	problem(t, err, "not-found") // rule 110
}

func TestBrokenSettingsAreNoAnswer(t *testing.T) {
	b := setup(t)
	b.exec(`UPDATE practices SET overrides = '{"access_managers": "everybody"}' WHERE id = 'practice-1'`)
	if _, err := b.Settings(t.Context(), admin, "practice-1"); err == nil {
		t.Error("answered on settings that cannot be read")
	}
}

// nothing is said of the effect of a change.
func nothing(context.Context) any { return nil }
