package pdp

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
)

// Unfilterable says why no filter can be made: of the request as it came, or of
// the policy, with the place in it.
type Unfilterable struct {
	Faults []Fault
}

func (u *Unfilterable) Error() string {
	if len(u.Faults) == 0 {
		return "no filter can be made of this"
	}
	return u.Faults[0].Message
}

// codeFragment is OPA's code for what cannot be turned into a filter.
const codeFragment = "pe_fragment_error"

// ClientsQuestion asks for the clients of a practice on which somebody may do
// something, as a condition on the rows of clients.
type ClientsQuestion struct {
	Request  authz.Request // as one check would ask it; which client is left open
	Practice string
	Alias    string // what the table of clients is called in the condition
	Asked    []byte // the call, of which the record keeps a digest
}

// FilterClients answers q with the shipped policy's own SQL (promise P4), and
// puts that on record as one entry, code "listed": who asked for what, the facts
// that all rows have in common, the release, and a digest of the call. A
// practice that the caller may not ask about, and one that does not exist, have
// no clients (promises P5, P8). The condition holds for the moment at which it
// was made: it is to be run at once, and asked for again the next time.
func (p *PDP) FilterClients(ctx context.Context, scope Scope, q ClientsQuestion, requestID string) (compile.Filter, authz.Verdict, error) {
	r := q.Request
	r.Resource = authz.Resource{Type: authz.ResourcePractice, ID: q.Practice}
	facts, err := p.facts.Facts(ctx, r.Clean())
	v := authz.NewVerdict(q.Request, p.Engine().Revision(), requestID)
	if err != nil {
		return compile.Filter{}, v, err
	}
	set, err := p.releases.at(ctx, facts.Activation) // after the facts, as in judge
	if err != nil {
		return compile.Filter{}, v, err
	}
	engine := set.In(q.Practice)
	v.Release, v.Named = engine.Revision(), engine.Revision()
	if !scope.Covers(q.Practice) {
		facts = facts.Hidden()
	}
	v.Facts, v.Input = facts, q.Asked
	v.Exact = authz.Decision{Code: authz.CodeListed, Bases: []string{}}
	v.Shown = v.Exact
	filter, err := engine.filterClients(ctx, v.Request, facts, q.Alias)
	if err != nil {
		return compile.Filter{}, v, err
	}
	if err := p.recorder.Record(ctx, v); err != nil {
		return compile.Filter{}, v, err
	}
	return filter, v, nil
}

func (e *Engine) filterClients(ctx context.Context, r authz.Request, f authz.Facts, alias string) (compile.Filter, error) {
	lists, err := e.Lists()
	if err != nil {
		return compile.Filter{}, err
	}
	if r.Resource.Type != authz.ResourceClient {
		r.Resource.ID = r.Resource.Type // which note or document it is does not matter
	}
	if err := e.checkListed(ctx, r); err != nil {
		return compile.Filter{}, err
	}
	listing := compile.Listing{Request: r, Facts: f, Limit: 1}
	if f.Practice == "" {
		// What is wrong with the question is told, whether there is a practice or not.
		listing.Facts.Practice = "practice"
		if listing.Facts.Settings, err = authz.NewSettings(authz.DefaultPreset, nil); err != nil {
			return compile.Filter{}, fmt.Errorf("filter: %w", err)
		}
	}
	filter, err := lists.ClientsText(listing, alias)
	var u *compile.Untranslatable
	switch {
	case errors.As(err, &u):
		return filter, &Unfilterable{Faults: []Fault{untranslated(u)}}
	case err == nil && f.Practice == "":
		return compile.Filter{Never: true}, nil
	}
	return filter, err
}

func untranslated(u *compile.Untranslatable) Fault {
	fault := Fault{Code: codeFragment, Message: u.Error()}
	if u.File != "" {
		fault.Location = &Location{File: u.File, Row: u.Line}
	}
	return fault
}

// checkListed refuses a question that the policy refuses for every client,
// whatever the facts: no rows would hide that.
func (e *Engine) checkListed(ctx context.Context, r authz.Request) error {
	if r.Resource.Type == authz.ResourceClient {
		r.Resource.ID = "client"
	} else if r.Resource.Properties != nil {
		r.Resource.Properties = maps.Clone(r.Resource.Properties)
		r.Resource.Properties["client"] = "client"
	}
	d, err := e.Evaluate(ctx, r, authz.Facts{})
	if err != nil {
		return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	if d.Code != authz.CodeBadInput && d.Code != authz.CodeUnknownAction {
		return nil
	}
	return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: d.ReasonUser +
		" A filter needs input.subject {type, id}, input.action {name} and input.resource {type, properties} as one check has them, without the client's id."}
}
