package halves_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"chartgate/cmd/internal/halves"
	"chartgate/internal/postgres/pgtest"
)

// A sidecar follows what is activated: with the policy that is built in, where
// it is that one, and with no answer at all where nobody can give it the
// release. It says so to whoever asks whether it is ready, and to control.
func TestASidecarFollowsTheActivation(t *testing.T) {
	reported := make(chan string, 100)
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer key-of-control" && r.Method == http.MethodPut {
			select {
			case reported <- r.URL.Path:
			default:
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	defer control.Close()
	c := config(t)
	c.ControlURL, c.ControlKey, c.PolicyDir = control.URL, "key-of-control", t.TempDir()
	owner := pgtest.PoolAs(t, c.DatabaseURL, "")
	activate := func(serial int, release, content string) {
		t.Helper()
		_, err := owner.Exec(t.Context(), `INSERT INTO releases (id, state, title, author, source, content) VALUES ($1, 'draft', 'T', 'officer-1', '', $2)`, release, content)
		if err == nil {
			_, err = owner.Exec(t.Context(), `INSERT INTO activation (serial, release, content, revision) VALUES ($1, $2, $3, $1)
				ON CONFLICT (one) DO UPDATE SET (serial, release, content, revision) = ROW ($1, $2, $3, $1)`, serial, release, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	activate(1, "shipped", c.Engine.Revision())
	half, err := halves.Sidecar(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	base := serve(t, half)
	if status, answer := becomesReady(t, base); status != http.StatusOK || !strings.Contains(answer, "release shipped, "+c.Engine.Revision()+", revision 1") {
		t.Fatalf("%d %s", status, answer)
	}
	if mayOpen(t, base) {
		t.Error("nobody gave access")
	}
	if path := <-reported; !strings.HasPrefix(path, "/api/v1/policy/sidecars/") {
		t.Errorf("reported to %s", path)
	}

	activate(2, "lost", "sha256:00")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if status, answer := call(t, http.MethodGet, base+"/readyz", ""); status == http.StatusServiceUnavailable && strings.Contains(answer, "release lost") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("with a release that nobody has: %d %s", status, answer)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		status, answer := call(t, http.MethodPost, base+"/access/v1/evaluation", question)
		if status == http.StatusServiceUnavailable && strings.Contains(answer, "release lost") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("it answers %d %s", status, answer)
		}
	}
	if status, answer := call(t, http.MethodGet, base+"/v1/data/tables/roles", ""); status != http.StatusInternalServerError {
		t.Errorf("its tables are those of the release before: %d %s", status, answer)
	}
	if _, numbers := call(t, http.MethodGet, base+"/metrics", ""); !strings.Contains(numbers, "chartgate_release_serial 1") {
		t.Error("the numbers do not say which activation holds")
	}

	if status, answer := call(t, http.MethodPost, base+"/access/v1/search/action", `{"subject":{"type":"user","id":"practitioner-1"},"resource":{"type":"client","id":"client-1"}}`); status != http.StatusServiceUnavailable {
		t.Errorf("it searches by the release before: %d %s", status, answer)
	}

	activate(3, "shipped-again", c.Engine.Revision())
	if status, answer := becomesReady(t, base); status != http.StatusOK || !strings.Contains(answer, "release shipped-again") {
		t.Fatalf("%d %s", status, answer)
	}
	if mayOpen(t, base) {
		t.Error("nobody gave access")
	}
}

// Control makes a list as of a past moment by the policy of then, or not at all:
// here the record says that another one decided, which came with another version
// of the program.
func TestControlAsksForThePolicyOfThen(t *testing.T) {
	c := config(t)
	half, err := halves.Control(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	list := serve(t, half) + "/api/v1/practices/practice-1/members/practitioner-1/clients?action=chart.open"
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if status, answer := call(t, http.MethodGet, list, ""); status == http.StatusOK {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d %s", status, answer)
		}
	}
	const then = "&as_of=2021-02-01T00:00:00Z"
	if status, answer := call(t, http.MethodGet, list+then, ""); status != http.StatusOK || answer != `{"clients":[]}` {
		t.Errorf("before the practice was there: %d %s", status, answer)
	}
	_, err = pgtest.PoolAs(t, c.DatabaseURL, "").Exec(t.Context(), `INSERT INTO decisions (id, at, subject_type, subject_id, action, resource_type, resource_id, allow, code, bases, release, body)
		SELECT gen_random_uuid(), at, 'user', 'practitioner-1', 'chart.open', 'client', 'client-1', true, 'assigned', '{assigned}', 'sha256:older', '' FROM unnest('{2021-01-01Z,2021-03-01Z}'::timestamptz[]) at`)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := call(t, http.MethodGet, list+then, ""); status != http.StatusServiceUnavailable || !strings.Contains(answer, "sha256:older, came with another version of the program") {
		t.Errorf("%d %s", status, answer)
	}
}
