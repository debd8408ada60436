package pdp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	variants  = 6  // policies that answer differently on about half of all questions
	actions   = 30 // that they differ on
	practices = 10
	people    = 40 // practitioners, each with a client
	operator  = "a-key-of-the-operator"
)

// lively allows the actions of its tables to the assigned practitioner, and
// says in every sentence which variant it is.
const lively = `package authz

default allow := false

allow if {
	input.action.name in data.tables.allowed
	input.client.assigned == input.member.user
}

default code := "no_basis"

code := "scope" if input.client.practice

says := {"en": data.tables.variant}

decision := {"allow": true, "code": "assigned", "bases": ["assigned"], "reason_admin": says, "reason_user": says} if allow

decision := {"allow": false, "code": code, "bases": [], "reason_admin": says, "reason_user": says} if not allow
`

// livelyFiles are the files of one variant; more of them change it.
func livelyFiles(t testing.TB, variant int) map[string][]byte {
	t.Helper()
	draw := rand.New(rand.NewPCG(uint64(variant), 6))
	allowed := []string{}
	for i := range actions {
		if draw.IntN(2) == 0 {
			allowed = append(allowed, fmt.Sprintf("act.%d", i))
		}
	}
	if variant%2 == 0 {
		allowed = append(allowed, authz.ActionClientList)
	}
	name := fmt.Sprintf("variant %d", variant)
	tables, _ := json.Marshal(map[string]any{"allowed": allowed, "variant": name,
		"reasons": map[string]any{"no_basis": map[string]string{"admin": name, "user": name}}})
	checks, _ := json.Marshal(pdp.Checks{Cases: []pdp.Check{{Input: map[string]any{}, Code: "no_basis"}}})
	return map[string][]byte{"authz/authz.rego": []byte(lively), "tables/data.json": tables, pdp.ChecksFile: checks}
}

// papers is control, as a sidecar sees it: what is signed, and what was reported.
type papers struct {
	*httptest.Server
	mu      sync.Mutex
	bundles map[string][]byte
	reports map[string]pdp.Report
	saved   int // answers 304
}

func newPapers(t testing.TB) *papers {
	p := &papers{bundles: map[string][]byte{}, reports: map[string]pdp.Report{}}
	p.Server = httptest.NewServer(http.HandlerFunc(p.answer))
	t.Cleanup(p.Close)
	return p
}

func (p *papers) answer(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := path.Base(r.URL.Path)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+operator:
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodPut:
		var report pdp.Report
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.reports[name] = report
		w.WriteHeader(http.StatusNoContent)
	case p.bundles[name] == nil:
		w.WriteHeader(http.StatusNotFound)
	default:
		etag := fmt.Sprintf(`"%x"`, sha256.Sum256(p.bundles[name]))
		if r.Header.Get("If-None-Match") == etag {
			p.saved++
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", etag)
		_, _ = w.Write(p.bundles[name])
	}
}

func (p *papers) put(name string, raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bundles[name] = raw
}

// prepared reports whether every one of n sidecars says that it holds content.
func (p *papers) prepared(n int, of feed.Release) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := 0
	for _, report := range p.reports {
		if slices.Contains(report.Prepared, of.Content) && len(report.Refused) == 0 {
			ready++
		}
	}
	return ready == n
}

// fleet is a database, control, and some sidecars of one process.
type fleet struct {
	owner    *pgxpool.Pool
	control  *papers
	signer   signer
	id       string // of the deployment
	sidecars []*follower
	shipped  int // variant
	files    [variants]map[string][]byte
	engines  map[string]*pdp.Engine // by content: what each must answer

	revision int64 // of the last signature
	names    int
}

// follower is a sidecar without its doors.
type follower struct {
	pdp      *pdp.PDP
	releases *pdp.Releases
	source   *facts.Source
	stalls   atomic.Bool // its polls take their time
}

// silent records nothing: what is recorded is another test's.
type silent struct{}

func (silent) Record(context.Context, ...authz.Verdict) error { return nil }

func startFleet(t *testing.T, n int) *fleet {
	t.Helper()
	url := pgtest.URL(t)
	f := &fleet{owner: pgtest.PoolAs(t, url, ""), control: newPapers(t), signer: newSigner(t), engines: map[string]*pdp.Engine{}}
	f.exec(t, `INSERT INTO practices (id) SELECT 'practice-' || n FROM generate_series(1, $1::int) n`, practices)
	f.exec(t, `INSERT INTO users (id) SELECT 'practitioner-' || n FROM generate_series(1, $1::int) n`, people)
	f.exec(t, `INSERT INTO members (practice, user_id, name, roles, status)
		SELECT 'practice-' || 1 + n % $2::int, 'practitioner-' || n, 'N', '{practitioner}', 'active' FROM generate_series(1, $1::int) n`, people, practices)
	f.exec(t, `INSERT INTO clients (id, practice, assigned, first_name, last_name)
		SELECT 'client-' || n, 'practice-' || 1 + n % $2::int, 'practitioner-' || n, 'C', 'N' FROM generate_series(1, $1::int) n`, people, practices)
	for i := range variants {
		f.files[i] = livelyFiles(t, i)
		f.engines[pdp.Content(f.files[i])] = f.engine(t, i)
	}
	for range n {
		f.sidecars = append(f.sidecars, f.start(t, url, t.TempDir()))
	}
	return f
}

