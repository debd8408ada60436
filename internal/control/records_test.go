package control

import (
	"testing"

	"chartgate/internal/web"
)

// Rules 110, 126 and 129: who may read the record of a practice, what stands in
// it, and that each read stands in it too.
func TestRule110_126_129_TheRecordCanBeRead(t *testing.T) {
	d := setup(t)
	d.ok(d.call("POST", p1+"/clients/client-1/grants", `{"user": "practitioner-2", "reason": "coverage"}`), 201)
	d.refused(d.as("practitioner-2").call("GET", p1+"/clients/client-1/access", ""), 403, "not-allowed")

	const decisions, changes = "/api/v1/records/decisions?practice=practice-1", "/api/v1/records/changes?practice=practice-1"
	found := d.ok(d.call("GET", decisions+"&client=client-1&action=access.manage&code=administrator", ""), 200).body["records"].([]any)
	if len(found) != 1 {
		t.Fatalf("%d decisions: %v", len(found), found)
	}
	if entry := found[0].(map[string]any); entry["decision"] != true || entry["subject"].(map[string]any)["id"] != "admin-1" || entry["facts"] == nil {
		t.Errorf("%v", entry)
	}
	written := d.ok(d.call("GET", changes+"&client=client-1", ""), 200).body["records"].([]any)
	if len(written) == 0 || written[len(written)-1].(map[string]any)["reason"] != "coverage" {
		t.Errorf("%v", written)
	}
	reads := d.ok(d.call("GET", changes+"&action=record.read", ""), 200).body["records"].([]any)
	if len(reads) < 2 {
		t.Errorf("%d reads on record: %v", len(reads), reads)
	}

	// Pages, each once, and a cursor that belongs to its list.
	seen := map[any]bool{}
	next := ""
	for range 50 {
		url := decisions + "&limit=1"
		if next != "" {
			url += "&cursor=" + next
		}
		a := d.ok(d.call("GET", url+"&to=2100-01-01T00:00:00Z", ""), 200)
		for _, r := range a.body["records"].([]any) {
			id := r.(map[string]any)["id"]
			if seen[id] {
				t.Fatalf("%v came twice", id)
			}
			seen[id] = true
		}
		more, _ := a.body["next"].(string)
		if next = more; next == "" {
			break
		}
		if len(seen) == 2 {
			d.refused(d.call("GET", decisions+"&client=client-1&limit=1&cursor="+next, ""), 400, "bad-cursor")
			d.refused(d.call("GET", decisions+"&limit=1&cursor=A"+next, ""), 400, "bad-cursor")
		}
		if len(seen) > 5 {
			break // each page is a decision more
		}
	}
	if len(seen) < 3 {
		t.Errorf("%d decisions in pages", len(seen))
	}

	d.refused(d.as("practitioner-2").call("GET", decisions, ""), 403, "not-allowed")
	d.refused(d.as("admin-2").call("GET", decisions, ""), 404, "not-found")
	d.refused(d.call("GET", "/api/v1/records/decisions?practice=practice-9", ""), 404, "not-found")
	d.refused(d.call("GET", decisions+"&limit=0", ""), 400, "malformed")
	d.refused(d.call("GET", decisions+"&from=yesterday", ""), 400, "malformed")
	d.refused(d.call("GET", changes+"&code=assigned", ""), 400, "malformed")
	bound := &desk{Server: d.Server, t: t, db: d.db, actor: "admin-1",
		key: d.makeKey(web.NewKey{Scopes: []string{"records"}, Practices: []string{"practice-1"}})}
	d.ok(bound.call("GET", decisions, ""), 200)
	d.refused(bound.call("GET", "/api/v1/records/decisions", ""), 400, "malformed")
	d.refused(bound.as("admin-2").call("GET", "/api/v1/records/decisions?practice=practice-2", ""), 404, "not-found")
	d.ok(d.call("GET", "/api/v1/records/decisions", ""), 200)
}
