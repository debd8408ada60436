package soak

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	kills  = 4
	askers = 16
	least  = 100 // answers before each kill
)

// A sidecar that is killed under load loses no decision that it answered
// (promise P3): each is in the database once the next one has the spool.
func TestAKillLosesNoAnsweredDecision(t *testing.T) {
	f := start(t, 1)
	f.populate(t)
	var (
		answered []string // ids of decisions whose whole answer arrived
		mu       sync.Mutex
		cut      int64
	)
	for range kills {
		s := f.sidecars[0]
		var stop atomic.Bool
		var broken atomic.Int64
		var group sync.WaitGroup
		for i := range askers {
			group.Go(func() {
				for n := 0; !stop.Load(); n++ {
					id := askOnce(s.base, i, n)
					if id == "" {
						broken.Add(1)
						continue
					}
					mu.Lock()
					answered = append(answered, id)
					mu.Unlock()
				}
			})
		}
		have := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(answered)
		}
		for enough := have() + least + rand.IntN(least); have() < enough && t.Context().Err() == nil; {
			time.Sleep(time.Millisecond)
		}
		s.kill() // while all of them ask
		for broken.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		stop.Store(true)
		group.Wait()
		cut += broken.Load()
		s.process = f.run(t, "sidecar", f.url(f.dir+"/s0"), "unix://"+f.dir+"/s0/redis.sock")
	}
	// What the last one found in the spool goes to the database in its own time.
	var missing []string
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		rows, err := f.owner.Query(t.Context(), `SELECT id::text FROM unnest($1::text[]) id WHERE NOT EXISTS (SELECT FROM decisions d WHERE d.id = id::uuid)`, answered)
		if err != nil {
			t.Fatal(err)
		}
		missing = missing[:0]
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			missing = append(missing, id)
		}
		if rows.Err() != nil {
			t.Fatal(rows.Err())
		}
		if len(missing) == 0 || time.Now().After(deadline) {
			break
		}
	}
	var twice int
	if err := f.owner.QueryRow(t.Context(), `SELECT count(*) FROM (SELECT FROM decisions WHERE id = ANY ($1::text[]::uuid[]) GROUP BY id HAVING count(*) > 1) d`, answered).Scan(&twice); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills under load: %d decisions answered, %d calls cut off, %d missing, %d twice", kills, len(answered), cut, len(missing), twice)
	if len(missing) > 0 || twice > 0 {
		t.Errorf("of %d answered decisions %d are not on record, %d are there twice", len(answered), len(missing), twice)
	}
}

// askOnce returns the id of the decision, "" where no whole answer came.
func askOnce(base string, i, n int) string {
	user, chart := "practitioner-"+number(i+n), "client-"+number(i)
	r, err := http.NewRequest(http.MethodPost, base+"/access/v1/evaluation", strings.NewReader(
		`{"subject":{"type":"user","id":"`+user+`"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"`+chart+`"}}`))
	if err != nil {
		return ""
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"decision"`)) {
		return ""
	}
	return answer.Header.Get("Chartgate-Decision-Id")
}

// number names one of those whom populate made.
func number(n int) string { return string('1' + rune(n%9)) }
