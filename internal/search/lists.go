package search

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"
	"chartgate/internal/feed"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Actions that say who may see a list (DESIGN 11).
const (
	actionMemberList = "member.list"
	actionAccess     = "access.manage"
)

// Authority answers "may I?" on the facts that tx sees. A denial is a verdict;
// an error means that it could not decide.
type Authority interface {
	May(ctx context.Context, tx pgx.Tx, r authz.Request) (authz.Verdict, error)
	// Listed takes the entry of a page, which is on record before the page leaves.
	Listed(v authz.Verdict)
}

// Lists makes lists for the people of a practice. It keeps no state of its own.
type Lists struct {
	Pool       *pgxpool.Pool
	Deployment *feed.Deployment
	Authority  Authority
	Policy     Policy // says who may see what
	// PolicyAt is the policy that decided for a practice at a past moment, or does
	// now where that is zero: what is listed is by it. Without it that is Policy,
	// and a moment before the last activation is refused.
	PolicyAt func(ctx context.Context, practice string, at time.Time) (Policy, error)
}

// Question is what is asked of each row of a list.
type Question struct {
	Action     string
	Properties authz.Properties // of the note or document that is asked about, without its client
	AsOf       time.Time        // a past moment; zero: now
	Cursor     string
	Limit      int
}

// asked is a question as it is bound to cursors and put on record: all but the
// size of the page.
type asked struct {
	List       string           `json:"list"`
	Practice   string           `json:"practice"`
	Of         string           `json:"of"` // the user, or the client
	Action     string           `json:"action"`
	Properties authz.Properties `json:"properties,omitempty"`
	AsOf       string           `json:"as_of,omitempty"`
}

// call is a list being made.
type call struct {
	*Lists
	actor    authz.Subject
	practice string
	q        Question
	policy   Policy // of the moment that is asked about
	lists    *compile.Policy
	binding  binding
	after    position
	snapshot *snapshot
}

// begin reads what is asked, before anybody is let in: what is wrong with the
// question alone is told to everyone.
func (l *Lists) begin(ctx context.Context, caller Caller, actor authz.Subject, list, practice, of string, q Question) (*call, error) {
	c := &call{Lists: l, actor: actor, practice: practice, q: q, policy: l.Policy}
	a := asked{List: list, Practice: practice, Of: of, Action: q.Action, Properties: q.Properties}
	if !q.AsOf.IsZero() {
		c.q.AsOf = q.AsOf.UTC().Truncate(time.Microsecond)
		a.AsOf = authz.FormatTime(c.q.AsOf)
	}
	var err error
	if l.PolicyAt != nil {
		if c.policy, err = l.PolicyAt(ctx, practice, c.q.AsOf); err != nil {
			return nil, err
		}
	}
	if c.lists, err = formulas(c.policy); err != nil {
		return nil, err
	}
	if err := c.check(ctx); err != nil {
		return nil, err
	}
	question, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("question of a list: %w", err)
	}
	if c.binding, err = bind(l.Deployment, question, caller, actor); err != nil {
		return nil, err
	}
	c.after, err = c.binding.read(q.Cursor)
	return c, err
}

// needed is what must be said of a note or a document, which Chartgate does not
// keep, for the policy to judge it.
var needed = map[string]string{
	authz.ResourceNote:     "kind, author, and signed (true or false)",
	authz.ResourceDocument: "kind and recipient",
}

// check refuses a question that the policy would refuse for every row, whatever
// the facts: an empty list would hide that.
func (c *call) check(ctx context.Context) error {
	a := c.lists.Actions[c.q.Action]
	if a == nil || (a.On != authz.ResourceClient && needed[a.On] == "") {
		_, err := c.lists.Clients(compile.Listing{Request: authz.Request{Action: c.q.Action}})
		return err
	}
	d, err := c.policy.Evaluate(ctx, c.request(authz.Subject{Type: authz.SubjectUser, ID: "user"}, "client"), authz.Facts{})
	if err != nil {
		return unavailable("check the question", err)
	}
	if d.Code == authz.CodeBadInput {
		return malformed("/action", fmt.Sprintf("%s is asked about a %s, of which must be said: %s", c.q.Action, a.On, needed[a.On]))
	}
	return nil
}

// request is what a row answers: client is "" where each row is another one.
func (c *call) request(subject authz.Subject, client string) authz.Request {
	on := c.lists.Actions[c.q.Action].On
	r := authz.Request{Subject: subject, Action: c.q.Action, Resource: authz.Resource{Type: on, ID: client}}
	if on == authz.ResourceClient {
		return r
	}
	r.Resource.ID, r.Resource.Properties = on, authz.Properties{}
	for name, v := range c.q.Properties {
		r.Resource.Properties[name] = v
	}
	if client != "" {
		r.Resource.Properties["client"] = client
	}
	return r
}

