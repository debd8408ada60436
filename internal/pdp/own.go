package pdp

import (
	"context"
	"encoding/json"
	"fmt"

	"chartgate/internal/authz"
)

// Codes on record for a user's own bundle, which knows no codes of ours.
const (
	ownAllowed = "allowed"
	ownDenied  = "denied"
)

// DecideOwn answers with a user's own bundle: input goes to it as it came, no
// facts are added, and a boolean or {decision, context?} is expected; anything
// else is a denial (DESIGN 11, OPA paths). The record keeps input's digest.
func (p *PDP) DecideOwn(ctx context.Context, input map[string]any, requestID string) (authz.Verdict, error) {
	engine := p.engine.Load()
	raw, err := json.Marshal(input)
	if err != nil {
		return authz.Verdict{}, fmt.Errorf("%w: %w", authz.ErrMalformed, err)
	}
	v := authz.NewVerdict(askedBy(input), engine.Revision(), requestID)
	v.Input = raw
	result, _, err := engine.Query(ctx, engine.Decision(), input)
	if err != nil {
		return authz.Verdict{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	v.Exact.Allow, v.Context = readOwn(result)
	v.Exact.Code = ownDenied
	if v.Exact.Allow {
		v.Exact.Code = ownAllowed
	}
	v.Shown = v.Exact
	if err := p.recorder.Record(ctx, v); err != nil {
		return authz.Verdict{}, err
	}
	return v, nil
}

// readOwn reads the decision of a user's own bundle.
func readOwn(result any) (bool, map[string]any) {
	switch r := result.(type) {
	case bool:
		return r, nil
	case map[string]any:
		allow, _ := r["decision"].(bool)
		context, _ := r["context"].(map[string]any)
		return allow, context
	}
	return false, nil
}

// askedBy reads, for the record only, what an AuthZEN-shaped input asks.
func askedBy(input map[string]any) authz.Request {
	member := func(name, part string) string {
		m, _ := input[name].(map[string]any)
		s, _ := m[part].(string)
		return s
	}
	return authz.Request{
		Subject:  authz.Subject{Type: member("subject", "type"), ID: member("subject", "id")},
		Action:   member("action", "name"),
		Resource: authz.Resource{Type: member("resource", "type"), ID: member("resource", "id")},
	}
}
