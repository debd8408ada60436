package pdp_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
)

// desk is one sidecar's releases, with an activation that a test writes.
type desk struct {
	*pdp.Releases
	control *papers
	signer  signer
	o       pdp.ReleaseOptions

	mu         sync.Mutex
	activation feed.Activation
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{control: newPapers(t), signer: newSigner(t)}
	control, err := pdp.NewControl(d.control.URL, operator)
	if err != nil {
		t.Fatal(err)
	}
	d.o = pdp.ReleaseOptions{Keys: d.signer.keys(t), Deployment: deploymentID, Dir: t.TempDir(), Control: control,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Sidecar: "sidecar-1",
		Read: func(context.Context) (feed.Activation, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.activation, nil
		}}
	d.restart(t)
	return d
}

// restart is a new process on the same disk.
func (d *desk) restart(t *testing.T) {
	t.Helper()
	d.o.Shipped = (&fleet{files: [variants]map[string][]byte{livelyFiles(t, 0)}}).engine(t, 0)
	d.Releases = pdp.NewReleases(d.o)
}

// release signs a variant; served is where control has it.
func (d *desk) release(t *testing.T, name string, variant int, revision int64) feed.Release {
	t.Helper()
	files, seal := livelyFiles(t, variant), sealed(name, revision)
	d.control.put(name, d.signer.sign(t, files, seal, pdp.SignatureScope))
	return feed.Release{Name: name, Content: pdp.Content(files), Revision: revision}
}

func (d *desk) activate(a feed.Activation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.activation = a
}

func (d *desk) hear(t *testing.T) error {
	t.Helper()
	return d.Hear(t.Context(), feed.News{Touches: []feed.Touch{{Key: feed.Key{Kind: feed.KindRelease}}}})
}