// facts reads what all rows have in common, of the moment that is asked about.
func (c *call) facts(ctx context.Context, user, client string) (authz.Facts, error) {
	if !c.q.AsOf.IsZero() {
		if c.PolicyAt == nil {
			var replaced bool
			if err := c.snapshot.tx.QueryRow(ctx, selectReplaced, c.q.AsOf).Scan(&replaced); err != nil {
				return authz.Facts{}, unavailable("read the activation", err)
			}
			if replaced {
				return authz.Facts{}, &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide",
					Detail: "the policy was replaced since that moment, and the one of then is not at hand"}
			}
		}
		return c.snapshot.then(ctx, c.q.AsOf, c.practice, user, client)
	}
	r := authz.Request{Subject: authz.Subject{Type: authz.SubjectUser, ID: user}, Resource: authz.Resource{Type: authz.ResourcePractice, ID: c.practice}}
	if client != "" {
		r.Resource = authz.Resource{Type: authz.ResourceClient, ID: client}
	}
	return c.snapshot.common(ctx, r)
}

// MemberClients returns a page of the clients on which user may do what is
// asked, of those that the actor may list himself, by id, and the cursor of the
// next page, "" at the end. Whoever is an active member sees his own list; that
// of another takes member.list.
func (l *Lists) MemberClients(ctx context.Context, caller Caller, actor authz.Subject, practice, user string, q Question) ([]Client, string, error) {
	c, err := l.begin(ctx, caller, actor, "clients", practice, user, q)
	if err != nil {
		return nil, "", err
	}
	var page []Client
	var next string
	err = inSnapshot(ctx, l.Pool, l.Deployment, func(s *snapshot) error {
		c.snapshot = s
		own, err := c.standing(ctx, user)
		if err != nil {
			return err
		}
		f, err := c.facts(ctx, user, "")
		if err != nil {
			return err
		}
		if page, err = c.visible(ctx, user, own, f); err != nil {
			return err
		}
		e := entry{Question: c.binding.question, After: c.after, More: len(page) > q.Limit}
		if e.More {
			page = page[:q.Limit]
			if next, err = c.binding.cursor(position{ID: page[q.Limit-1].ID}); err != nil {
				return err
			}
		}
		for _, row := range page {
			e.Results = append(e.Results, row.ID)
		}
		if err := c.record(authz.Resource{Type: authz.ResourceMember, ID: user}, f, e); err != nil {
			return err
		}
		return l.listed(authz.Request{Subject: actor, Action: authz.ActionClientList, Resource: authz.Resource{Type: authz.ResourceClient}}, own,
			asked{List: "visible clients", Practice: practice, Of: actor.ID, Action: authz.ActionClientList}, entry{Results: e.Results})
	})
	return page, next, err
}

// standing asks whether the actor may see the list of user, and returns what is
// known of the actor in the practice.
func (c *call) standing(ctx context.Context, user string) (authz.Facts, error) {
	onPractice := authz.Request{Subject: c.actor, Action: actionMemberList, Resource: authz.Resource{Type: authz.ResourcePractice, ID: c.practice}}
	own, err := c.snapshot.common(ctx, onPractice)
	if err != nil {
		return own, err
	}
	active := own.Member != nil && own.Member.Status == authz.MemberActive
	if c.actor.Type == authz.SubjectUser && c.actor.ID == user && active {
		return own, nil
	}
	v, err := c.Authority.May(ctx, c.snapshot.tx, onPractice)
	switch {
	case err != nil:
		return own, err
	case !v.Exact.Allow && !active:
		return own, notFound()
	case !v.Exact.Allow:
		return own, notAllowed(v.Exact.ReasonUser)
	}
	var known bool
	if err := c.snapshot.tx.QueryRow(ctx, selectMember, c.practice, user).Scan(&known); err != nil {
		return own, unavailable("read member", err)
	}
	if !known {
		return own, notFound()
	}
	return own, nil
}

// visible reads one row more than a page of the clients of f's member, leaving
// out those that the actor may not list now (promise P8).
func (c *call) visible(ctx context.Context, user string, own, f authz.Facts) ([]Client, error) {
	if f.Settings == nil {
		return nil, nil // there was no such practice then
	}
	now, err := formulas(c.Policy)
	if err != nil {
		return nil, err
	}
	seen := compile.Listing{Request: authz.Request{Subject: c.actor, Action: authz.ActionClientList, Resource: authz.Resource{Type: authz.ResourceClient}}, Facts: own}
	l := compile.Listing{Request: c.request(authz.Subject{Type: authz.SubjectUser, ID: user}, ""), Facts: f,
		AsOf: c.q.AsOf, After: c.after.ID, Limit: c.q.Limit + 1}
	var page []Client
	for {
		rows, err := c.snapshot.clients(ctx, c.lists, l)
		if err != nil {
			return nil, err
		}
		ids := make([]string, len(rows))
		for i, row := range rows {
			ids[i] = row.ID
		}
		may, err := c.snapshot.among(ctx, now, seen, ids)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if may[row.ID] {
				page = append(page, row)
			}
		}
		if len(page) >= l.Limit || len(rows) < l.Limit {
			return page[:min(len(page), l.Limit)], nil
		}
		l.After = ids[len(ids)-1]
	}
}