func (f *fleet) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := f.owner.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func (f *fleet) engine(t testing.TB, variant int) *pdp.Engine {
	t.Helper()
	b, err := pdp.ReadArchive(packed(t, withManifest(f.files[variant])))
	if err != nil {
		t.Fatal(err)
	}
	e, err := pdp.NewChecked(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func withManifest(files map[string][]byte) map[string][]byte {
	out := map[string][]byte{".manifest": []byte(`{"revision":"` + pdp.Content(files) + `","rego_version":1}`)}
	for name, content := range files {
		out[name] = content
	}
	return out
}

// start brings up one more sidecar, which keeps its last known good in dir.
func (f *fleet) start(t testing.TB, url, dir string) *follower {
	t.Helper()
	s := &follower{}
	pool, follow := pgtest.PoolAs(t, url, postgres.RoleSidecar), pgtest.PoolAs(t, url, postgres.RoleSidecar)
	d, err := feed.ReadDeployment(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	f.id = d.ID.String()
	control, err := pdp.NewControl(f.control.URL, operator)
	if err != nil {
		t.Fatal(err)
	}
	s.releases = pdp.NewReleases(pdp.ReleaseOptions{
		Shipped: f.engine(t, f.shipped), Keys: f.signer.keys(t), Deployment: f.id, Dir: dir, Control: control,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Sidecar: fmt.Sprintf("sidecar-%d", len(f.sidecars)+1),
		Read: func(ctx context.Context) (feed.Activation, error) { return feed.ReadActivation(ctx, follow) },
	})
	stall := func(ctx context.Context, _ feed.News) error {
		if s.stalls.Load() {
			time.Sleep(time.Duration(rand.IntN(900)) * time.Millisecond)
		}
		return nil
	}
	if s.source, err = facts.NewSource(pool, follow, d, facts.Options{Listeners: []feed.Listener{stall, s.releases.Hear}}); err != nil {
		t.Fatal(err)
	}
	s.pdp = pdp.Follow(s.releases, s.source, silent{})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.source.Follower().Run(ctx) })
	running.Go(func() { _ = s.releases.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return s
}

// release signs a variant under the next revision and puts it where sidecars
// fetch it. Spoil makes of it what must be refused.
func (f *fleet) release(t testing.TB, variant int, spoil string) feed.Release {
	t.Helper()
	f.names++
	f.revision++
	of := feed.Release{Name: fmt.Sprintf("release-%d", f.names), Content: pdp.Content(f.files[variant]), Revision: f.revision}
	files, by, seal := f.files[variant], f.signer, sealed(of.Name, of.Revision)
	seal.Deployment = f.id
	changed := func(name string, content string) map[string][]byte {
		out := withManifest(files)
		delete(out, ".manifest")
		out[name] = []byte(content)
		of.Content = pdp.Content(out)
		return out
	}
	switch spoil {
	case "wrong key":
		by = newSigner(t)
	case "type error":
		files = changed("authz/authz.rego", lively+"\nbroken if 1 == \"one\"\n")
	case "failing case":
		files = changed(pdp.ChecksFile, `{"cases": [{"input": {}, "allow": true, "code": "assigned"}]}`)
	case "older revision":
		seal.Revision--
	}
	raw := by.sign(t, files, seal, pdp.SignatureScope)
	switch spoil {
	case "altered file":
		read, err := pdp.Unpack(raw)
		if err != nil {
			t.Fatal(err)
		}
		read["tables/data.json"] = bytes.Replace(read["tables/data.json"], []byte(`"allowed":[`), []byte(`"allowed":["act.none",`), 1)
		raw = packed(t, read)
	case "truncated":
		raw = raw[:len(raw)*2/3]
	}
	f.control.put(of.Name, raw)
	f.exec(t, `INSERT INTO releases (id, state, title, author, source, content) VALUES ($1, 'draft', 'T', 'officer-1', '', $2)`, of.Name, of.Content)
	return of
}

// activate writes the activation, as control does.
func (f *fleet) activate(t testing.TB, a feed.Activation) {
	t.Helper()
	var candidate, content, stage *string
	var revision *int64
	var share *int
	if a.Candidate.Name != "" {
		candidate, content, revision, stage = &a.Candidate.Name, &a.Candidate.Content, &a.Candidate.Revision, &a.Stage
	}
	if a.Stage == feed.StageShare {
		share = &a.Share
	}
	f.exec(t, `INSERT INTO activation (serial, release, content, revision, candidate, candidate_content, candidate_revision, stage, share)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (one) DO UPDATE SET (serial, release, content, revision,
			candidate, candidate_content, candidate_revision, stage, share) = ROW ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		a.Serial, a.Active.Name, a.Active.Content, a.Active.Revision, candidate, content, revision, stage, share)
}

// until waits for what must come true.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came true: " + what)
		}
	}
}

// holds reports whether every sidecar decides as of serial.
func (f *fleet) holds(serial int64) bool {
	return !slices.ContainsFunc(f.sidecars, func(s *follower) bool { return s.releases.Activation().Serial != serial })
}

func question(person, action int) authz.Request {
	r := authz.Request{Subject: authz.Subject{Type: "user", ID: fmt.Sprintf("practitioner-%d", person)}, Action: fmt.Sprintf("act.%d", action),
		Resource: authz.Resource{Type: "client", ID: fmt.Sprintf("client-%d", person)}}
	switch action % 7 {
	case 0: // another's client
		r.Resource.ID = fmt.Sprintf("client-%d", 1+(person+practices-1)%people)
	case 1: // nobody's
		r.Resource.ID = "client-none"
	}
	return r
}

func placeOf(practice string) int {
	h := fnv.New64a()
	_, _ = io.Copy(h, strings.NewReader(practice))
	return int(h.Sum64() % 100)
}
