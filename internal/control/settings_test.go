package control

import (
	"reflect"
	"testing"
)

func TestSettingsOverHTTP(t *testing.T) {
	d := setup(t)
	const path = p1 + "/settings"
	first := d.ok(d.call("GET", path, ""), 200)
	tag := first.Header.Get("ETag")
	settings, _ := first.body["settings"].(map[string]any)
	if first.body["preset"] != "seed" || !reflect.DeepEqual(settings["admin_record_access"], map[string]any{"value": "full", "source": "preset"}) ||
		!reflect.DeepEqual(settings["grant_max_days"], map[string]any{"value": nil, "source": "preset"}) {
		t.Errorf("at first: %s", first.text)
	}
	if a := d.call("GET", path, "", "If-None-Match", tag); a.StatusCode != 304 {
		t.Errorf("unchanged: %d", a.StatusCode)
	}
	const change = `{"preset": "help-centre", "overrides": {"grant_max_days": 30, "on_reassign_previous": {"grant_days": 14}, "admin_record_access": "list_only"}}`
	d.refused(d.call("PUT", path, change), 428, "if-match-missing")
	d.refused(d.call("PUT", path, change, "If-Match", `"other"`), 412, "changed-meanwhile")
	d.refused(d.as("practitioner-1").call("POST", path+"/difference", change), 403, "not-allowed")
	d.refused(d.as("admin-2").call("POST", path+"/difference", change), 404, "not-found")
	d.refused(d.call("POST", path+"/difference", `{"preset": "seed", "overrides": {"nothing": 1}}`), 400, "malformed")
	shown := d.ok(d.call("POST", path+"/difference", change), 200)
	gone, _ := shown.body["blast_radius"].(map[string]any)["lost"].(map[string]any)
	if len(shown.body["settings"].([]any)) != 3 || len(shown.body["cells"].([]any)) == 0 || gone["pair_count"].(float64) == 0 {
		t.Errorf("the difference: %s", shown.text)
	}
	if again := d.call("GET", path, "", "If-None-Match", tag); again.StatusCode != 304 {
		t.Error("to ask for the difference changes something")
	}
	saved := d.ok(d.call("PUT", path, change, "If-Match", tag), 200)
	if n := d.count(`SELECT count(*) FROM changes WHERE action = 'settings.manage' AND jsonb_array_length(after->'effect'->'settings') = 3 AND after->'effect'->'changes' @> '[{"change": "lost"}]'`); n != 1 {
		t.Error("the change is on record without its effect")
	}
	settings, _ = saved.body["settings"].(map[string]any)
	if saved.body["preset"] != "help-centre" || !reflect.DeepEqual(settings["grant_max_days"], map[string]any{"value": 30.0, "source": "override"}) ||
		!reflect.DeepEqual(settings["admin_record_access"], map[string]any{"value": "list_only", "source": "override"}) {
		t.Errorf("saved: %s", saved.text)
	}
	if again := d.ok(d.call("GET", path, ""), 200); string(again.text) != string(saved.text) || again.Header.Get("ETag") != saved.Header.Get("ETag") {
		t.Error("GET shows something else than PUT answered")
	}
	d.refused(d.call("PUT", path, change, "If-Match", tag), 412, "changed-meanwhile")
	if d.settled.Load() != 1 {
		t.Errorf("waited %d times, want once", d.settled.Load())
	}

	// Rule 24: it holds at once; rule 108: for this practice alone.
	bases := d.ok(d.call("GET", access1, ""), 200).member("admin-1")["bases"]
	if !reflect.DeepEqual(bases, []any{}) {
		t.Errorf("administrator under list_only: %v", bases)
	}
	other := d.ok(d.as("admin-2").call("GET", "/api/v1/practices/practice-2/settings", ""), 200)
	if other.body["preset"] != "seed" {
		t.Errorf("the other practice: %s", other.text)
	}
	// Rule 36, through the door.
	d.refused(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2"}`), 422, "end-missing")
	d.refused(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2", "expires_at": "2199-01-01T00:00:00Z"}`), 422, "end-refused")
}
