package control

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Fiber uses the memory of one request for the next. Whatever is kept of a
// request, in a transaction, on record or in an answer, must be its own: 500
// requests of different lengths, many at once over few connections.
func TestInterleavedRequests(t *testing.T) {
	const requests, connections = 500, 8
	d := setup(t)
	d.exec(`INSERT INTO clients (id, practice, first_name, last_name)
		SELECT 'client-' || repeat('x', n % 37) || n, 'practice-1', 'Client', 'Many' FROM generate_series(1000, 1000 + $1::int) n`, requests)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.App.Listener(listener) }()
	t.Cleanup(func() {
		if err := d.App.Shutdown(); err != nil {
			t.Error(err)
		}
		<-served
	})

	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	numbers := make(chan int)
	for range connections {
		wg.Go(func() {
			for n := range numbers {
				if err := d.giveOne(client, "http://"+listener.Addr().String(), n); err != nil {
					t.Errorf("request %d: %v", n, err)
				}
			}
		})
	}
	for n := range requests {
		numbers <- 1000 + n
	}
	close(numbers)
	wg.Wait()

	// Each grant, its change and its decision are of one request.
	matching := d.count(`SELECT count(*) FROM grants g
		JOIN changes c ON c.after ->> 'id' = g.id::text AND c.client = g.client AND c.actor = g.granted_by AND c.target = g.user_id AND c.reason = g.reason
		JOIN decisions x ON x.id = c.decision AND x.client = g.client AND x.subject_id = g.granted_by AND x.request_id = g.reason
		WHERE g.reason = 'request-' || g.client`)
	if matching != requests {
		t.Errorf("%d of %d grants belong together with their change and decision", matching, requests)
	}
}

// giveOne asks for a grant of which every part depends on n.
func (d *desk) giveOne(client *http.Client, base string, n int) error {
	id := fmt.Sprintf("client-%s%d", strings.Repeat("x", n%37), n)
	actor, user := []string{"admin-1", "admin-3"}[n%2], []string{"practitioner-1", "practitioner-2", "practitioner-full"}[n%3]
	r, err := http.NewRequest("POST", base+p1+"/clients/"+id+"/grants", strings.NewReader(fmt.Sprintf(`{"user": %q, "reason": "request-%s"}`, user, id)))
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + staticKey,
		"Chartgate-Actor": actor, "X-Request-ID": "request-" + id} {
		r.Header.Set(name, value)
	}
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	for _, own := range []string{`"user":"` + user + `"`, `"granted_by":"` + actor + `"`, `"reason":"request-` + id + `"`} {
		if !strings.Contains(string(text), own) {
			return fmt.Errorf("%d %s: want %s", response.StatusCode, text, own)
		}
	}
	if at := response.Header.Get("Location"); !strings.Contains(at, "/"+id+"/") || response.Header.Get("X-Request-ID") != "request-"+id {
		return fmt.Errorf("headers of another request: %v", response.Header)
	}
	return nil
}
