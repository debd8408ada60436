package release

import (
	"context"
	"fmt"
	"slices"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// Turn says how far a release is to be activated.
type Turn struct {
	Stage string // feed.StagePrepare, StageShadow, StageShare or StageAll
	Share int    // percent of the practices, with feed.StageShare
	Force bool   // do not wait until the sidecars have it ready
}

func (t Turn) check() error {
	stages := []string{feed.StagePrepare, feed.StageShadow, feed.StageShare, StageAll}
	wrong := func(pointer, detail string) error {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: pointer[1:] + " " + detail, Fields: []authz.Field{{Pointer: pointer, Detail: detail}}}
	}
	switch {
	case !slices.Contains(stages, t.Stage):
		return wrong("/stage", fmt.Sprintf("must be one of %v", stages))
	case t.Stage == feed.StageShare && (t.Share < 1 || t.Share > 99):
		return wrong("/share", "must be a whole number from 1 to 99: the percent of practices for which the candidate decides")
	case t.Stage != feed.StageShare && t.Share != 0:
		return wrong("/share", "goes with stage share only")
	}
	return nil
}

func (t Turn) verb() Verb {
	if t.Stage == StageAll {
		return DoActivate
	}
	return DoStage
}

// Activate makes an approved release, or a retired one, the candidate; waits
// until every live sidecar has it ready; lets it decide as far as turn says; and
// returns once nothing is answered any more by what it replaced. A retired
// release is signed anew, under a higher revision than the active one's: what
// was signed before can never be played back.
//
// Where a sidecar refuses it, or is not ready in time, nothing changes (409).
// What is active already stays so.
func (s *Service) Activate(ctx context.Context, by Person, id string, turn Turn) (feed.Activation, error) {
	if err := turn.check(); err != nil {
		return feed.Activation{}, err
	}
	if s.o.Signer == nil {
		return feed.Activation{}, noKey()
	}
	if _, err := s.begin(ctx); err != nil {
		return feed.Activation{}, err
	}
	a, fresh, err := s.announce(ctx, by, id, turn)
	if err != nil {
		return a, err
	}
	if a.Candidate.Name == id && !turn.Force {
		if err := s.awaitReady(ctx, a.Candidate.Content); err != nil {
			if fresh {
				err = s.takeBack(ctx, by, id, err)
			}
			return a, err
		}
	}
	if a.Candidate.Name == id && turn.Stage != feed.StagePrepare {
		if a, err = s.advance(ctx, by, a.Candidate, turn); err != nil {
			return a, err
		}
	}
	return a, s.o.Settle(ctx)
}

// announce makes a release the candidate that sidecars prepare for; fresh
// unless it was the candidate before. What is active already needs no turn.
func (s *Service) announce(ctx context.Context, by Person, id string, turn Turn) (a feed.Activation, fresh bool, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		fresh = false
		if a, err = lockActivation(ctx, tx); err != nil {
			return err
		}
		r, err := read(ctx, tx, lockRelease, id)
		if err != nil {
			return err
		}
		if r.State == StateActive && turn.Stage == StageAll && by.ID != "" {
			return nil
		}
		t, err := next(r.State, turn.verb())
		if err != nil {
			return err
		}
		if err := by.may(t, r); err != nil {
			return err
		}
		if a.Candidate.Name != "" && a.Candidate.Name != id {
			return &authz.Problem{Kind: authz.ErrConflict, Type: "candidate-there", Extra: map[string]any{"candidate": a.Candidate.Name},
				Detail: fmt.Sprintf("release %s is on its way already: activate it, or take it back, first", a.Candidate.Name)}
		}
		if r.State == StateApproved && r.Evidence.against(s.o.Steps) != a.Active.Content {
			return stale("another release was activated since this one was compared with the active one: make a draft of it, and have that approved")
		}
		current, content, err := s.active(ctx, tx)
		if err != nil {
			return err
		}
		if err := s.fit(ctx, tx, r, current, content); err != nil {
			return err
		}
		if a.Candidate.Name == id && r.Revision > a.Active.Revision {
			return nil
		}
		fresh = a.Candidate.Name == ""
		return s.propose(ctx, tx, by, r, &a)
	})
	return a, fresh, err
}

