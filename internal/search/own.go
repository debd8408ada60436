package search

import (
	"context"
	"fmt"
	"maps"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
)

// maxTries is how many questions of a policy of one's own one page asks. A page
// that stops there says so by its token.
const maxTries = 2000

// own searches with a policy of one's own: what its data name is asked about,
// one by one, and kept where the answer is yes. The searched entity has the
// properties that the question gives it, else those of the data.
func (s *Service) own(ctx context.Context, engine *pdp.Engine, p *page) error {
	p.found.Release = engine.Revision()
	var candidates []pdp.Entity
	var err error
	if p.Kind == Actions {
		var names []string
		if names, err = engine.ActionsOn(ctx, p.Request.Resource.Type); err != nil {
			return err
		}
		for _, name := range names {
			candidates = append(candidates, pdp.Entity{ID: name})
		}
	} else if candidates, err = engine.Entities(ctx, p.searchedType()); err != nil {
		return err
	}
	tries := 0
	for _, candidate := range candidates {
		if candidate.ID <= p.from.ID {
			continue
		}
		if p.left() == 0 {
			return nil
		}
		allow, err := engine.EvaluateOwn(ctx, p.input(candidate))
		if err != nil {
			return err
		}
		if allow {
			p.add("", candidate.ID)
		}
		if tries++; tries == maxTries {
			p.cut = &hit{id: candidate.ID}
			break
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, ctx.Err())
	}
	return nil
}

func (p *page) searchedType() string {
	if p.Kind == Subjects {
		return p.Request.Subject.Type
	}
	return p.Request.Resource.Type
}

// input is the question of one candidate, as a single evaluation would put it.
func (p *page) input(candidate pdp.Entity) map[string]any {
	input := maps.Clone(p.Input)
	if p.Kind == Actions {
		input["action"] = map[string]any{"name": candidate.ID}
		return input
	}
	before, _ := input[string(p.Kind)].(map[string]any)
	entity := maps.Clone(before)
	if entity == nil {
		entity = map[string]any{}
	}
	entity["id"] = candidate.ID
	if _, said := entity["properties"]; !said && candidate.Properties != nil {
		entity["properties"] = candidate.Properties
	}
	input[string(p.Kind)] = entity
	return input
}
