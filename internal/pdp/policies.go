package pdp

import (
	"context"
	"hash/fnv"
	"math"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
)

// Policies is who decides as of one activation. It is immutable; a decision
// takes it once, and a batch once for all of its questions.
type Policies struct {
	activation feed.Activation
	active     *Engine
	candidate  *Engine // nil: there is none, or it is not loaded and decides nothing
	trial      *trial  // nil: nobody compares the two
}

// fixed never gives way to an activation: a user's own bundle, and tests.
func fixed(engine *Engine) *Policies {
	return &Policies{activation: feed.Activation{Serial: math.MaxInt64}, active: engine}
}

// of picks who decides: the candidate for its share of the practices, else the
// active release. A practice that the resource itself names counts whether it
// exists or not, so that the choice tells nobody.
func (s *Policies) of(r *authz.Request, f *authz.Facts) *Engine {
	if s.activation.Share > 0 && r.Resource.Client() == "" {
		return s.In(r.Resource.Practice())
	}
	return s.In(f.Practice)
}

// Active returns the engine of the release that is active.
func (s *Policies) Active() *Engine { return s.active }

// Deciding returns every engine that decides for some practice.
func (s *Policies) Deciding() []*Engine {
	if s.activation.Share == 0 || s.candidate == nil {
		return []*Engine{s.active}
	}
	return []*Engine{s.active, s.candidate}
}

// In returns the engine that decides for a practice; "" stands for none.
func (s *Policies) In(practice string) *Engine {
	if s.activation.Share == 0 || s.candidate == nil || practice == "" || shareOf(practice) >= s.activation.Share {
		return s.active
	}
	return s.candidate
}

// ReleaseFor returns the release that decides for a practice as of an activation,
// by the rule of Policies.In.
func ReleaseFor(a feed.Activation, practice string) feed.Release {
	if a.Stage != feed.StageShare || practice == "" || shareOf(practice) >= a.Share {
		return a.Active
	}
	return a.Candidate
}

// shareOf puts a practice at one of a hundred places, always the same.
func shareOf(practice string) int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(practice))
	return int(h.Sum64() % 100)
}

// shown returns what may be answered where engine decided exact, and the
// revision that the answer names. Nobody has decided for the practice of a
// client that does not exist, so where the candidate decided on one that the
// subject may not know of, the answer is that of the active release for a client
// that does not exist (promise P8).
func (s *Policies) shown(ctx context.Context, engine *Engine, r *authz.Request, f *authz.Facts, exact authz.Decision, span *authz.Span) (authz.Decision, string, error) {
	if engine == s.active || exact.Allow || r.Resource.Client() == "" {
		shown, err := engine.shown(ctx, r, f, exact, span)
		return shown, engine.Revision(), err
	}
	may, err := engine.mayKnow(ctx, r, f, span)
	if err != nil || may {
		return exact, engine.Revision(), err
	}
	nothing := f.Hidden()
	if exact, err = s.active.evaluate(ctx, r, &nothing, span); err != nil {
		return exact, "", err
	}
	shown, err := s.active.shown(ctx, r, &nothing, exact, span)
	return shown, s.active.Revision(), err
}
