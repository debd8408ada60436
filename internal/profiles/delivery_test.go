package profiles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5/pgxpool"
)

const secret = "a secret of sixteen"

// quick is a Delivery that takes back what was claimed after a moment.
func quick(pool *pgxpool.Pool, courier Courier) *Delivery {
	d := NewDelivery(pool, courier, slog.New(slog.DiscardHandler))
	d.claim, d.every = 200*time.Millisecond, 20*time.Millisecond
	return d
}

// courierFunc is a Courier in one function.
type courierFunc func(n Notice) error

func (f courierFunc) Deliver(_ context.Context, n Notice) error { return f(n) }

func (b *bench) notice(n int) {
	b.t.Helper()
	b.exec(`INSERT INTO notices (kind, practice, client, contact, details) SELECT 'link', 'practice-1', 'client-1', 'contact-' || n, '{"relationship": "self"}' FROM generate_series(1, $1) n`, n)
}

// until waits for something that the database will come to say.
func (b *bench) until(sql string, want int) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); b.count(sql) != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: %d, want %d", sql, b.count(sql), want)
		}
	}
}

const undelivered = `SELECT count(*) FROM notices WHERE delivered_at IS NULL`

// running runs deliveries until the test ends.
func (b *bench) running(deliveries ...*Delivery) {
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for _, d := range deliveries {
		wait.Go(func() {
			if err := d.Run(ctx); err != nil {
				b.t.Error(err)
			}
		})
	}
	b.t.Cleanup(func() { stop(); wait.Wait() })
}

// Several deliver together; each notice comes once, while nothing breaks.
func TestNoticesAreDelivered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.notice(50)
	var mu sync.Mutex
	seen := map[string]int{}
	courier := courierFunc(func(n Notice) error {
		mu.Lock()
		defer mu.Unlock()
		seen[n.Contact]++
		return nil
	})
	slow := func() *Delivery { d := quick(b.control, courier); d.claim = time.Minute; return d }
	b.running(slow(), slow(), slow())
	b.until(undelivered, 0)
	mu.Lock()
	defer mu.Unlock()
	for contact, times := range seen {
		if times != 1 {
			t.Errorf("%s was told %d times", contact, times)
		}
	}
	if len(seen) != 50 {
		t.Errorf("%d were told", len(seen))
	}
}

// What fails is tried again, later each time, and given up in the end.
func TestFailedNoticesAreTriedAgainAndGivenUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.notice(1)
	attempts := 0
	d := quick(b.control, courierFunc(func(n Notice) error {
		if attempts++; n.Attempt != attempts {
			t.Errorf("attempt %d is told as %d", attempts, n.Attempt)
		}
		return errors.New("nobody is there")
	}))
	for range maxAttempts {
		if n, err := d.once(t.Context()); err != nil || n != 1 {
			t.Fatalf("%d notices, %v", n, err)
		}
		if n, err := d.once(t.Context()); err != nil || n != 0 {
			t.Fatalf("it was tried again at once: %d, %v", n, err)
		}
		b.exec(`UPDATE notices SET next_at = now()`) // time goes by
	}
	if n, _ := d.once(t.Context()); n != 0 || b.count(`SELECT count(*) FROM notices WHERE dead_at IS NOT NULL AND fault = 'nobody is there'`) != 1 {
		t.Error("it was not given up")
	}
	last := time.Duration(0)
	for n := 1; n < maxAttempts; n++ {
		if p := pause(n); p < last || p > longestPause {
			t.Errorf("pause %d is %v after %v", n, p, last)
		}
		last = pause(n)
	}
	if pause(1) != firstPause || last != longestPause {
		t.Errorf("from %v to %v", pause(1), last)
	}
}

