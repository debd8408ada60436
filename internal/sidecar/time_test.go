package sidecar

import (
	"testing"

	"chartgate/internal/feed"
)

// DOMAIN rule 47: the caller's clock is ignored, on every route.
func TestRule47TheCallersClockIsIgnored(t *testing.T) {
	r := onPostgres(t)
	if _, err := r.owner.Exec(t.Context(), `DELETE FROM grants; INSERT INTO grants (practice, client, user_id, not_before, expires_at, granted_by)
		VALUES ('practice-1', 'client-1', 'practitioner-2', '2020-01-01Z', '2021-01-01Z', 'admin-1')`); err != nil {
		t.Fatal(err)
	}
	for _, context := range []string{`{}`, `{"now":"2020-06-01T00:00:00.000000Z"}`, `{"now":"2020-06-01T00:00:00.000000Z","latest":"2020-06-01T00:00:00.000000Z"}`} {
		question := `{"subject":{"type":"user","id":"practitioner-2"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"client-1"},"context":` + context + `}`
		if got := r.asCode(t, question); got != "deny no_basis" {
			t.Errorf("context %s: %s", context, got)
		}
		if result := r.do(t, "POST", "/v1/data/authz/allow", `{"input":`+question+`}`).object(t)["result"]; result != false {
			t.Errorf("OPA, context %s: %v", context, result)
		}
	}
	if n := r.count(t, `facts->'context'->>'now' LIKE '2020%' OR facts->'context' ? 'latest' AND facts->'context'->>'latest' LIKE '2020%'`); n != 0 {
		t.Errorf("%d decisions were recorded with the caller's clock", n)
	}
}

// DOMAIN rule 66: a committed revocation holds for every decision after it,
// whatever was cached. What a writer waits for is feed.AwaitTaken; here the
// sidecar hears of the change as its own poll would let it.
func TestRule66ARevocationHoldsWhateverWasCached(t *testing.T) {
	r := onPostgres(t)
	follower := r.source.Follower()
	if err := follower.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	question := questionText("practitioner-2", "chart.open", "client-1")
	for range 3 {
		if got := r.asCode(t, question); got != "allow client_grant" {
			t.Fatalf("before: %s", got)
		}
	}
	if r.source.Counts().Memory.Load() == 0 {
		t.Fatal("nothing was remembered, so nothing is shown")
	}
	for _, take := range []struct{ sql, undo string }{
		{`DELETE FROM grants`, `INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-1', 'practitioner-2', 'admin-1')`},
		{`UPDATE members SET roles = '{scheduler}' WHERE user_id = 'practitioner-2'`, `UPDATE members SET roles = '{practitioner}' WHERE user_id = 'practitioner-2'`},
		{`UPDATE members SET status = 'removed' WHERE user_id = 'practitioner-2'`, ``},
	} {
		for _, sql := range []string{take.sql, take.undo} {
			if sql == "" {
				continue
			}
			if _, err := r.owner.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
			if err := feed.AwaitTaken(t.Context(), feed.BootTime); err != nil {
				t.Fatal(err)
			}
			want := "deny no_basis"
			if sql == take.undo {
				want = "allow client_grant"
			}
			if got := r.asCode(t, question); got != want {
				t.Errorf("after %s: %s, want %s", sql, got, want)
			}
		}
	}
}