// propose makes r the candidate, signed anew unless its signature is the latest.
func (s *Service) propose(ctx context.Context, tx pgx.Tx, by Person, r *Release, a *feed.Activation) error {
	if r.Revision <= a.Active.Revision {
		raw, err := readBundle(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		signed, revision, err := s.sign(ctx, tx, raw, r, r.Approver)
		if err != nil {
			return err
		}
		if err := exec(ctx, tx, "sign anew", updateSignature, r.ID, revision, signed); err != nil {
			return err
		}
		r.Revision = revision
	}
	if err := exec(ctx, tx, "announce release", updateCandidate, r.ID, r.Content, r.Revision, feed.StagePrepare, nil); err != nil {
		return err
	}
	var err error
	if *a, err = feed.ReadActivation(ctx, tx); err != nil {
		return err
	}
	after := r.standing()
	after["stage"], after["revision"] = feed.StagePrepare, r.Revision
	return note(ctx, tx, by.ID, DoStage, nil, after)
}

// advance lets the candidate decide as far as turn says.
func (s *Service) advance(ctx context.Context, by Person, candidate feed.Release, turn Turn) (a feed.Activation, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		if a, err = lockActivation(ctx, tx); err != nil {
			return err
		}
		if a.Candidate != candidate {
			return changedMeanwhile("the candidate was taken back, or is another")
		}
		r, err := read(ctx, tx, lockRelease, candidate.Name)
		if err != nil {
			return err
		}
		t, err := next(r.State, turn.verb())
		if err != nil {
			return err
		}
		if turn.Stage == StageAll {
			return s.activate(ctx, tx, by, r, t, &a, turn.Force)
		}
		var share *int
		if turn.Stage == feed.StageShare {
			share = &turn.Share
		}
		if a.Stage == turn.Stage && (share == nil || a.Share == *share) {
			return nil
		}
		was := map[string]any{"release": r.ID, "stage": a.Stage, "share": a.Share}
		if err := exec(ctx, tx, "stage release", updateCandidate, r.ID, r.Content, r.Revision, turn.Stage, share); err != nil {
			return err
		}
		if a, err = feed.ReadActivation(ctx, tx); err != nil {
			return err
		}
		return note(ctx, tx, by.ID, DoStage, was, map[string]any{"release": r.ID, "content": r.Content, "revision": r.Revision, "stage": turn.Stage, "share": turn.Share, "forced": turn.Force})
	})
	return a, err
}

// activate makes r the release that decides; the one before it is retired.
func (s *Service) activate(ctx context.Context, tx pgx.Tx, by Person, r *Release, t Transition, a *feed.Activation, forced bool) error {
	retire, err := next(StateActive, DoRetire)
	if err != nil {
		return err
	}
	before := a.Active
	if err := exec(ctx, tx, "retire release", updateState, before.Name, retire.To); err != nil {
		return err
	}
	if err := exec(ctx, tx, "activate release", updateState, r.ID, t.To); err != nil {
		return err
	}
	if err := exec(ctx, tx, "activate release", updateActivation, r.ID, r.Content, r.Revision); err != nil {
		return err
	}
	if *a, err = feed.ReadActivation(ctx, tx); err != nil {
		return err
	}
	return note(ctx, tx, by.ID, DoActivate,
		map[string]any{"release": before.Name, "content": before.Content, "revision": before.Revision},
		map[string]any{"release": r.ID, "content": r.Content, "revision": r.Revision, "rollback": r.State == StateRetired, "forced": forced})
}

// Withdraw takes the candidate back; the active release decides alone again.
func (s *Service) Withdraw(ctx context.Context, by Person, id string) (a feed.Activation, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		if a, err = lockActivation(ctx, tx); err != nil {
			return err
		}
		r, err := read(ctx, tx, lockRelease, id)
		if err != nil {
			return err
		}
		t, err := next(r.State, DoWithdraw)
		if err != nil {
			return err
		}
		if err := by.may(t, r); err != nil {
			return err
		}
		if a.Candidate.Name != id {
			return conflict("no-candidate", "this release is no candidate: there is nothing to take back")
		}
		return withdraw(ctx, tx, by.ID, &a, "")
	})
	if err != nil {
		return a, err
	}
	return a, s.o.Settle(ctx)
}

func withdraw(ctx context.Context, tx pgx.Tx, actor string, a *feed.Activation, why string) (err error) {
	before := map[string]any{"release": a.Candidate.Name, "content": a.Candidate.Content, "revision": a.Candidate.Revision, "stage": a.Stage, "share": a.Share}
	if err := exec(ctx, tx, "withdraw release", clearCandidate); err != nil {
		return err
	}
	if *a, err = feed.ReadActivation(ctx, tx); err != nil {
		return err
	}
	var after map[string]any
	if why != "" {
		after = map[string]any{"why": why}
	}
	return note(ctx, tx, actor, DoWithdraw, before, after)
}

// takeBack withdraws what sidecars would not, or could not yet, take, and
// returns why.
func (s *Service) takeBack(ctx context.Context, by Person, id string, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		a, err := lockActivation(ctx, tx)
		if err != nil || a.Candidate.Name != id || a.Stage != feed.StagePrepare {
			return err
		}
		return withdraw(ctx, tx, by.ID, &a, why.Error())
	})
	if err != nil {
		return fmt.Errorf("take %s back: %w", id, err)
	}
	return why
}