// What the webhook gets is signed, and holds no name and no address.
func TestWebhookIsSigned(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client(NewClient{ID: "second-1"})
	b.second("second-1")
	type got struct {
		header http.Header
		body   []byte
	}
	arrived, answer := make(chan got, 3), make(chan int, 3)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- got{r.Header, body}
		w.WriteHeader(<-answer)
	}))
	defer server.Close()
	hook, err := NewWebhook(server.URL, secret)
	must(t, hook, err)
	d := quick(b.control, hook)
	for _, status := range []int{500, 302, 204} {
		answer <- status
		if n, err := d.once(t.Context()); err != nil || n != 1 {
			t.Fatalf("%d notices, %v", n, err)
		}
		b.exec(`UPDATE notices SET next_at = now()`)
		a := <-arrived
		seconds, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get(HeaderSignature), "t="), ",")
		at, err := time.ParseDuration(seconds + "s")
		if err != nil || a.header.Get(HeaderSignature) != Sign([]byte(secret), time.Unix(int64(at.Seconds()), 0), a.body) {
			t.Errorf("signature %q", a.header.Get(HeaderSignature))
		}
		var n Notice
		if err := json.Unmarshal(a.body, &n); err != nil || n.Kind != "link" || n.Client != "second-1" || a.header.Get(HeaderNoticeID) == "" {
			t.Errorf("%s, %v", a.body, err)
		}
		if bytes.Contains(a.body, []byte("One")) || bytes.Contains(a.body, []byte("@")) {
			t.Errorf("%s", a.body)
		}
	}
	if n := b.count(undelivered); n != 0 {
		t.Errorf("%d are not delivered", n)
	}
	for address, key := range map[string]string{"": secret, "ftp://x": secret, "/x": secret, "https://x": "short"} {
		if _, err := NewWebhook(address, key); err == nil {
			t.Errorf("%q with %q was taken", address, key)
		}
	}
}

// doomed, in the environment, makes this test binary a process that delivers
// notices until it is killed.
const doomed = "CHARTGATE_TEST_DELIVER"

// A process that is killed between sending and marking leaves a notice that is
// sent again: at least once, with the same id.
func TestKilledBetweenSendingAndMarking(t *testing.T) {
	if address := os.Getenv(doomed); address != "" {
		pool, err := postgres.Open(t.Context(), os.Getenv("DATABASE_URL_TEST"), postgres.RoleControl, 2)
		must(t, pool, err)
		hook, err := NewWebhook(address, secret)
		must(t, hook, err)
		_ = quick(pool, hook).Run(t.Context())
		return
	}
	t.Parallel()
	b := setup(t)
	b.notice(1)
	ids, killed := make(chan string, 8), make(chan struct{})
	var victim *exec.Cmd
	started := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ids <- r.Header.Get(HeaderNoticeID)
		select {
		case <-killed:
			return // a later process: 200
		default:
		}
		<-started
		_ = victim.Process.Signal(syscall.SIGKILL) // it has sent, and has not marked
		_ = victim.Wait()
		close(killed)
	}))
	defer server.Close()
	victim = exec.Command(os.Args[0], "-test.run=^TestKilledBetweenSendingAndMarking$")
	victim.Env = append(os.Environ(), doomed+"="+server.URL, "DATABASE_URL_TEST="+b.db.Config().ConnString())
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	select {
	case <-killed:
	case <-time.After(60 * time.Second):
		t.Fatal("the process never sent anything")
	}
	if n := b.count(undelivered); n != 1 {
		t.Fatalf("%d notices are left", n)
	}
	hook, err := NewWebhook(server.URL, secret)
	must(t, hook, err)
	b.running(quick(b.control, hook))
	b.until(undelivered, 0)
	if got := []string{<-ids, <-ids}; got[0] == "" || got[0] != got[1] || len(ids) > 0 {
		t.Errorf("sent %v and %d more", got, len(ids))
	}
}

// The default courier writes to the log, and nothing that a log must not hold.
func TestLogCourier(t *testing.T) {
	var out bytes.Buffer
	l := Log{slog.New(slog.NewTextHandler(&out, nil))}
	if err := l.Deliver(t.Context(), Notice{ID: 7, Kind: "link", Client: "client-1", Contact: "contact-1", Details: json.RawMessage(`{"x": 1}`)}); err != nil {
		t.Fatal(err)
	}
	if words := strings.Fields(out.String()); !slices.Contains(words, "client=client-1") || !slices.Contains(words, "id=7") {
		t.Errorf("%s", out.String())
	}
}