// runs lets the background work until the test, or stop, ends it.
func (d *desk) runs(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func TestAReleaseDecidesOnceItIsActive(t *testing.T) {
	d := newDesk(t)
	if err := d.Check(t.Context()); err == nil {
		t.Errorf("it is ready with %q before it knows which release is active", d.Says())
	}
	if err := d.Hear(t.Context(), feed.News{All: true}); err != nil || d.Check(t.Context()) != nil || !strings.Contains(d.Says(), "came with the program") {
		t.Fatalf("before the first activation: %v, %s", err, d.Says())
	}
	one := d.release(t, "one", 1, 1)
	d.activate(feed.Activation{Serial: 1, Active: one})
	if err := d.Hear(t.Context(), feed.News{Touches: []feed.Touch{{Key: feed.Key{Kind: feed.KindGrant}}}}); err != nil || d.Activation().Serial != 0 {
		t.Errorf("a change of a grant was taken for an activation: %v", err)
	}
	if err := d.hear(t); err != nil {
		t.Fatal(err)
	}
	s := &store{facts: factsOf("practitioner-1", "active")}
	v, err := pdp.Follow(d.Releases, s, s).Decide(t.Context(), everywhere, ask("act.0"), "")
	if err != nil || v.Release != one.Content || v.Shown.ReasonUser != "variant 1" || s.recorded[0].Release != one.Content {
		t.Errorf("%+v, %v", v, err)
	}
	if !strings.Contains(d.Says(), "release one") || d.Check(t.Context()) != nil {
		t.Errorf("it says %q", d.Says())
	}
}

// Facts that were read directly may know of an activation that no poll has told
// of: the release is loaded first, or there is no answer.
func TestFactsNewerThanThePolicy(t *testing.T) {
	d := newDesk(t)
	one := d.release(t, "one", 1, 1)
	d.activate(feed.Activation{Serial: 1, Active: one})
	s := &store{facts: factsOf("practitioner-1", "active")}
	s.facts.Activation = 1
	p := pdp.Follow(d.Releases, s, s)
	if v, err := p.Decide(t.Context(), everywhere, ask("act.0"), ""); err != nil || v.Release != one.Content {
		t.Fatalf("%s, %v", v.Release, err)
	}
	two := feed.Release{Name: "two", Content: "sha256:two", Revision: 2}
	d.activate(feed.Activation{Serial: 2, Active: two})
	s.facts.Activation, s.recorded = 2, nil
	v, err := p.Decide(t.Context(), everywhere, ask("act.0"), "")
	var problem *authz.Problem
	if !errors.Is(err, authz.ErrUnavailable) || !errors.As(err, &problem) || !strings.Contains(problem.Detail, "release two") || v.Shown.Allow || len(s.recorded) > 0 {
		t.Errorf("a release that nobody has: %+v, %v", v.Shown, err)
	}
	s.facts.Activation = 1 // by the lease, for as long as it lives
	if v, err := p.Decide(t.Context(), everywhere, ask("act.0"), ""); err != nil || v.Release != one.Content {
		t.Errorf("%s, %v", v.Release, err)
	}
	if d.hear(t) == nil {
		t.Error("a poll that heard of it counts")
	}
}

// That one release cannot be had is believed for a moment, but says nothing of
// the next one: nobody is refused for it (promise P7).
func TestAFailureIsBelievedOfItsActivationOnly(t *testing.T) {
	d := newDesk(t)
	s := &store{facts: factsOf("practitioner-1", "active")}
	p := pdp.Follow(d.Releases, s, s)
	for serial := int64(1); serial < 10; serial += 2 {
		d.activate(feed.Activation{Serial: serial, Active: feed.Release{Name: "none", Content: "sha256:none", Revision: serial}})
		s.facts.Activation = serial
		if _, err := p.Decide(t.Context(), everywhere, ask("act.0"), ""); !errors.Is(err, authz.ErrUnavailable) {
			t.Fatalf("activation %d, of a release that nobody has: %v", serial, err)
		}
		next := d.release(t, "next", 1, serial+1)
		d.activate(feed.Activation{Serial: serial + 1, Active: next})
		s.facts.Activation = serial + 1
		if v, err := p.Decide(t.Context(), everywhere, ask("act.0"), ""); err != nil || v.Release != next.Content {
			t.Errorf("activation %d, at once after one that failed: %s, %v", serial+1, v.Release, err)
		}
	}
}

// One who leaves while the release is looked for spoils nothing for the others.
func TestWhoLeavesSpoilsNothing(t *testing.T) {
	d := newDesk(t)
	d.activate(feed.Activation{Serial: 1, Active: d.release(t, "one", 1, 1)})
	s := &store{facts: factsOf("practitioner-1", "active")}
	s.facts.Activation = 1
	read := d.o.Read
	ctx, leave := context.WithCancel(t.Context())
	d.o.Read = func(ctx context.Context) (feed.Activation, error) {
		leave()
		if err := ctx.Err(); err != nil {
			return feed.Activation{}, err
		}
		return read(ctx)
	}
	d.restart(t)
	p := pdp.Follow(d.Releases, s, s)
	_, _ = p.Decide(ctx, everywhere, ask("act.0"), "")
	if _, err := p.Decide(t.Context(), everywhere, ask("act.0"), ""); err != nil || d.Check(t.Context()) != nil {
		t.Errorf("after somebody left: %v, %v", err, d.Check(t.Context()))
	}
}

// A batch arrived at once: one release decides all of it.
func TestABatchIsDecidedByOneRelease(t *testing.T) {
	d := newDesk(t)
	d.activate(feed.Activation{Serial: 1, Active: d.release(t, "one", 1, 1)})
	if err := d.hear(t); err != nil {
		t.Fatal(err)
	}
	two := d.release(t, "two", 2, 2)
	s := &store{facts: factsOf("practitioner-1", "active")}
	asked := 0
	swapping := factsFunc(func(ctx context.Context, r authz.Request) (authz.Facts, error) {
		if asked++; asked == 70 { // facts are read ahead, and before the release is chosen
			d.activate(feed.Activation{Serial: 2, Active: two})
			if err := d.hear(t); err != nil {
				t.Error(err)
			}
		}
		return s.Facts(ctx, r)
	})
	p := pdp.Follow(d.Releases, swapping, s)
	var answers pdp.Answers
	if err := p.DecideAll(t.Context(), everywhere, slices.Repeat([]authz.Request{ask("act.0")}, 100), "", nil, &answers); err != nil {
		t.Fatal(err)
	}
	for i, v := range answers.Verdicts {
		if v.Shown.ReasonUser != "variant 1" {
			t.Errorf("answer %d is of %s", i, v.Shown.ReasonUser)
		}
	}
	if v, err := p.Decide(t.Context(), everywhere, ask("act.0"), ""); err != nil || v.Shown.ReasonUser != "variant 2" {
		t.Errorf("the next is of %s, %v", v.Shown.ReasonUser, err)
	}
}

type factsFunc func(context.Context, authz.Request) (authz.Facts, error)

func (f factsFunc) Facts(ctx context.Context, r authz.Request) (authz.Facts, error) { return f(ctx, r) }

// After a restart, while control is away, the last known good decides; nothing
// older ever does, whatever the database says.
func TestTheLastKnownGood(t *testing.T) {
	d := newDesk(t)
	one, two := d.release(t, "one", 1, 1), d.release(t, "two", 2, 2)
	for i, of := range []feed.Release{one, two} {
		d.activate(feed.Activation{Serial: int64(i + 1), Active: of})
		if err := d.hear(t); err != nil {
			t.Fatal(err)
		}
	}
	stop := d.runs(t)
	accepted := filepath.Join(d.o.Dir, "accepted.json")
	until(t, "it is kept", func() bool { _, err := os.Stat(accepted); return err == nil })
	stop()
	d.control.Close()

	d.restart(t)
	if err := d.hear(t); err != nil {
		t.Fatalf("from disk: %v", err)
	}
	for what, a := range map[string]feed.Activation{
		"an older activation": {Serial: 1, Active: one},
		"none at all":         {},
		"an older revision":   {Serial: 3, Active: one},
		"another of the same": {Serial: 2, Active: one},
	} {
		d.activate(a)
		if d.hear(t) == nil {
			t.Errorf("%s was taken", what)
		}
		d.restart(t)
		s := &store{facts: factsOf("practitioner-1", "active")}
		s.facts.Activation = a.Serial
		if v, err := pdp.Follow(d.Releases, s, s).Decide(t.Context(), everywhere, ask("act.0"), ""); !errors.Is(err, authz.ErrUnavailable) && v.Release != two.Content {
			t.Errorf("%s after a restart: %s decides, %v", what, v.Release, err)
		}
		d.activate(feed.Activation{Serial: 2, Active: two})
		if err := d.hear(t); err != nil {
			t.Errorf("back after %s: %v", what, err)
		}
	}
	// What was altered on disk is verified like anything else.
	files, err := filepath.Glob(filepath.Join(d.o.Dir, "*.tar.gz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d bundles on disk, %v", len(files), err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(files[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	d.restart(t)
	if d.hear(t) == nil {
		t.Error("an altered bundle on disk was taken")
	}
	// Another deployment's history says nothing about this one.
	d.o.Deployment = "7b1f4a52-0000-4000-8000-000000000009"
	d.restart(t)
	d.activate(feed.Activation{})
	if err := d.hear(t); err != nil {
		t.Errorf("a new database on an old disk: %v", err)
	}
}

// A refused bundle is not sent again and again, and is taken once it is mended.
func TestARefusedBundleIsMended(t *testing.T) {
	d := newDesk(t)
	of := d.release(t, "one", 1, 1)
	good := d.control.bundles["one"]
	d.control.put("one", good[:len(good)/2])
	d.activate(feed.Activation{Serial: 1, Active: of})
	if err := d.hear(t); !errors.Is(err, pdp.ErrRefused) {
		t.Fatalf("half a bundle: %v", err)
	}
	d.runs(t)
	until(t, "control answers that nothing changed, and hears why", func() bool {
		d.control.mu.Lock()
		defer d.control.mu.Unlock()
		report := d.control.reports["sidecar-1"]
		return d.control.saved > 0 && len(report.Refused) == 1 && report.Refused[0].Content == of.Content && report.Serial == 0
	})
	d.control.put("one", good)
	until(t, "it is taken", func() bool { return d.hear(t) == nil })
	until(t, "control hears of it", func() bool {
		d.control.mu.Lock()
		defer d.control.mu.Unlock()
		report := d.control.reports["sidecar-1"]
		return report.Serial == 1 && report.Release == "one" && len(report.Refused) == 0
	})
}

// However often releases change, only a few policies are kept.
func TestFewPoliciesAreKept(t *testing.T) {
	d := newDesk(t)
	var revision int64
	for range 3 {
		for variant := 1; variant < variants; variant++ {
			revision++
			d.activate(feed.Activation{Serial: revision, Active: d.release(t, "again", variant, revision)})
			if err := d.hear(t); err != nil {
				t.Fatal(err)
			}
		}
	}
	if d.Counts().Swaps.Load() != uint64(revision) || d.Counts().Refused.Load() != 0 {
		t.Errorf("%d swaps, %d refused", d.Counts().Swaps.Load(), d.Counts().Refused.Load())
	}
	if held := d.Held(); held > 4+1 { // the one that decides, and the one before it
		t.Errorf("%d policies are kept", held)
	}
}

// The key goes to control and to nobody else, and what control sends is bounded.
func TestTheWayToControl(t *testing.T) {
	d := newDesk(t)
	asked := make(chan string, 10)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	for what, answer := range map[string]http.HandlerFunc{
		"a redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"an error":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"no end":      func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 17<<20)) },
		"not modifed": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
	} {
		server := httptest.NewServer(answer)
		control, err := pdp.NewControl(server.URL, operator)
		if err != nil {
			t.Fatal(err)
		}
		d.o.Control, d.o.Dir = control, t.TempDir()
		d.restart(t)
		d.activate(feed.Activation{Serial: 1, Active: feed.Release{Name: "one", Content: "sha256:00", Revision: 1}})
		if d.hear(t) == nil {
			t.Errorf("%s: it was taken", what)
		}
		server.Close()
	}
	if len(asked) > 0 {
		t.Errorf("the key went elsewhere: %q", <-asked)
	}
	for _, base := range []string{"", "control", "ftp://control", "http://key@control", "http://control?x=1"} {
		if _, err := pdp.NewControl(base, operator); err == nil {
			t.Errorf("%q was taken", base)
		}
	}
}

// A candidate in the shadow changes no answer, and where nobody has time for it
// the questions are dropped.
func TestAShadowNeverHoldsAnythingUp(t *testing.T) {
	d := newDesk(t)
	one, two := d.release(t, "one", 1, 1), d.release(t, "two", 2, 2)
	d.activate(feed.Activation{Serial: 1, Active: one, Candidate: two, Stage: feed.StageShadow})
	if err := d.hear(t); err != nil {
		t.Fatal(err)
	}
	stop := d.runs(t)
	until(t, "the candidate is ready", func() bool { return d.Report().Shadow != nil })
	stop()
	s := &store{facts: factsOf("practitioner-1", "active")}
	p := pdp.Follow(d.Releases, s, s)
	for i := range 5000 {
		if v, err := p.Decide(t.Context(), everywhere, question(1, i%actions), ""); err != nil || v.Release != one.Content {
			t.Fatalf("%s, %v", v.Release, err)
		}
	}
	if d.Counts().Dropped.Load() == 0 || d.Report().Shadow.Dropped == 0 {
		t.Error("nobody asked the candidate, and nothing was dropped")
	}
	d.runs(t)
	until(t, "differences", func() bool { return len(d.Report().Shadow.Examples) > 0 })
	if _, err := json.Marshal(d.Report()); err != nil {
		t.Error(err)
	}
	for _, e := range d.Report().Shadow.Examples {
		if e.From == e.To || e.Count == 0 || len(e.Decisions) == 0 || len(e.Decisions) > 3 {
			t.Errorf("%+v", e)
		}
	}
}

// A policy that is fixed follows nothing.
func TestAFixedPolicy(t *testing.T) {
	s := &store{facts: factsOf("practitioner-1", "active")}
	s.facts.Activation = 1 << 40
	e := engineOf(t, policy, pdp.DecisionPath)
	if v, err := pdp.New(e, s, s).Decide(t.Context(), everywhere, ask("chart.open"), ""); err != nil || v.Release != e.Revision() {
		t.Errorf("%s, %v", v.Release, err)
	}
}

// A poll that cannot load a release in its time ends, and another one takes it.
func TestASlowControlBlocksNoPoll(t *testing.T) {
	d := newDesk(t)
	of := d.release(t, "one", 1, 1)
	raw, slow := d.control.bundles["one"], make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-slow
		_, _ = w.Write(raw)
	}))
	defer server.Close()
	control, err := pdp.NewControl(server.URL, operator)
	if err != nil {
		t.Fatal(err)
	}
	d.o.Control = control
	d.restart(t)
	d.activate(feed.Activation{Serial: 1, Active: of})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := d.Hear(ctx, feed.News{All: true}); err == nil || ctx.Err() != nil || !strings.Contains(d.Says(), "being loaded") {
		t.Errorf("%v, %s", err, d.Says())
	}
	close(slow)
	until(t, "the attempt goes on by itself", func() bool { return d.hear(t) == nil })
}
