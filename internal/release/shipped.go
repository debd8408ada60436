package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// whyShipped stands in the evidence of what ships with the product.
const whyShipped = "it ships with the product, whose single signer is the one named exception to four eyes"

// SignShipped signs the bundle that ships with the product with a key of its
// own, and returns that key's public half; nobody keeps the private one. The
// seal belongs to no deployment, and pdp.Keys lets that key sign nothing else.
func SignShipped(archive []byte) (signed, public []byte, err error) {
	content, err := contentOf(archive)
	if err != nil {
		return nil, nil, err
	}
	signer, err := NewSigner()
	if err != nil {
		return nil, nil, err
	}
	evidence, err := json.Marshal(Evidence{SingleSigner: whyShipped})
	if err != nil {
		return nil, nil, fmt.Errorf("sign bundle: %w", err)
	}
	digest, err := Digest(evidence)
	if err != nil {
		return nil, nil, err
	}
	signed, err = signer.Sign(archive, pdp.Seal{Release: shippedID(content), Revision: 1, Content: content, Author: shippedBy, Approver: shippedBy,
		Evidence: digest, SingleSigner: whyShipped})
	if err != nil {
		return nil, nil, err
	}
	public, err = signer.Public()
	return signed, public, err
}

func shippedID(content string) string {
	return "shipped-" + strings.TrimPrefix(content, "sha256:")[:12]
}

// Begin makes the shipped policy the first active release, and a later one that
// came with a new version of the product its successor, unless the policy was
// ever customised. Without a signing key nothing is activated: the bundle that
// each program brings along decides.
func (s *Service) Begin(ctx context.Context) error {
	if s.o.Signer == nil {
		return nil
	}
	own, err := s.begin(ctx)
	if err == nil && own != "" {
		s.o.Log.Info("the policy is one of your own, and another one came with the product: to take that over, make a draft of it",
			"active", own, "shipped", s.shipped.Revision)
	}
	return err
}

// begin is Begin; own is the release of one's own that stays active, if any.
func (s *Service) begin(ctx context.Context) (own string, err error) {
	err = postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		if err := exec(ctx, tx, "begin", lockDrafts); err != nil {
			return err
		}
		a, err := lockActivation(ctx, tx)
		if err != nil || a.Active.Content == s.shipped.Revision {
			return err
		}
		if a.Serial > 0 {
			var customised bool
			if err := tx.QueryRow(ctx, selectCustomised, shippedBy).Scan(&customised); err != nil {
				return fmt.Errorf("begin: %w", err)
			}
			if customised {
				own = a.Active.Name
				return nil
			}
		}
		return s.ship(ctx, tx, a)
	})
	return own, err
}

// ship stores the shipped policy as a release and activates it.
func (s *Service) ship(ctx context.Context, tx pgx.Tx, a feed.Activation) error {
	id := shippedID(s.shipped.Revision)
	r, err := read(ctx, tx, lockRelease, id)
	if errors.Is(err, authz.ErrNotFound) {
		r, err = s.storeShipped(ctx, tx, id)
	}
	if err != nil {
		return err
	}
	t, err := next(r.State, DoActivate)
	if err != nil {
		return err
	}
	if a.Serial == 0 {
		if err := exec(ctx, tx, "activate", updateState, id, t.To); err != nil {
			return err
		}
		if err := exec(ctx, tx, "activate", insertActivation, id, r.Content, r.Revision); err != nil {
			return err
		}
		return note(ctx, tx, shippedBy, DoActivate, nil, map[string]any{"release": id, "content": r.Content, "revision": r.Revision})
	}
	by := Person{ID: shippedBy}
	if a.Candidate.Name != "" {
		if err := withdraw(ctx, tx, shippedBy, &a, "a newer policy came with the product"); err != nil {
			return err
		}
	}
	if err := s.propose(ctx, tx, by, r, &a); err != nil {
		return err
	}
	return s.activate(ctx, tx, by, r, t, &a, true)
}

func (s *Service) storeShipped(ctx context.Context, tx pgx.Tx, id string) (*Release, error) {
	if _, content, err := s.o.Shipped.Source.build(); err != nil || content != s.shipped.Revision {
		return nil, fmt.Errorf("the shipped bundle %s is not of the shipped source %s: %w", s.shipped.Revision, content, err)
	}
	source, err := s.o.Shipped.Source.Archive()
	if err != nil {
		return nil, err
	}
	evidence, err := json.Marshal(Evidence{SingleSigner: whyShipped})
	if err != nil {
		return nil, fmt.Errorf("shipped policy: %w", err)
	}
	r := &Release{ID: id, State: StateRetired, Author: shippedBy, Approver: shippedBy, Content: s.shipped.Revision}
	if err := r.readEvidence(evidence); err != nil {
		return nil, err
	}
	signed, revision, err := s.sign(ctx, tx, s.o.Shipped.Bundle, r, shippedBy)
	if err != nil {
		return nil, err
	}
	if err := exec(ctx, tx, "store shipped policy", insertShipped, id, "The policy that ships with the product", shippedBy, source, r.Content, evidence, revision, signed); err != nil {
		return nil, err
	}
	return read(ctx, tx, lockRelease, id)
}

// Served is a signed bundle as sidecars, and a stock OPA, fetch it.
type Served struct {
	Release  string
	Content  string
	Revision int64
	Bundle   []byte
}

// Named is the name under which the active release's bundle is served.
const Named = "chartgate"

// Bundle returns a signed bundle by the name Named, for the active one, by a
// release's id, or by its content.
func (s *Service) Bundle(ctx context.Context, name string) (Served, error) {
	var served Served
	err := postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		if name == Named {
			a, err := feed.ReadActivation(ctx, tx)
			if err != nil {
				return err
			}
			name = a.Active.Name
			if a.Serial == 0 {
				name = s.shipped.Revision
			}
		}
		err := tx.QueryRow(ctx, selectServed, name).Scan(&served.Release, &served.Content, &served.Revision, &served.Bundle)
		switch {
		case errors.Is(err, pgx.ErrNoRows) && name == s.shipped.Revision:
			served = Served{Release: Named, Content: s.shipped.Revision, Bundle: s.o.Shipped.Bundle}
		case errors.Is(err, pgx.ErrNoRows):
			return noRelease()
		case err != nil:
			return fmt.Errorf("read bundle: %w", err)
		}
		return nil
	})
	return served, err
}
