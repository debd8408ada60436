package search

import (
	"context"
	"fmt"

	"chartgate/internal/authz"
)

// actions finds what the subject may do to the resource: every action that the
// policy knows is decided, on one set of facts.
func (s *Service) actions(ctx context.Context, p *page) error {
	r := p.Request
	r.Action = ""
	f, err := s.Facts.Facts(ctx, r)
	if err != nil {
		return err
	}
	policies, err := s.PDP.Policies(ctx, f.Activation) // after the facts, as for a single check
	if err != nil {
		return err
	}
	p.found.Release, p.found.Revision, p.found.Degraded = policies.Active().Revision(), f.Revision, f.Degraded
	if f.Practice != "" && !p.Caller.Scope.Covers(f.Practice) {
		f = f.Hidden()
	}
	engine := policies.In(f.Practice)
	p.visit(r, f, engine)
	names, err := engine.Actions(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name <= p.from.ID {
			continue
		}
		if p.left() == 0 {
			return nil
		}
		r.Action = name
		d, err := engine.Evaluate(ctx, r, f)
		if err != nil {
			return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		}
		if d.Allow {
			p.add(f.Practice, name)
		}
	}
	return nil
}
