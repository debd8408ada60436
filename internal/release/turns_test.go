package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

func (l *lab) report(id string, r pdp.Report) {
	l.t.Helper()
	text, err := json.Marshal(r)
	if err == nil {
		err = l.Report(l.t.Context(), id, text)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) now() feed.Activation {
	l.t.Helper()
	a, err := feed.ReadActivation(l.t.Context(), l.o.Pool)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// The revision rises with every activation, also when an earlier release is
// activated again: what was signed for it once is never served again.
func TestRollbackIsSignedAnew(t *testing.T) {
	l := newLab(t)
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := l.now()
	if first.Serial != 1 || !strings.HasPrefix(first.Active.Name, "shipped-") || first.Active.Content != l.shipped.Revision {
		t.Fatalf("%+v", first)
	}
	if err := l.Begin(t.Context()); err != nil || l.now() != first {
		t.Errorf("begun twice: %+v, %v", l.now(), err)
	}
	a, b := l.approved("one"), l.reviewed("two")
	last := first
	seen := map[string]bool{}
	step := func(id string) {
		t.Helper()
		before := l.settled.Load()
		now := l.activate(id)
		served, err := l.Bundle(t.Context(), Named)
		if err != nil {
			t.Fatal(err)
		}
		if now.Active.Name != id || now.Active.Revision <= last.Active.Revision || now.Serial <= last.Serial || now.Candidate.Name != "" || l.settled.Load() != before+1 ||
			served.Release != id || served.Revision != now.Active.Revision || seen[string(served.Bundle)] {
			t.Fatalf("%+v after %+v, served %s %d", now, last, served.Release, served.Revision)
		}
		seen[string(served.Bundle)] = true
		last = now
	}
	step(a.ID)
	l.step(b.ID, stepDiff) // another is active since
	b = l.must(l.Get(t.Context(), b.ID))
	b = l.must(l.Approve(t.Context(), approver, b.ID, b.EvidenceDigest))
	step(b.ID)
	step(a.ID)
	step(b.ID)
	step(first.Active.Name)
	if states := []State{l.must(l.Get(t.Context(), a.ID)).State, l.must(l.Get(t.Context(), b.ID)).State}; !slices.Equal(states, []State{StateRetired, StateRetired}) {
		t.Errorf("%v", states)
	}
	var rows, rollbacks int
	if err := l.db.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE after->>'rollback' = 'true') FROM changes WHERE action = 'policy.activate'`).Scan(&rows, &rollbacks); err != nil || rows != 6 || rollbacks != 3 {
		t.Errorf("%d activations on record, %d of them roll-backs, %v", rows, rollbacks, err)
	}
	if _, err := l.db.Exec(t.Context(), `UPDATE activation SET serial = serial + 1, revision = revision - 1`); err == nil {
		t.Error("the database lets the revision fall")
	}
}

// Live sidecars prepare a release before it is activated: one that refuses it,
// or is late, stops it, and nothing has changed; force does not wait.
func TestSidecarsPrepareFirst(t *testing.T) {
	l := newLab(t)
	r := l.approved("prepared")
	try := func(turn Turn) error { _, err := l.Activate(t.Context(), approver, r.ID, turn); return err }
	all := Turn{Stage: StageAll}
	l.report("sidecar-1", pdp.Report{Prepared: []string{r.Content}})
	l.report("sidecar-2", pdp.Report{})
	p := l.refused(try(all), "sidecars-not-ready")
	if fmt.Sprint(p.Extra["sidecars"]) != "[map[sidecar:sidecar-2]]" || l.now().Candidate.Name != "" {
		t.Errorf("%v, %+v", p.Extra, l.now())
	}
	l.report("sidecar-2", pdp.Report{Refused: []pdp.Refusal{{Release: r.ID, Content: r.Content, Why: "signed by another key"}}})
	p = l.refused(try(all), "sidecars-refuse")
	if !strings.Contains(p.Detail, "signed by another key") || l.now().Candidate.Name != "" || l.must(l.Get(t.Context(), r.ID)).State != StateApproved {
		t.Errorf("%v, %+v", p, l.now())
	}
	if err := try(Turn{Stage: feed.StageShadow, Force: true}); err != nil {
		t.Fatal(err)
	}
	if a := l.now(); a.Stage != feed.StageShadow || a.Candidate.Name != r.ID {
		t.Errorf("%+v", a)
	}
	l.refused(try(all), "sidecars-refuse")
	if l.now().Stage != feed.StageShadow {
		t.Error("what stood before is taken back")
	}
	other := l.approved("the other")
	_, err := l.Activate(t.Context(), approver, other.ID, all)
	l.refused(err, "candidate-there")
	for _, turn := range []Turn{{Stage: "some"}, {Stage: feed.StageShare}, {Stage: feed.StageShare, Share: 100}, {Stage: StageAll, Share: 3}} {
		l.refused(try(turn), "malformed")
	}
	if _, err := l.db.Exec(t.Context(), `UPDATE sidecars SET at = at - interval '1 minute' WHERE id = 'sidecar-2'`); err != nil {
		t.Fatal(err)
	}
	if err := try(Turn{Stage: feed.StageShare, Share: 10}); err != nil {
		t.Errorf("a silent sidecar is waited for: %v", err)
	}
	if err := try(Turn{Stage: feed.StageShare, Share: 50}); err != nil || l.now().Share != 50 {
		t.Errorf("%v, %+v", err, l.now())
	}
	if err := try(all); err != nil || l.now().Active.Name != r.ID || l.now().Candidate.Name != "" {
		t.Errorf("%v, %+v", err, l.now())
	}
}

// A candidate that decides in a way that is not in the approved difference is
// taken back; what was approved is expected.
func TestUnexpectedDifferenceStops(t *testing.T) {
	l := newLab(t, func(o *Options) {
		o.Steps = slices.Clone(quick)
		o.Steps[1].Run = func(context.Context, Examination) (Found, error) {
			return Found{Outcome: Passed, Detail: map[string]any{"access": []any{map[string]any{"actions": []string{"note.write"}, "before": "no_basis", "after": "client_grant"}}}}, nil
		}
	})
	r := l.approved("in the shadow")
	report := func(d pdp.Difference) {
		a := l.now()
		l.report("sidecar-1", pdp.Report{Content: a.Active.Content, Prepared: []string{r.Content},
			Shadow: &pdp.Trial{Candidate: r.Content, Asked: 10, Differs: 1, Examples: []pdp.Difference{d}}})
	}
	shadow := func() {
		t.Helper()
		if _, err := l.Activate(t.Context(), approver, r.ID, Turn{Stage: feed.StageShadow}); err != nil {
			t.Fatal(err)
		}
	}
	shadow()
	report(pdp.Difference{Action: "note.write", From: "no_basis", To: "client_grant", Count: 1})
	if l.now().Candidate.Name != r.ID {
		t.Fatal("what was approved stops it")
	}
	for _, d := range []pdp.Difference{{Action: "note.read", From: "no_basis", To: "client_grant"}, {Action: "note.write", From: "client_grant", To: "no_basis"},
		{Action: "note.write", From: "no_basis", To: "assigned"}, {Action: "note.write", From: "no_basis", To: ""}} {
		shadow()
		settled := l.settled.Load()
		report(d)
		if l.now().Candidate.Name != "" || l.settled.Load() != settled+1 {
			t.Errorf("%+v does not stop it", d)
		}
	}
	var why string
	if err := l.db.QueryRow(t.Context(), `SELECT after->>'why' FROM changes WHERE action = 'policy.withdraw' AND actor = 'chartgate' ORDER BY id LIMIT 1`).Scan(&why); err != nil ||
		!strings.Contains(why, "note.read") {
		t.Errorf("%q, %v", why, err)
	}
}

// A release under which nobody could undo it is refused, whatever its steps said.
func TestNobodyIsLockedOut(t *testing.T) {
	l := newLab(t)
	for name, edit := range map[string][2]string{
		"access":   {"    - access.manage\n", ""},
		"roles":    {"    - member.roles\n", ""},
		"settings": {"    - settings.manage\n", ""},
		"invite":   {"    - member.invite\n", ""},
	} {
		source := sourceOf(t, name)
		was := string(source["tables/roles/data.yaml"])
		if source["tables/roles/data.yaml"] = []byte(strings.ReplaceAll(was, edit[0], edit[1])); string(source["tables/roles/data.yaml"]) == was {
			t.Fatalf("%s: nothing was edited", name)
		}
		r := l.must(l.Create(t.Context(), author, name, "", source))
		for _, step := range l.o.Steps {
			l.step(r.ID, step.Name)
		}
		r = l.must(l.Get(t.Context(), r.ID))
		_, err := l.Approve(t.Context(), approver, r.ID, r.EvidenceDigest)
		l.refused(err, "nobody-could-manage")
	}
	fine := l.reviewed("fine")
	found := l.must(l.Get(t.Context(), fine.ID))
	if _, err := l.Approve(t.Context(), approver, found.ID, found.EvidenceDigest); err != nil {
		t.Errorf("the shipped policy: %v", err)
	}
}

// Control decides by the release that is active in the transaction of the
// change, which holds the activation until it ends; what it cannot load is an
// error.
func TestControlFollowsTheActivation(t *testing.T) {
	l := newLab(t)
	in := func() (engine *pdp.Engine, err error) {
		err = postgres.InTx(t.Context(), l.o.Pool, func(tx pgx.Tx) error {
			engine, err = l.Engines().In(t.Context(), tx, true)
			return err
		})
		return engine, err
	}
	if e, err := in(); err != nil || e.Revision() != l.shipped.Revision {
		t.Fatalf("before the first activation: %v", err)
	}
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := l.in(StateActive, "followed")
	next := l.approved("next")
	if e, err := in(); err != nil || e.Revision() != r.Content {
		t.Errorf("%v", err)
	}
	cut := func(id string) {
		t.Helper()
		l.engines.loaded = map[string]*pdp.Engine{}
		if _, err := l.db.Exec(t.Context(), `UPDATE releases SET bundle = substring(bundle FOR 1000) WHERE id = $1`, id); err != nil {
			t.Fatal(err)
		}
	}
	cut(r.ID)
	if _, err := in(); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("a bundle that is cut off: %v", err)
	}
	activate := func(stage string) error {
		_, err := l.Activate(t.Context(), approver, next.ID, Turn{Stage: stage})
		return err
	}
	if err := activate(feed.StagePrepare); err != nil {
		t.Errorf("the shipped release is there to go back to: %v", err)
	}
	cut(shippedID(l.shipped.Revision))
	l.refused(activate(StageAll), "no-way-back")
}

// An activation waits for the changes that rest on the policy before it.
func TestActivationWaitsForOpenChanges(t *testing.T) {
	l := newLab(t)
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := l.approved("waits")
	tx, err := l.o.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	before, err := l.Engines().In(t.Context(), tx, true)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := l.Activate(context.WithoutCancel(t.Context()), approver, r.ID, Turn{Stage: StageAll})
		done <- err
	}()
	for { // until it waits for a lock
		var waits bool
		if err := l.db.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
	}
	if after, err := l.Engines().In(t.Context(), tx, true); err != nil || after != before {
		t.Errorf("the policy changed within a transaction: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || l.now().Active.Name != r.ID {
		t.Errorf("%v", err)
	}
}

// A new version of the product brings its policy along, unless the policy was
// ever customised.
func TestProductUpgrade(t *testing.T) {
	l := newLab(t)
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := l.now()
	upgraded := func(remark string) *Service {
		source := sourceOf(t, remark)
		archive, content, err := source.build()
		if err != nil {
			t.Fatal(err)
		}
		o := l.o
		o.Shipped = Shipped{Bundle: archive, Source: source}
		s, err := NewService(t.Context(), o)
		if err != nil || s.shipped.Revision != content {
			t.Fatal(err)
		}
		return s
	}
	if err := upgraded("version 2").Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := l.now()
	if second.Active.Content == first.Active.Content || second.Active.Revision <= first.Active.Revision || second.Serial <= first.Serial {
		t.Errorf("%+v after %+v", second, first)
	}
	l.in(StateActive, "customised")
	own := l.now()
	if err := upgraded("version 3").Begin(t.Context()); err != nil || l.now() != own {
		t.Errorf("a policy of one's own is replaced: %+v, %v", l.now(), err)
	}
	none := l.o
	none.Signer = nil
	s, err := NewService(t.Context(), none)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Approve(t.Context(), approver, "r-1", "")
	l.refused(err, "no-signing-key")
	_, err = s.Activate(t.Context(), approver, "r-1", Turn{Stage: StageAll})
	l.refused(err, "no-signing-key")
}
