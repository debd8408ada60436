package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/bundles"
	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5/pgxpool"
)

// lab is a life cycle over a fresh database, with steps that are quick: check
// passes unless the README says WRONG, diff is undecided where it says UNKNOWN.
type lab struct {
	*Service
	t       *testing.T
	db      *pgxpool.Pool // as the owner
	settled *atomic.Int32
}

var (
	author   = Person{ID: "author-1"}
	approver = Person{ID: "approver-1"}
	runs     = Person{ID: "the key", Single: "because it is a test"}
)

func says(e Examination, word string) bool {
	f, err := e.Folder.Open("README.md")
	if err != nil {
		return false
	}
	defer f.Close()
	text := make([]byte, 1<<16)
	n, _ := f.Read(text)
	return strings.Contains(string(text[:n]), word)
}

var quick = []Gate{
	{Name: stepCheck, For: StateVerified, Run: func(_ context.Context, e Examination) (Found, error) {
		return Found{Outcome: passedIf(!says(e, "WRONG")), Summary: "looked"}, nil
	}},
	{Name: stepDiff, For: StateReviewed, Run: func(_ context.Context, e Examination) (Found, error) {
		if says(e, "UNKNOWN") {
			return Found{Outcome: Undecided, Summary: "cannot say"}, nil
		}
		return Found{Outcome: Passed, Summary: "the same", Detail: map[string]any{"access": []any{}}}, nil
	}},
}

