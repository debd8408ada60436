package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5"
)

const (
	maxPast  = 4                // policies of past moments that are kept compiled
	pastWait = 12 * time.Second // for one that is being compiled
)

// PolicyAt returns the policy that decided for a practice at a past moment, or
// that decides for it now where that is zero (DOMAIN rule 117). It is the
// active release's, or a candidate's for its share of the practices; before the
// first activation, and where nothing follows an activation, it is the policy
// that came with the program then. What decided is read from the change records
// of activations, and without any from the decisions on record.
//
// An error is a *authz.Problem and says why that policy cannot be had: another
// one is never returned instead. Run must be running: it compiles.
func (s *Service) PolicyAt(ctx context.Context, practice string, at time.Time) (*pdp.Engine, error) {
	if at.IsZero() {
		return s.policyNow(ctx, practice)
	}
	if s.o.Fixed != nil {
		return s.cameWith(ctx, at, time.Time{}, s.o.Fixed.Revision())
	}
	course, err := s.readCourse(ctx)
	if err != nil {
		return nil, err
	}
	a, first, err := course.at(at)
	switch {
	case err != nil:
		return nil, err
	case a.Active.Content != "":
		return s.engineOf(ctx, course.activation, pdp.ReleaseFor(a, practice))
	case first.after != nil:
		return s.cameWith(ctx, at, first.at, first.after.Content)
	}
	return s.cameWith(ctx, at, time.Time{}, s.shipped.Revision)
}

func (s *Service) policyNow(ctx context.Context, practice string) (*pdp.Engine, error) {
	if s.o.Fixed != nil {
		return s.o.Fixed, nil
	}
	a, err := feed.ReadActivation(ctx, s.o.Pool)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	if r := pdp.ReleaseFor(a, practice); r != a.Active {
		return s.engineOf(ctx, a, r)
	}
	return s.engines.In(ctx, s.o.Pool, false)
}

// cameWith returns the policy that came with the program and decided at a moment
// before any activation, of which no change record tells: the decisions on
// record around it do, or what followed at until, zero for now.
func (s *Service) cameWith(ctx context.Context, at, until time.Time, followed string) (*pdp.Engine, error) {
	if until.IsZero() {
		until = authz.NoEnd
	}
	var before, after string
	if err := s.o.Pool.QueryRow(ctx, selectDecidedAround, at, until).Scan(&before, &after); err != nil {
		return nil, fmt.Errorf("%w: what decided then: %w", authz.ErrUnavailable, err)
	}
	if after == "" {
		after = followed
	}
	if before != "" && before != after {
		return nil, unknownThen(fmt.Sprintf("no release was active, and the policy that came with the program was replaced about then: "+
			"%s decided before it, %s after. Ask about a moment further from it", before, after))
	}
	return s.engineOf(ctx, feed.Activation{}, feed.Release{Content: after})
}

// engineOf returns the engine of a release; one without a name is any that has
// its content. What is active need not be loaded again.
func (s *Service) engineOf(ctx context.Context, now feed.Activation, r feed.Release) (*pdp.Engine, error) {
	switch {
	case s.o.Fixed != nil && r.Content == s.o.Fixed.Revision():
		return s.o.Fixed, nil
	case r.Content == s.shipped.Revision:
		return s.engines.shipped, nil
	case r.Content == now.Active.Content:
		if engine := s.engines.known(r.Content); engine != nil {
			return engine, nil
		}
	}
	return s.past.get(ctx, s, r)
}

// past are policies of past moments, compiled. What cannot be had is not kept.
type past struct {
	mu    sync.Mutex
	held  []*compiled // last used last
	queue chan *compiled
}

// compiled is a policy that is compiled, or is being.
type compiled struct {
	content string
	bundle  *pdp.Bundle
	done    chan struct{}
	engine  *pdp.Engine // once done
	err     error
}

func newPast() *past { return &past{queue: make(chan *compiled, maxPast)} }

