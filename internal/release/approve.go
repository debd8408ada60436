package release

import (
	"context"
	"fmt"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5"
)

// Approve signs a reviewed draft, as another person than its author. evidence
// is the digest of what the approver has seen: if that is no longer what there
// is, nothing happens (412). The signature binds it. To approve once more what
// the same person has approved changes nothing.
func (s *Service) Approve(ctx context.Context, by Person, id, evidence string) (*Release, error) {
	if s.o.Signer == nil {
		return nil, noKey()
	}
	if r, err := s.Get(ctx, id); err == nil && r.State == StateApproved && r.Approver == by.ID && r.EvidenceDigest == evidence {
		return r, nil
	}
	var r *Release
	err := s.change(ctx, by, id, DoApprove, nil, func(tx pgx.Tx, was *Release, t Transition) error {
		if was.EvidenceDigest != evidence {
			return changedMeanwhile("the evidence is another than the one that was seen")
		}
		if supported := was.Evidence.supports(was.Content, s.o.Steps); supported != StateReviewed {
			return stale("some step has not passed in this version of Chartgate: run the steps again")
		}
		current, content, err := s.active(ctx, tx)
		if err != nil {
			return err
		}
		if was.Evidence.against(s.o.Steps) != content {
			return stale("another release was activated since the steps were run: run them again")
		}
		if err := s.fit(ctx, tx, was, current, content); err != nil {
			return err
		}
		source, err := readSource(ctx, tx, id)
		if err != nil {
			return err
		}
		archive, built, err := source.build()
		if err != nil {
			return fmt.Errorf("approve %s: %w", id, err)
		}
		if built != was.Content {
			return stale("this version of Chartgate makes another bundle of the source: save it again, and run the steps")
		}
		signed, revision, err := s.sign(ctx, tx, archive, was, by.ID)
		if err != nil {
			return err
		}
		a, err := feed.ReadActivation(ctx, tx)
		if err != nil {
			return err
		}
		if err := exec(ctx, tx, "approve", updateApproved, id, by.ID, revision, signed, a.Active.Name); err != nil {
			return err
		}
		if r, err = read(ctx, tx, selectRelease, id); err != nil {
			return err
		}
		after := r.standing()
		after["evidence"], after["revision"], after["key"] = evidence, revision, s.o.Signer.ID()
		return note(ctx, tx, by.ID, DoApprove, was.standing(), after)
	})
	return r, err
}

// fit refuses a release that nobody could undo: one under which administrators
// could not manage access, or after which there is nothing to go back to.
func (s *Service) fit(ctx context.Context, tx pgx.Tx, r *Release, current []byte, content string) error {
	var raw []byte
	switch r.State {
	case StateApproved, StateRetired:
		var err error
		if raw, err = readBundle(ctx, tx, r.ID); err != nil {
			return err
		}
	default:
		source, err := readSource(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		if raw, _, err = source.build(); err != nil {
			return conflict("release-refused", "it cannot be built: "+err.Error())
		}
	}
	engine, err := s.engines.load(ctx, raw, r.Content)
	if err != nil {
		return conflict("release-refused", "it does not load: "+err.Error())
	}
	lost, err := s.engines.unmanageable(ctx, engine)
	if err != nil {
		return conflict("release-refused", "it gives no decision: "+err.Error())
	}
	if len(lost) > 0 {
		return conflict("nobody-could-manage", "under this release nobody could undo it: "+strings.Join(lost[:min(3, len(lost))], "; "))
	}
	return s.wayBack(ctx, tx, current, content)
}

// wayBack refuses a step after which there would be nothing to go back to: the
// release that is active now must load again, or else the shipped one.
func (s *Service) wayBack(ctx context.Context, tx pgx.Tx, current []byte, content string) error {
	_, err := s.engines.load(ctx, current, content)
	if err == nil {
		return nil
	}
	raw, missing := readBundle(ctx, tx, shippedID(s.shipped.Revision))
	if missing == nil {
		_, missing = s.engines.load(ctx, raw, s.shipped.Revision)
	}
	if missing != nil {
		return conflict("no-way-back", fmt.Sprintf("neither the active release nor the shipped one would load again: %v; %v", err, missing))
	}
	return nil
}

// sign signs a release's bundle under the next revision.
func (s *Service) sign(ctx context.Context, tx pgx.Tx, archive []byte, r *Release, approver string) ([]byte, int64, error) {
	var revision int64
	if err := tx.QueryRow(ctx, nextRevision).Scan(&revision); err != nil {
		return nil, 0, fmt.Errorf("sign %s: %w", r.ID, err)
	}
	signed, err := s.o.Signer.Sign(archive, pdp.Seal{Release: r.ID, Revision: revision, Content: r.Content, Author: r.Author, Approver: approver,
		Evidence: r.EvidenceDigest, Deployment: s.o.Deployment, SingleSigner: r.Evidence.SingleSigner})
	if err != nil {
		return nil, 0, fmt.Errorf("sign %s: %w", r.ID, err)
	}
	return signed, revision, nil
}

func conflict(typ, detail string) error {
	return &authz.Problem{Kind: authz.ErrConflict, Type: typ, Detail: detail}
}

func stale(detail string) error { return conflict("evidence-stale", detail) }

func noKey() error {
	return conflict("no-signing-key", "control has no key to sign releases with: set --policy-signing-key (CHARTGATE_POLICY_SIGNING_KEY) to a file that 'chartgate policy keygen' made")
}
