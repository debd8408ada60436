package pdp

import (
	"context"
	"encoding/json"
	"fmt"

	"chartgate/internal/authz"
)

// Codes on record for a user's own bundle, which knows no codes of ours.
const (
	ownAllowed   = "allowed"
	ownDenied    = "denied"
	ownEvaluated = "evaluated" // a document that is no decision was asked for
)

// DecideOwn answers with a user's own bundle: input goes to it as it came, no
// facts are added, and a boolean or {decision, context?} is expected; anything
// else is a denial (DESIGN 11, OPA paths). The record keeps input's digest.
func (p *PDP) DecideOwn(ctx context.Context, input map[string]any, requestID string) (authz.Verdict, error) {
	v, err := p.judgeOwn(ctx, input, requestID)
	if err != nil {
		return v, err
	}
	if err := p.recorder.Record(ctx, v); err != nil {
		return authz.Verdict{}, err
	}
	return v, nil
}

func (p *PDP) judgeOwn(ctx context.Context, input map[string]any, requestID string) (authz.Verdict, error) {
	engine := p.Engine()
	v, result, _, err := askOwn(ctx, engine, engine.Decision(), input, requestID)
	if err != nil {
		return v, err
	}
	v.Exact.Allow, v.Context = readOwn(result)
	v.Exact.Code = ownDenied
	if v.Exact.Allow {
		v.Exact.Code = ownAllowed
	}
	v.Shown = v.Exact
	return v, nil
}

// EvaluateOwn decides on an input with a user's own bundle, as DecideOwn does,
// and puts nothing on record: for searches, which record what they list.
func (e *Engine) EvaluateOwn(ctx context.Context, input map[string]any) (bool, error) {
	result, _, err := e.Query(ctx, e.decision, input)
	if err != nil {
		return false, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	allow, _ := readOwn(result)
	return allow, nil
}

// QueryOwn evaluates any document of a user's own bundle, as OPA's data API
// does, and puts that on record: as an allow where the document is true, or a
// decision that is. False means that the document is undefined.
func (p *PDP) QueryOwn(ctx context.Context, path string, input any, requestID string) (result any, defined bool, v authz.Verdict, err error) {
	v, result, defined, err = askOwn(ctx, p.Engine(), path, input, requestID)
	if err != nil {
		return nil, false, v, err
	}
	v.Exact.Allow, _ = readOwn(result)
	switch _, boolean := result.(bool); {
	case v.Exact.Allow:
		v.Exact.Code = ownAllowed
	case boolean, !defined:
		v.Exact.Code = ownDenied
	default:
		v.Exact.Code = ownEvaluated
	}
	v.Shown = v.Exact
	if err := p.recorder.Record(ctx, v); err != nil {
		return nil, false, authz.Verdict{}, err
	}
	return result, defined, v, nil
}

// askOwn evaluates one document of a user's own bundle. The verdict denies.
func askOwn(ctx context.Context, engine *Engine, path string, input any, requestID string) (authz.Verdict, any, bool, error) {
	v := authz.NewVerdict(askedBy(input), engine.Revision(), requestID)
	raw, err := json.Marshal(input)
	if err != nil {
		return v, nil, false, fmt.Errorf("%w: %w", authz.ErrMalformed, err)
	}
	v.Input = raw
	result, defined, err := engine.Query(ctx, path, input)
	if err != nil {
		return v, nil, false, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	return v, result, defined, nil
}

// readOwn reads the decision of a user's own bundle.
func readOwn(result any) (bool, map[string]any) {
	switch r := result.(type) {
	case bool:
		return r, nil
	case map[string]any:
		allow, _ := r["decision"].(bool)
		context, ok := r["context"].(map[string]any)
		if !ok && r["context"] != nil {
			return false, nil
		}
		return allow, context
	}
	return false, nil
}

// askedBy reads, for the record only, what an AuthZEN-shaped input asks.
func askedBy(input any) authz.Request {
	members, _ := input.(map[string]any)
	member := func(name, part string) string {
		m, _ := members[name].(map[string]any)
		s, _ := m[part].(string)
		return s
	}
	return authz.Request{
		Subject:  authz.Subject{Type: member("subject", "type"), ID: member("subject", "id")},
		Action:   member("action", "name"),
		Resource: authz.Resource{Type: member("resource", "type"), ID: member("resource", "id")},
	}
}