// sourceOf is the shipped policy without its cases, and with a remark that makes
// another content of it.
func sourceOf(t *testing.T, remark string) Source {
	t.Helper()
	source, err := ReadSourceFolder(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	for name := range source {
		if strings.HasPrefix(name, "cases/") {
			delete(source, name)
		}
	}
	source["lib/member.rego"] = slices.Concat(source["lib/member.rego"], []byte("\n# "+remark+"\n"))
	source["README.md"] = []byte(remark)
	return source
}

func newLab(t *testing.T, edits ...func(*Options)) *lab {
	t.Helper()
	t.Parallel()
	url := pgtest.URL(t)
	pool := pgtest.PoolAs(t, url, postgres.RoleControl)
	l := &lab{t: t, db: pgtest.PoolAs(t, url, ""), settled: new(atomic.Int32)}
	source, err := ReadSourceFolder(os.DirFS(policies))
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Pool: pool, Deployment: "deployment-1", Signer: signer(t), Shipped: Shipped{Bundle: bundles.Default, Source: source}, Steps: quick,
		Settle: func(context.Context) error { l.settled.Add(1); return nil }, Patience: 300 * time.Millisecond}
	for _, edit := range edits {
		edit(&o)
	}
	if l.Service, err = NewService(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return l
}

func (l *lab) must(r *Release, err error) *Release {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// refused asserts the last part of a problem's type.
func (l *lab) refused(err error, typ string) *authz.Problem {
	l.t.Helper()
	var p *authz.Problem
	if !errors.As(err, &p) || p.Type != typ {
		l.t.Errorf("%v, want %s", err, typ)
		return &authz.Problem{}
	}
	return p
}

func (l *lab) draft(remark string) *Release {
	l.t.Helper()
	return l.must(l.Create(l.t.Context(), author, "A change", "", sourceOf(l.t, remark)))
}

// step runs one step and waits for its end.
func (l *lab) step(id, name string) Finished {
	l.t.Helper()
	_, ended, err := l.Start(l.t.Context(), author, id, name, Period{})
	if err != nil {
		l.t.Fatal(err)
	}
	<-ended
	return l.must(l.Get(l.t.Context(), id)).Evidence.Steps[name]
}

func (l *lab) reviewed(remark string) *Release {
	l.t.Helper()
	r := l.draft(remark)
	for _, step := range l.o.Steps {
		l.step(r.ID, step.Name)
	}
	if r = l.must(l.Get(l.t.Context(), r.ID)); r.State != StateReviewed {
		l.t.Fatalf("%s is %s: %s", remark, r.State, r.EvidenceText)
	}
	return r
}

func (l *lab) approved(remark string) *Release {
	l.t.Helper()
	r := l.reviewed(remark)
	return l.must(l.Approve(l.t.Context(), approver, r.ID, r.EvidenceDigest))
}

func (l *lab) activate(id string) feed.Activation {
	l.t.Helper()
	a, err := l.Activate(l.t.Context(), approver, id, Turn{Stage: StageAll})
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// in makes a release of this state.
func (l *lab) in(state State, remark string) *Release {
	l.t.Helper()
	var r *Release
	switch state {
	case StateDraft:
		r = l.draft(remark)
	case StateVerified:
		r = l.draft(remark)
		l.step(r.ID, stepCheck)
	case StateReviewed:
		r = l.reviewed(remark)
	case StateApproved:
		r = l.approved(remark)
	case StateActive:
		r = l.approved(remark)
		l.activate(r.ID)
	case StateRetired:
		r = l.approved(remark)
		l.activate(r.ID)
		l.activate(l.approved(remark + " and another").ID)
	}
	if r = l.must(l.Get(l.t.Context(), r.ID)); r.State != state {
		l.t.Fatalf("%s is %s, want %s", remark, r.State, state)
	}
	return r
}

// Every verb is tried in every state: what the table has leads where it says,
// and everything else is refused with what is possible, and changes nothing.
func TestTransitionsAreThoseOfTheTable(t *testing.T) {
	l := newLab(t)
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	any := func(int64) bool { return true }
	do := map[Verb]func(*Release) error{
		DoEdit: func(r *Release) error {
			_, err := l.Edit(t.Context(), author, r.ID, "Edited", sourceOf(t, "edited"), any)
			return err
		},
		DoDelete:  func(r *Release) error { return l.Delete(t.Context(), approver, r.ID, any) },
		DoCheck:   func(r *Release) error { return l.tries(r.ID, stepCheck) },
		DoCompare: func(r *Release) error { return l.tries(r.ID, stepDiff) },
		DoApprove: func(r *Release) error {
			_, err := l.Approve(t.Context(), Person{ID: "approver-2"}, r.ID, r.EvidenceDigest)
			return err
		},
		DoStage: func(r *Release) error {
			_, err := l.Activate(t.Context(), approver, r.ID, Turn{Stage: feed.StagePrepare})
			return err
		},
		DoActivate: func(r *Release) error {
			_, err := l.Activate(t.Context(), approver, r.ID, Turn{Stage: StageAll})
			return err
		},
		DoWithdraw: func(r *Release) error { _, err := l.Withdraw(t.Context(), approver, r.ID); return err },
	}
	tried := 0
	for _, state := range States {
		var r *Release // as long as nothing has changed it
		for _, verb := range slices.Sorted(maps.Keys(do)) {
			name := fmt.Sprintf("%s %s", state, verb)
			if r == nil {
				r = l.in(state, name)
			}
			if verb == DoWithdraw && (state == StateApproved || state == StateRetired) {
				if err := do[DoStage](r); err != nil {
					t.Fatal(err)
				}
				r = l.must(l.Get(t.Context(), r.ID))
			}
			before := l.must(l.Get(t.Context(), r.ID))
			err := do[verb](r)
			after, gone := l.Get(t.Context(), r.ID)
			want, refusal := next(state, verb)
			switch tried++; {
			case state == StateActive && verb == DoActivate: // what is active already stays so
				if err != nil || after.State != StateActive {
					t.Errorf("%s: %v, %s", name, err, after.State)
				}
			case refusal != nil:
				p := l.refused(err, "release-state")
				if p.Extra["state"] != string(state) || after == nil || after.State != state || after.Version != before.Version || string(after.EvidenceText) != string(before.EvidenceText) {
					t.Errorf("%s: %v, %v", name, err, after)
				}
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case want.To == StateAbsent:
				if !errors.Is(gone, authz.ErrNotFound) {
					t.Errorf("%s: it is still there", name)
				}
			case verb == DoCheck || verb == DoCompare: // the step ends, and what it finds moves the draft on again
				if again := after.Evidence.supports(after.Content, l.o.Steps); after.State != again {
					t.Errorf("%s: %s, want %s", name, after.State, again)
				}
			case after.State != want.To:
				t.Errorf("%s: %s, want %s", name, after.State, want.To)
			}
			if l.clear(); refusal == nil {
				r = nil
			}
		}
	}
	if tried != len(States)*len(do) {
		t.Errorf("only %d were tried", tried)
	}
}

// tries runs a step to its end.
func (l *lab) tries(id, name string) error {
	_, ended, err := l.Start(l.t.Context(), author, id, name, Period{})
	if err == nil {
		<-ended
	}
	return err
}

// clear takes a candidate back, so that the next one may come.
func (l *lab) clear() {
	l.t.Helper()
	a, err := feed.ReadActivation(l.t.Context(), l.o.Pool)
	if err == nil && a.Candidate.Name != "" {
		_, err = l.Withdraw(l.t.Context(), approver, a.Candidate.Name)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// Author and approver are two people (promise P7); what nobody answers for is
// nobody's.
func TestFourEyes(t *testing.T) {
	l := newLab(t)
	r := l.reviewed("four eyes")
	approve := func(by Person, digest string) error { _, err := l.Approve(t.Context(), by, r.ID, digest); return err }
	l.refused(approve(author, r.EvidenceDigest), "not-allowed")
	l.refused(approve(Person{}, r.EvidenceDigest), "not-allowed")
	l.refused(approve(Person{ID: "chartgate"}, r.EvidenceDigest), "not-allowed")
	l.refused(approve(approver, "sha256:00"), "changed-meanwhile")
	if _, err := l.Edit(t.Context(), approver, r.ID, "Mine", sourceOf(t, "mine"), func(int64) bool { return true }); err == nil {
		t.Error("somebody else edits a draft, and could approve what he wrote")
	}
	if err := approve(approver, r.EvidenceDigest); err != nil {
		t.Fatal(err)
	}
	if err := approve(approver, r.EvidenceDigest); err != nil {
		t.Errorf("again: %v", err)
	}
	l.refused(approve(Person{ID: "approver-2"}, r.EvidenceDigest), "release-state")

	// The seal binds who, and on what evidence.
	signed := l.must(l.Get(t.Context(), r.ID))
	served, err := l.Bundle(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := l.o.Signer.Public()
	keys, err := pdp.ReadKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	_, seal, err := pdp.ReadSigned(served.Bundle, keys, "deployment-1")
	want := pdp.Seal{Release: r.ID, Revision: signed.Revision, Content: r.Content, Author: "author-1", Approver: "approver-1", Evidence: r.EvidenceDigest,
		Scope: pdp.SignatureScope, Deployment: "deployment-1"}
	if err != nil || seal != want {
		t.Errorf("%+v, %v; want %+v", seal, err, want)
	}

	// The one exception says that it is one.
	own := l.must(l.Create(t.Context(), runs, "Alone", "", sourceOf(t, "alone")))
	for _, step := range quick {
		l.tries(own.ID, step.Name)
	}
	own = l.must(l.Get(t.Context(), own.ID))
	own = l.must(l.Approve(t.Context(), runs, own.ID, own.EvidenceDigest))
	if own.Author != own.Approver || own.Evidence.SingleSigner != runs.Single {
		t.Errorf("%+v", own)
	}
	if served, err = l.Bundle(t.Context(), own.ID); err != nil {
		t.Fatal(err)
	}
	if _, seal, err = pdp.ReadSigned(served.Bundle, keys, "deployment-1"); err != nil || seal.SingleSigner != runs.Single {
		t.Errorf("%+v, %v", seal, err)
	}
}

// What was found stands only for the source, and the active release, that it
// was found about.
func TestEvidenceIsOfOneSource(t *testing.T) {
	l := newLab(t)
	any := func(int64) bool { return true }
	r := l.reviewed("stale")
	edited := l.must(l.Edit(t.Context(), author, r.ID, r.Title, sourceOf(t, "stale and edited"), any))
	if edited.State != StateDraft || len(edited.Evidence.Steps) != 0 || edited.Version != r.Version+1 {
		t.Errorf("%+v", edited)
	}
	if _, err := l.Edit(t.Context(), author, r.ID, r.Title, sourceOf(t, "x"), func(v int64) bool { return v == r.Version }); err == nil {
		t.Error("an older version is replaced")
	}

	l.in(StateActive, "the next one")
	late := l.reviewed("late")
	l.activate(l.approved("quicker").ID)
	_, err := l.Approve(t.Context(), approver, late.ID, late.EvidenceDigest)
	l.refused(err, "evidence-stale")
	l.step(late.ID, stepDiff)
	late = l.must(l.Get(t.Context(), late.ID))
	late = l.must(l.Approve(t.Context(), approver, late.ID, late.EvidenceDigest))
	l.activate(l.approved("quicker still").ID)
	_, err = l.Activate(t.Context(), approver, late.ID, Turn{Stage: StageAll})
	l.refused(err, "evidence-stale")

	unknown := l.draft("UNKNOWN")
	l.step(unknown.ID, stepCheck)
	if found := l.step(unknown.ID, stepDiff); found.Outcome != Undecided {
		t.Errorf("%+v", found)
	}
	unknown = l.must(l.Get(t.Context(), unknown.ID))
	_, err = l.Approve(t.Context(), approver, unknown.ID, unknown.EvidenceDigest)
	if l.refused(err, "release-state"); unknown.State != StateVerified {
		t.Errorf("undecided, and %s", unknown.State)
	}
	wrong := l.draft("WRONG")
	l.step(wrong.ID, stepDiff)
	if found := l.step(wrong.ID, stepCheck); found.Outcome != Refused || l.must(l.Get(t.Context(), wrong.ID)).State != StateDraft {
		t.Errorf("%+v", found)
	}
	broken := sourceOf(t, "broken")
	broken["lib/member.rego"] = []byte("package lib.member\n\nactive if {\n")
	b := l.must(l.Create(t.Context(), author, "Broken", "", broken))
	if found := l.step(b.ID, stepDiff); found.Outcome != Refused || found.Summary == "" {
		t.Errorf("%+v", found)
	}
}
