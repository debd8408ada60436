package authz

import (
	"encoding/json"
	"sort"
	"testing"
)

func TestCatalogueIsSortedAndComplete(t *testing.T) {
	if !sort.SliceIsSorted(Catalogue, func(i, j int) bool { return Catalogue[i].Name < Catalogue[j].Name }) {
		t.Error("Catalogue is searched by name: keep it sorted")
	}
	for preset, differences := range Presets {
		if _, err := NewSettings(preset, differences); err != nil {
			t.Errorf("preset %s: %v", preset, err)
		}
	}
}

func TestSettingsReadBackWhatTheyShow(t *testing.T) {
	overrides := map[string]any{}
	if err := json.Unmarshal([]byte(`{"on_reassign_previous": {"grant_days": 14}, "grant_max_days": 90,
		"access_managers": ["assigned_practitioner", "administrator"], "biller_sees_diagnoses": false}`), &overrides); err != nil {
		t.Fatal(err)
	}
	s, err := NewSettings("help-centre", overrides)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]any{}
	for _, d := range Catalogue {
		shown[d.Name] = s.Show(d)
	}
	again, err := NewSettings("seed", shown)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(s.Document())
	b, _ := json.Marshal(again.Document())
	if string(a) != string(b) {
		t.Errorf("shown and read again:\n%s\n%s", a, b)
	}
	if s.Number("on_reassign_previous") != 14 || s.Text("admin_record_access") != "non_clinical" || s.On("biller_sees_diagnoses") {
		t.Errorf("values: %s", a)
	}
}

func TestSettingsRefuseWhatTheyDoNotKnow(t *testing.T) {
	for _, bad := range []string{
		`{"admin_record_acess": "full"}`, `{"admin_record_access": "Full"}`, `{"admin_record_access": null}`,
		`{"biller_sees_diagnoses": "yes"}`, `{"grant_max_days": 0}`, `{"grant_max_days": 1.5}`, `{"grant_max_days": -1}`,
		`{"on_reassign_previous": {"grant_days": 0}}`, `{"on_reassign_previous": {"days": 3}}`, `{"on_reassign_previous": {"grant_days": 3, "x": 1}}`,
		`{"access_managers": ["scheduler"]}`, `{"access_managers": "administrator"}`,
	} {
		overrides := map[string]any{}
		if err := json.Unmarshal([]byte(bad), &overrides); err != nil {
			t.Fatal(err)
		}
		if _, err := NewSettings("seed", overrides); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
	if _, err := NewSettings("sead", nil); err == nil {
		t.Error("accepted an unknown preset")
	}
}
