package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// In CI; CHARTGATE_SOAK_REVOKES and CHARTGATE_SOAK_REVOKERS say otherwise.
const (
	shortRevokes = 1000 // acknowledged revokes that a run must reach
	fewRevokers  = 100  // at once, each on a grant of its own
)

// wanted is the number in an environment variable.
func wanted(t *testing.T, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// No stale allow after an acknowledged revoke, whatever happens to Redis, the
// network, Postgres or the processes (promise P2).
func TestARevokeIsARevoke(t *testing.T) {
	f := start(t, 3)
	total := f.soak(t, wanted(t, "CHARTGATE_SOAK_REVOKES", shortRevokes), 4*time.Hour)
	total.log(t)
	if report := total.report.Load(); report != nil {
		t.Errorf("%d stale allows, the first: %s", total.stale.Load(), *report)
	}
	// An idle run proves nothing.
	if n := total.revokes.Load(); total.before.Load() < n || total.after.Load() < 3*n {
		t.Errorf("only %d allows before and %d answers after %d revokes", total.before.Load(), total.after.Load(), n)
	}
}

// The checker itself: a build whose lease never ends must be caught.
func TestABrokenLeaseIsCaught(t *testing.T) {
	f := start(t, 3, "-tags", "brokenlease")
	total := f.soak(t, 4*shortRevokes, 2*time.Minute)
	total.log(t)
	if total.stale.Load() == 0 {
		t.Error("sidecars whose lease never ends answered, and no stale allow was found: the checker is blind")
	}
}

func (t *tally) log(test *testing.T) {
	test.Logf("%d revokes acknowledged (%d unclear), slowest %v; %d allows seen before, %d answers after, of which %d stale; %d denials, %d undecided",
		t.revokes.Load(), t.unclear.Load(), time.Duration(t.slowest.Load()).Round(time.Millisecond),
		t.before.Load(), t.after.Load(), t.stale.Load(), t.denied.Load(), t.undecided.Load())
}

// soak gives and revokes until want revokes are acknowledged, a stale allow is
// found, or most has passed, while readers ask everywhere and faults come and go.
func (f *fleet) soak(t *testing.T, want int64, most time.Duration) *tally {
	pairs := f.populate(t)
	total := &tally{}
	ctx, stop := context.WithTimeout(t.Context(), most)
	defer stop()
	go total.progress(t, ctx, want)
	var workers sync.WaitGroup
	for _, p := range pairs {
		workers.Go(func() {
			for ctx.Err() == nil && total.revokes.Load() < want && total.stale.Load() == 0 {
				f.cycle(ctx, p, total)
			}
		})
	}
	var readers sync.WaitGroup
	reading, done := context.WithCancel(ctx)
	for range 2 {
		for i := range f.sidecars {
			readers.Go(func() {
				for reading.Err() == nil {
					f.ask(reading, i, pairs[rand.IntN(len(pairs))], total)
				}
			})
		}
	}
	faults, calm := context.WithCancel(ctx)
	var chaos sync.WaitGroup
	chaos.Go(func() { f.trouble(t, faults) })
	workers.Wait()
	calm()
	chaos.Wait()
	done()
	readers.Wait()
	if total.revokes.Load() < want && total.stale.Load() == 0 && ctx.Err() != nil {
		t.Errorf("only %d of %d revokes in %v", total.revokes.Load(), want, most)
	}
	return total
}

// progress says every minute how far a long run is.
func (t *tally) progress(test *testing.T, ctx context.Context, want int64) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Minute):
			test.Logf("%d of %d revokes, %d stale", t.revokes.Load(), want, t.stale.Load())
		}
	}
}

// populate makes a practice with one administrator, and a practitioner and a
// client for each revoker.
func (f *fleet) populate(t *testing.T) []*pair {
	t.Helper()
	revokers := int(wanted(t, "CHARTGATE_SOAK_REVOKERS", fewRevokers))
	_, err := f.owner.Exec(t.Context(), `
		INSERT INTO practices (id) VALUES ('practice-1');
		INSERT INTO users (id) SELECT 'admin-1' UNION SELECT 'practitioner-' || n FROM generate_series(1, `+strconv.Itoa(revokers)+`) n;
		INSERT INTO members (practice, user_id, name, roles, status) SELECT 'practice-1', id, id,
			CASE id WHEN 'admin-1' THEN '{administrator}'::text[] ELSE '{practitioner}' END, 'active' FROM users;
		INSERT INTO clients (id, practice, first_name, last_name)
			SELECT 'client-' || n, 'practice-1', 'Client', n::text FROM generate_series(1, `+strconv.Itoa(revokers)+`) n`)
	if err != nil {
		t.Fatal(err)
	}
	var pairs []*pair
	for i := 1; i <= revokers; i++ {
		pairs = append(pairs, &pair{user: fmt.Sprintf("practitioner-%d", i), client: fmt.Sprintf("client-%d", i), taken: true})
	}
	return pairs
}

