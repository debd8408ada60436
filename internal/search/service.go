package search

import (
	"context"
	"encoding/json"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Kind is what a search looks for (AuthZEN 8).
type Kind string

// What can be searched for.
const (
	Subjects  Kind = "subject"
	Resources Kind = "resource"
	Actions   Kind = "action"
)

// MaxResults is how many results a page has at most, and where nothing is said.
const MaxResults = 1000

// Service answers AuthZEN's searches beside a PDP: by the same policy, on facts
// of the same database. It is safe for concurrent use.
type Service struct {
	Pool       *pgxpool.Pool // reads the facts
	Deployment *feed.Deployment
	PDP        *pdp.PDP       // says which policy decides
	Facts      pdp.FactSource // for what is known of one subject and one resource
	Recorder   pdp.Recorder
}

// Search is one search.
type Search struct {
	Kind      Kind
	Request   authz.Request  // what each result is asked with; the id of what is searched for is empty
	Input     map[string]any // the question as it came, without its page: for a policy of one's own
	Token     string         // of the page before; "" for the first
	Limit     *int           // results at most; nil: MaxResults, or as before
	Caller    Caller
	RequestID string
}

// Found is a page of results.
type Found struct {
	Results  []string        // ids, or names of actions, in order
	Next     string          // token of the next page; "" at the end
	Refused  *authz.Decision // why there can be no result, where the question itself is at fault
	Entries  []authz.Verdict // what is on record of the page, one for each practice
	Revision string          // token of the facts
	Degraded string          // see authz.Facts
	Release  string          // the policy revision that the answer names
}

// hit is a result, and the practice it was found in.
type hit struct{ practice, id string }

// visited is one practice that a page looked at, and what its rows have in common.
type visited struct {
	practice string
	request  authz.Request
	facts    authz.Facts
	release  string // the policy revision that decided
}

// page is a page in the making.
type page struct {
	Search
	binding binding
	from    position
	limit   int // results that are shown: one more is looked for
	hits    []hit
	visited []visited
	cut     *hit // where the search stopped before its end, though the page is not full
	found   Found
}

// Do answers a search. An error is a *authz.Problem that the caller can act on,
// or matches authz.ErrUnavailable: then there is no answer.
func (s *Service) Do(ctx context.Context, q Search) (Found, error) {
	q.Request = q.Request.Clean()
	p, err := s.open(q)
	if err != nil {
		return Found{}, err
	}
	engine := s.PDP.Engine()
	switch {
	case engine.OwnPolicy():
		err = s.own(ctx, engine, p)
	case q.Kind == Actions:
		err = s.actions(ctx, p)
	default:
		err = inSnapshot(ctx, s.Pool, s.Deployment, func(at *snapshot) error {
			if err := at.atLeast(q.Request.Context.MinRevision); err != nil {
				return err
			}
			policies, err := s.PDP.Policies(ctx, at.activation) // after the snapshot began, as for a single check
			if err != nil {
				return err
			}
			p.found.Release, p.found.Revision = policies.Active().Revision(), s.Deployment.Token(at.at)
			look := &lookup{snapshot: at, policies: policies, page: p}
			if q.Kind == Subjects {
				return look.subjects(ctx)
			}
			return look.resources(ctx)
		})
	}
	if err != nil {
		return Found{}, err
	}
	if err := p.finish(); err != nil {
		return Found{}, err
	}
	if err := s.Recorder.Record(ctx, p.found.Entries...); err != nil {
		return Found{}, err
	}
	return p.found, nil
}

// question is a search as it is bound to tokens and put on record.
type question struct {
	Search   Kind           `json:"search"`
	Subject  authz.Subject  `json:"subject"`
	Action   string         `json:"action,omitempty"`
	Resource authz.Resource `json:"resource"`
	Purpose  string         `json:"purpose,omitempty"`
	Profile  string         `json:"portal_profile,omitempty"`
	Input    map[string]any `json:"input,omitempty"`
}

// open reads the token. All pages of a search have the same limit (AuthZEN 8.2.1);
// a page that leaves it out goes on with it.
func (s *Service) open(q Search) (*page, error) {
	r := q.Request
	asked := question{Search: q.Kind, Subject: r.Subject, Action: r.Action, Resource: r.Resource, Purpose: r.Context.Purpose, Profile: r.Context.PortalProfile}
	if s.PDP.Engine().OwnPolicy() {
		asked = question{Search: q.Kind, Input: q.Input}
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, fmt.Errorf("%w: question of a search: %w", authz.ErrMalformed, err)
	}
	p := &page{Search: q, limit: MaxResults}
	if p.binding, err = bind(s.Deployment, text, q.Caller, authz.Subject{}); err != nil {
		return nil, err
	}
	if p.from, err = p.binding.read(q.Token); err != nil {
		return nil, err
	}
	switch {
	case q.Token == "":
		p.from.Limit = q.Limit
	case q.Limit != nil && (p.from.Limit == nil || *p.from.Limit != *q.Limit):
		return nil, malformed("/page/limit", "page.limit must stay what it was when the search began")
	}
	if p.from.Limit != nil {
		p.limit = min(*p.from.Limit, MaxResults)
	}
	return p, nil
}

// left is how many more results are looked for: one more than is shown.
func (p *page) left() int { return p.limit + 1 - len(p.hits) }

// visit notes that the page looks at a practice, for which engine decides.
func (p *page) visit(r authz.Request, f authz.Facts, engine *pdp.Engine) {
	p.visited = append(p.visited, visited{f.Practice, r, f, engine.Revision()})
}

// name settles which revision the answer names: that of the active release, but
// where all that was found was found by a candidate, that one's. Where nothing
// was found the answer must not tell whether there was something (promise P8).
func (p *page) name() {
	for _, v := range p.visited {
		if len(p.hits) == 0 || v.release != p.visited[0].release {
			return
		}
	}
	if len(p.visited) > 0 {
		p.found.Release = p.visited[0].release
	}
}

// add adds a result.
func (p *page) add(practice, id string) { p.hits = append(p.hits, hit{practice, id}) }

// finish cuts the page, writes the token of the next one and the entries for the
// record.
func (p *page) finish() error {
	var last *hit
	if len(p.hits) > p.limit {
		p.hits = p.hits[:p.limit]
		if last = (&hit{p.from.Practice, p.from.ID}); p.limit > 0 {
			last = &p.hits[p.limit-1]
		}
	} else if p.cut != nil {
		last = p.cut
	}
	if last != nil {
		var err error
		if p.found.Next, err = p.binding.cursor(position{Practice: last.practice, ID: last.id, Limit: p.from.Limit}); err != nil {
			return err
		}
	}
	p.found.Results = make([]string, len(p.hits))
	byPractice := map[string][]string{}
	for i, h := range p.hits {
		p.found.Results[i] = h.id
		byPractice[h.practice] = append(byPractice[h.practice], h.id)
	}
	if len(p.visited) == 0 {
		p.visited = []visited{{request: p.Request, release: p.found.Release}}
	}
	p.name()
	for _, v := range p.visited {
		e, err := listed(v.request, v.facts, v.release, p.RequestID,
			entry{Question: p.binding.question, After: position{p.from.Practice, p.from.ID, nil}, Results: byPractice[v.practice], More: last != nil})
		if err != nil {
			return err
		}
		p.found.Entries = append(p.found.Entries, e)
	}
	return nil
}