// get returns the engine of a release, and waits a little for it.
func (p *past) get(ctx context.Context, s *Service, r feed.Release) (*pdp.Engine, error) {
	c := p.use(r.Content)
	if c == nil {
		bundle, err := s.trusted(ctx, r)
		if err != nil {
			return nil, err
		}
		made := s.engines.known(r.Content)
		if made != nil && made.Program() == nil {
			made = nil // it is not certified, and may never be
		}
		if c, err = p.begin(r.Content, bundle, made); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pastWait)
	defer cancel()
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, pastProblem(r, "is being compiled: try again")
	}
	if c.err != nil {
		return nil, pastProblem(r, "does not load in this version of the program: "+c.err.Error())
	}
	return c.engine, nil
}

// use finds a policy among those that are kept; nil if it is not there.
func (p *past) use(content string) *compiled {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range p.held {
		if c.content == content {
			p.held = append(slices.Delete(p.held, i, i+1), c)
			return c
		}
	}
	return nil
}

// begin has a policy compiled, unless that was done before, as made, or somebody
// was quicker.
func (p *past) begin(content string, bundle *pdp.Bundle, made *pdp.Engine) (*compiled, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.held {
		if c.content == content {
			return c, nil
		}
	}
	c := &compiled{content: content, bundle: bundle, done: make(chan struct{})}
	if made != nil {
		c.engine, c.bundle = made, nil
		close(c.done)
		return p.hold(c), nil
	}
	select {
	case p.queue <- c:
	default:
		return nil, pastProblem(feed.Release{Content: content}, "must wait for others that are being compiled: try again")
	}
	return p.hold(c), nil
}

// hold keeps c, and forgets what was not used for longest. The lock is held.
func (p *past) hold(c *compiled) *compiled {
	if p.held = append(p.held, c); len(p.held) > maxPast {
		p.held = p.held[1:]
	}
	return c
}

// run compiles, one after the other, until ctx ends.
func (p *past) run(ctx context.Context, certify func(context.Context, *pdp.Engine)) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-p.queue:
			if c.engine, c.err = pdp.NewChecked(ctx, c.bundle); c.err != nil {
				p.mu.Lock()
				p.held = slices.DeleteFunc(p.held, func(held *compiled) bool { return held == c })
				p.mu.Unlock()
			} else if certify != nil {
				certify(ctx, c.engine)
			}
			c.bundle = nil
			close(c.done)
		}
	}
}

// trusted reads the bundle of a release, which must be there, whole, and signed
// by a key that is trusted here.
func (s *Service) trusted(ctx context.Context, r feed.Release) (*pdp.Bundle, error) {
	var raw []byte
	stored := r
	err := s.o.Pool.QueryRow(ctx, selectBundleOf, r.Name, r.Content).Scan(&stored.Name, &stored.Content, &stored.Revision, &raw)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && r.Name == "":
		return nil, pastProblem(r, "came with another version of the program and is kept nowhere here, so what it would have said cannot be known")
	case errors.Is(err, pgx.ErrNoRows):
		return nil, pastProblem(r, "is not among the releases any more")
	case err != nil:
		return nil, fmt.Errorf("%w: bundle of %s: %w", authz.ErrUnavailable, r.Name, err)
	}
	b, seal, err := pdp.ReadSigned(raw, s.keys, s.o.Deployment)
	switch {
	case err != nil:
		return nil, pastProblem(stored, "cannot be trusted: "+err.Error()+". Where it was signed with an earlier key, give control its public half (--policy-key)")
	case seal.Release != stored.Name || seal.Content != r.Content:
		return nil, pastProblem(stored, fmt.Sprintf("cannot be trusted: its bundle is that of release %s, %s", seal.Release, seal.Content))
	}
	return b, nil
}

// pastProblem refuses a moment whose policy cannot be had.
func pastProblem(r feed.Release, why string) error {
	name := ""
	if r.Name != "" {
		name = " of release " + r.Name
	}
	return &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide",
		Detail: fmt.Sprintf("the policy that decided at that moment, %s%s, %s", r.Content, name, why)}
}