// cycle gives access, sees that it is used on every sidecar, takes it away, and
// asks every sidecar again.
func (f *fleet) cycle(ctx context.Context, p *pair, total *tally) {
	p.give()
	id, ok := f.grant(ctx, p)
	if !ok {
		return
	}
	for i := range f.sidecars { // access is used: memory and Redis hold it
		f.ask(ctx, i, p, total)
	}
	// One question is under way on every sidecar while the revoke is.
	var during sync.WaitGroup
	for i := range f.sidecars {
		during.Go(func() { f.ask(ctx, i, p, total) })
	}
	began := time.Now()
	if f.revoke(ctx, p, id) {
		p.acknowledge()
		total.took(time.Since(began))
		total.revokes.Add(1)
	} else {
		total.unclear.Add(1)
	}
	for i := range f.sidecars {
		f.ask(ctx, i, p, total)
	}
	during.Wait()
}

var client = &http.Client{Timeout: 6 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}

func call(ctx context.Context, method, url, body string) (int, []byte) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	r.Header.Set("Chartgate-Actor", "admin-1")
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer answer.Body.Close()
	var text json.RawMessage
	_ = json.NewDecoder(answer.Body).Decode(&text)
	return answer.StatusCode, text
}

func (f *fleet) grant(ctx context.Context, p *pair) (string, bool) {
	status, body := call(ctx, http.MethodPost, f.control.base+"/api/v1/practices/practice-1/clients/"+p.client+"/grants", `{"user":"`+p.user+`"}`)
	var g struct{ ID string }
	if status != http.StatusCreated && status != http.StatusOK || json.Unmarshal(body, &g) != nil {
		time.Sleep(20 * time.Millisecond)
		return "", false
	}
	return g.ID, true
}

func (f *fleet) revoke(ctx context.Context, p *pair, id string) bool {
	status, _ := call(ctx, http.MethodDelete, f.control.base+"/api/v1/practices/practice-1/clients/"+p.client+"/grants/"+id, "")
	return status == http.StatusOK
}

// ask asks one sidecar about p and judges the answer by what was known before.
func (f *fleet) ask(ctx context.Context, i int, p *pair, total *tally) {
	round, taken := p.begin()
	allow, decided := f.question(ctx, i, p)
	total.judge(p, round, taken, allow, decided, fmt.Sprintf("sidecar %d", i))
}

// question asks one sidecar whether p may open the chart.
func (f *fleet) question(ctx context.Context, i int, p *pair) (allow, decided bool) {
	status, body := call(ctx, http.MethodPost, f.sidecars[i].base+"/access/v1/evaluation",
		`{"subject":{"type":"user","id":"`+p.user+`"},"action":{"name":"chart.open"},"resource":{"type":"client","id":"`+p.client+`"}}`)
	var d struct{ Decision bool }
	decided = status == http.StatusOK && json.Unmarshal(body, &d) == nil
	return d.Decision, decided
}

// trouble lets one fault after the other come and go until ctx ends.
func (f *fleet) trouble(t *testing.T, ctx context.Context) {
	pause := func(least, most int) {
		select {
		case <-time.After(time.Duration(least+rand.IntN(most-least)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	kept := map[string]string{}
	for ctx.Err() == nil {
		s := f.sidecars[rand.IntN(len(f.sidecars))]
		switch rand.IntN(9) {
		case 0, 1: // the process is paused, and goes on as if nothing had been
			s.signal(syscall.SIGSTOP)
			pause(100, 1500)
			s.signal(syscall.SIGCONT)
		case 2:
			s.pg.set(blackHole)
			pause(100, 1500)
			s.pg.set(passes)
		case 3:
			s.pg.set(delays)
			pause(200, 1000)
			s.pg.set(passes)
		case 4:
			s.pg.set(refuses)
			pause(50, 700)
			s.pg.set(passes)
		case 5:
			s.redis.set([]mood{delays, blackHole, refuses}[rand.IntN(3)])
			pause(100, 1000)
			s.redis.set(passes)
		case 6:
			f.withRedis(ctx, func(r *redis.Client) { r.FlushAll(ctx) })
		case 7: // Redis goes back to what it held before, as a replica that lost writes would
			f.withRedis(ctx, func(r *redis.Client) {
				for key, value := range kept {
					r.Set(ctx, key, value, 0)
				}
				clear(kept)
				keys, _ := r.Keys(ctx, "*").Result()
				for _, key := range keys {
					kept[key] = r.Get(ctx, key).Val()
				}
			})
		case 8:
			if rand.IntN(4) > 0 {
				continue
			}
			if rand.IntN(2) == 0 {
				f.stopRedis()
				again(ctx, t, f.startRedis)
			} else {
				f.pg.Stop()
				again(ctx, t, f.startPostgres)
			}
		}
		pause(10, 200)
	}
	for _, s := range f.sidecars {
		s.pg.set(passes)
		s.redis.set(passes)
		s.signal(syscall.SIGCONT)
	}
}

// again tries until start succeeds: a store that does not come back would make
// the rest of a run idle.
func again(ctx context.Context, t *testing.T, start func() error) {
	for err := start(); err != nil; err = start() {
		t.Logf("once more: %v", err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

func (f *fleet) withRedis(ctx context.Context, work func(*redis.Client)) {
	r := redis.NewClient(&redis.Options{Network: "unix", Addr: f.dir + "/redis.sock"})
	defer r.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if r.Ping(ctx).Err() == nil {
		work(r)
	}
}