// ClientMembers returns a page of the members who may do what is asked on the
// client, by user, each with all his bases, and the cursor of the next page, ""
// at the end (DOMAIN rule 121). It takes access.manage on the client, as
// Manage Access does.
func (l *Lists) ClientMembers(ctx context.Context, caller Caller, actor authz.Subject, practice, client string, q Question) ([]Member, string, error) {
	c, err := l.begin(ctx, caller, actor, "members", practice, client, q)
	if err != nil {
		return nil, "", err
	}
	var page []Member
	var next string
	err = inSnapshot(ctx, l.Pool, l.Deployment, func(s *snapshot) error {
		c.snapshot = s
		if err := c.manages(ctx, client); err != nil {
			return err
		}
		f, err := c.facts(ctx, "", client)
		if err != nil {
			return err
		}
		if page = nil; f.Settings != nil {
			page, err = s.members(ctx, c.lists, compile.Listing{Request: c.request(authz.Subject{Type: authz.SubjectUser}, client), Facts: f,
				AsOf: c.q.AsOf, After: c.after.ID, Limit: q.Limit + 1})
			if err != nil {
				return err
			}
		}
		e := entry{Question: c.binding.question, After: c.after, More: len(page) > q.Limit}
		if e.More {
			page = page[:q.Limit]
			if next, err = c.binding.cursor(position{ID: page[q.Limit-1].User}); err != nil {
				return err
			}
		}
		for _, row := range page {
			e.Results = append(e.Results, row.User)
		}
		return c.record(authz.Resource{Type: authz.ResourceClient, ID: client}, f, e)
	})
	return page, next, err
}

// manages asks whether the actor may manage access to the client. To who may
// not list it, it does not exist (promise P8).
func (c *call) manages(ctx context.Context, client string) error {
	r := authz.Request{Subject: c.actor, Action: actionAccess,
		Resource: authz.Resource{Type: authz.ResourceClient, ID: client, Properties: authz.Properties{"practice": c.practice}}}
	v, err := c.Authority.May(ctx, c.snapshot.tx, r)
	if err != nil || v.Exact.Allow {
		return err
	}
	r.Action = authz.ActionClientList
	seen, err := c.Authority.May(ctx, c.snapshot.tx, r)
	if err != nil {
		return err
	}
	if !seen.Exact.Allow {
		return notFound()
	}
	return notAllowed(v.Exact.ReasonUser)
}

// record puts a page on record: the actor asked for it.
func (c *call) record(of authz.Resource, f authz.Facts, e entry) error {
	v, err := listed(authz.Request{Subject: c.actor, Action: c.q.Action, Resource: of}, f, c.policy.Revision(), "", e)
	if err != nil {
		return err
	}
	c.Authority.Listed(v)
	return nil
}

// Listed returns up to limit clients of the practice, after an id and by id, on
// which the actor may do action now, and whether there are more. It is for a
// list that shows more of them, in a snapshot of its own; the page is on record.
func (l *Lists) Listed(ctx context.Context, tx pgx.Tx, actor authz.Subject, practice, action, after string, limit int) (ids []string, more bool, err error) {
	lists, err := formulas(l.Policy)
	if err != nil {
		return nil, false, err
	}
	if _, err := tx.Exec(ctx, selectPlans); err != nil {
		return nil, false, unavailable("begin list", err)
	}
	s := &snapshot{tx: tx, deployment: l.Deployment}
	r := authz.Request{Subject: actor, Action: action, Resource: authz.Resource{Type: authz.ResourcePractice, ID: practice}}
	f, err := s.common(ctx, r)
	if err != nil || f.Settings == nil {
		return nil, false, err
	}
	r.Resource = authz.Resource{Type: authz.ResourceClient}
	rows, err := s.clients(ctx, lists, compile.Listing{Request: r, Facts: f, After: after, Limit: limit + 1})
	if err != nil {
		return nil, false, err
	}
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	err = l.listed(r, f, asked{List: "clients", Practice: practice, Of: actor.ID, Action: action}, entry{After: position{ID: after}, Results: ids, More: more})
	return ids, more, err
}

// listed puts on record what the policy of now lists.
func (l *Lists) listed(r authz.Request, f authz.Facts, a asked, e entry) error {
	var err error
	if e.Question, err = json.Marshal(a); err != nil {
		return fmt.Errorf("question of a list: %w", err)
	}
	v, err := listed(r, f, l.Policy.Revision(), "", e)
	if err != nil {
		return err
	}
	l.Authority.Listed(v)
	return nil
}
