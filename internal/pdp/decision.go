package pdp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"chartgate/internal/authz"
)

// readDecision reads what the policy answered. Anything but a whole, consistent
// decision is an error, so that a broken policy cannot answer (promise P1).
func readDecision(result any) (authz.Decision, error) {
	m, ok := result.(map[string]any)
	if !ok {
		return authz.Decision{}, errors.New("the policy's decision is no object")
	}
	var d authz.Decision
	allow, ok := m["allow"].(bool)
	if !ok {
		return d, errors.New("the policy's decision has no boolean allow")
	}
	if d.Code, ok = m["code"].(string); !ok || d.Code == "" {
		return d, errors.New("the policy's decision has no code")
	}
	list, ok := m["bases"].([]any)
	if !ok {
		return d, errors.New("the policy's decision has no list of bases")
	}
	d.Bases = make([]string, len(list))
	for i, item := range list {
		if d.Bases[i], ok = item.(string); !ok {
			return authz.Decision{}, errors.New("the policy's decision has a basis that is no text")
		}
	}
	if allow != (len(d.Bases) > 0) {
		return authz.Decision{}, fmt.Errorf("the policy's decision is allow=%v with %d bases", allow, len(d.Bases))
	}
	d.ReasonAdmin, d.ReasonUser = sentence(m["reason_admin"]), sentence(m["reason_user"])
	if until, ok := m["valid_until"]; ok {
		text, _ := until.(string)
		t, err := time.Parse(authz.TimeLayout, text)
		if err != nil {
			return authz.Decision{}, errors.New("the policy's decision has a valid_until that is no time")
		}
		d.ValidUntil = &t
	}
	d.Allow = allow
	return d, nil
}

func sentence(v any) string {
	m, _ := v.(map[string]any)
	s, _ := m["en"].(string)
	return s
}

// Shown returns what may be answered: where the subject may not know that the
// client exists (staff who may not list it, a portal login that may not enter
// its profile), every refusal but the two that rest on the request alone is
// no_basis, so that a client he may not see and one that does not exist look
// the same (promise P8; DOMAIN rules 105, 114).
func (e *Engine) Shown(ctx context.Context, r authz.Request, f authz.Facts, exact authz.Decision) (authz.Decision, error) {
	return e.shown(ctx, &r, &f, exact, new(authz.Span))
}

func (e *Engine) shown(ctx context.Context, r *authz.Request, f *authz.Facts, exact authz.Decision, span *authz.Span) (authz.Decision, error) {
	switch {
	case exact.Allow, exact.Code == authz.CodeUnknownAction, exact.Code == authz.CodeBadInput, exact.Code == authz.CodeNoBasis:
		return exact, nil
	case r.Resource.Client() == "":
		return exact, nil
	}
	if may, err := e.mayKnow(ctx, r, f, span); err != nil || may {
		return exact, err
	}
	return e.noBasis, nil
}

// mayKnow reports whether the subject may know of the client that r is about.
func (e *Engine) mayKnow(ctx context.Context, r *authz.Request, f *authz.Facts, span *authz.Span) (bool, error) {
	list := *r
	list.Action = authz.ActionClientList
	if r.Subject.Type == authz.SubjectPortal {
		list.Action = authz.ActionPortalEnter
	}
	list.Resource = authz.Resource{Type: authz.ResourceClient, ID: r.Resource.Client()}
	if practice, sent := r.Resource.Properties["practice"]; sent {
		list.Resource.Properties = authz.Properties{"practice": practice}
	}
	may, err := e.evaluate(ctx, &list, f, span)
	return may.Allow, err
}

// readNoBasis reads the sentences of a plain refusal from the policy's tables.
func (e *Engine) readNoBasis(ctx context.Context) (authz.Decision, error) {
	d := authz.Decision{Code: authz.CodeNoBasis, Bases: []string{}}
	result, defined, err := e.Query(ctx, "data.tables.reasons."+authz.CodeNoBasis, nil)
	if err != nil {
		return d, fmt.Errorf("bundle: sentences of %s: %w", authz.CodeNoBasis, err)
	}
	if defined {
		m, _ := result.(map[string]any)
		d.ReasonAdmin, _ = m["admin"].(string)
		d.ReasonUser, _ = m["user"].(string)
	}
	return d, nil
}
