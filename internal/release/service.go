package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Options are what the life cycle of releases is made of.
type Options struct {
	Pool       *pgxpool.Pool // in the role of control
	Deployment string        // whose releases these are: the database's id
	Signer     *Signer       // nil: drafts and their steps only
	Shipped    Shipped
	Steps      []Gate
	// Settle returns once no sidecar can answer any more by what a transaction
	// that committed before the call took away (promise P2).
	Settle func(ctx context.Context) error
	// Certify lets a program decide and make lists where it can; nil: OPA decides.
	Certify func(context.Context, *pdp.Engine)
	Log     *slog.Logger
	// Keys are those of releases that were signed before: Signer's own is one of
	// them. Nil: Signer's alone.
	Keys *pdp.Keys
	// Fixed decides, here and in every sidecar, whatever is activated; nil: the
	// release that is active does.
	Fixed *pdp.Engine

	Patience time.Duration // how long sidecars may take to have a candidate ready; 0: 30 s
}

// Shipped is the policy that ships with the product.
type Shipped struct {
	Bundle []byte // signed by its single signer
	Source Source
	Engine *pdp.Engine // of Bundle; nil: NewService makes one
}

// Service is the life of releases, from a draft to what decides and back. Each
// method is one call: it locks what it rests on, asks the table of transitions,
// changes, and leaves a change record in the same transaction. Errors that a
// caller can act on are *authz.Problem.
type Service struct {
	o       Options
	shipped *pdp.Bundle
	jobs    *jobs
	engines *Engines
	looks   *Engines // for the steps: of drafts too
	past    *past    // for lists as of a past moment
	keys    *pdp.Keys
	course  atomic.Pointer[course]
}

// NewService returns the life cycle on a migrated database. Run must run beside it.
func NewService(ctx context.Context, o Options) (*Service, error) {
	if o.Pool == nil || o.Deployment == "" || o.Settle == nil || len(o.Shipped.Bundle) == 0 {
		return nil, errors.New("releases need a pool, a deployment, the shipped bundle and a way to settle changes")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second // they certify it, which takes seconds of a processor
	}
	shipped, err := pdp.ReadArchive(o.Shipped.Bundle)
	if err != nil {
		return nil, fmt.Errorf("shipped policy: %w", err)
	}
	if o.Shipped.Engine == nil {
		if o.Shipped.Engine, err = pdp.NewEngine(ctx, shipped, pdp.DecisionPath); err != nil {
			return nil, fmt.Errorf("shipped policy: %w", err)
		}
	}
	s := &Service{o: o, shipped: shipped, jobs: newJobs(), engines: NewEngines(o.Shipped.Engine), looks: NewEngines(o.Shipped.Engine), past: newPast()}
	s.engines.beside = s.looks
	if s.keys = o.Keys; s.keys == nil && o.Signer != nil {
		public, err := o.Signer.Public()
		if err != nil {
			return nil, err
		}
		if s.keys, err = pdp.ReadKeys(public); err != nil {
			return nil, err
		}
	}
	if s.keys == nil {
		s.keys = &pdp.Keys{}
	}
	return s, nil
}

// Engines are the policies that decide about control's own changes.
func (s *Service) Engines() *Engines { return s.engines }

// Steps are the names of the steps, in their order.
func (s *Service) Steps() []Gate { return s.o.Steps }
