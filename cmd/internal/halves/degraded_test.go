package halves_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/postgres/pgtest"
)

// decided asks question of a sidecar, and returns the answer's body and headers.
func decided(t *testing.T, base, path, body string) (string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", response.StatusCode, answer, err)
	}
	return string(answer), response.Header
}

// readiness waits until a half is ready, or is not, and returns which checks fail.
func readiness(t *testing.T, base string, want bool) map[string]string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, body := call(t, http.MethodGet, base+"/readyz", "")
		var answer struct {
			Ready  bool
			Checks map[string]struct {
				OK     bool
				Reason string
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Ready != (status == http.StatusOK) {
			t.Fatalf("%d %s", status, body)
		}
		if answer.Ready == want {
			fails := map[string]string{}
			for name, check := range answer.Checks {
				if !check.OK {
					fails[name] = check.Reason
				}
			}
			return fails
		}
		if time.Now().After(deadline) {
			t.Fatalf("ready is not %v: %s", want, body)
		}
	}
}

// A sidecar whose lease ends, here since somebody took a trigger away (schedule
// 10), says so where it is asked whether it is ready and on every answer, and
// answers by Postgres what is true: a revoke by raw SQL at once.
func TestWithoutALeaseAnswersAreRightAndSaySo(t *testing.T) {
	c := config(t)
	owner := pgtest.PoolAs(t, c.DatabaseURL, "")
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`DROP EVENT TRIGGER chartgate_schema_changed`) // only a superuser can make it, so that it may not be there
	half, err := halves.Sidecar(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, half)
	readiness(t, base, true)
	exec(`INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('practice-1', 'client-2', 'practitioner-1', 'admin-1')`)
	for deadline := time.Now().Add(20 * time.Second); !mayOpen(t, base); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a grant by raw SQL was not heard of")
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // a busy machine may miss a lease
		_, h := decided(t, base, "/access/v1/evaluation", question)
		if h.Get("Chartgate-Degraded") == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("degraded under a lease: %q", h.Get("Chartgate-Degraded"))
		}
	}

	exec(`ALTER TABLE grants DISABLE TRIGGER fed_delete`)
	if fails := readiness(t, base, false); fails["lease"] == "" {
		t.Errorf("the checks that fail: %v, not the lease's", fails)
	}
	exec(`DELETE FROM grants WHERE client = 'client-2'`) // which writes no feed row
	batch := `{"evaluations":[` + question + `]}`
	for path, body := range map[string]string{"/access/v1/evaluation": question, "/access/v1/evaluations": batch, "/v1/data/authz/allow": `{"input":` + question + `}`} {
		answer, h := decided(t, base, path, body)
		if strings.Contains(answer, "true") {
			t.Errorf("%s: %s, after it was revoked", path, answer)
		}
		if h.Get("Chartgate-Degraded") != "no-lease" {
			t.Errorf("%s: Chartgate-Degraded is %q", path, h.Get("Chartgate-Degraded"))
		}
	}

	exec(`ALTER TABLE grants ENABLE ALWAYS TRIGGER fed_delete`)
	readiness(t, base, true)
	if mayOpen(t, base) {
		t.Error("what was remembered from before came back")
	}
}
