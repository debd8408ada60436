package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/jackc/pgx/v5"
)

// Policy is the policy by which lists are made: *pdp.Engine is one.
type Policy interface {
	Evaluate(ctx context.Context, r authz.Request, f authz.Facts) (authz.Decision, error)
	Revision() string
	Lists() (*compile.Policy, error)
}

// Client is a row of a list of clients.
type Client struct {
	ID    string
	Until *time.Time // the answer holds until then; nil: no end
}

// Member is a row of a list of members, with every basis that he has.
type Member struct {
	User  string
	Bases []Basis
}

// Basis is a reason why a member may do what was asked.
type Basis struct {
	Name  string
	Until *time.Time // it ends by itself then; nil: no end
}

// formulas returns what lists are made of.
func formulas(p Policy) (*compile.Policy, error) {
	lists, err := p.Lists()
	if err != nil {
		return nil, &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide",
			Detail: "lists are made by the compiled policy, and it is not ready: try again. It takes some seconds after a start, and is switched off for good after a fault that the log tells of"}
	}
	return lists, nil
}

// noList says why an action has no list: an error of the caller's stays one.
func noList(err error) error {
	if errors.Is(err, authz.ErrMalformed) {
		return err
	}
	return &authz.Problem{Kind: authz.ErrUnavailable, Type: "cannot-decide", Detail: err.Error()}
}

// clients reads one page of a list of clients.
func (s *snapshot) clients(ctx context.Context, lists *compile.Policy, l compile.Listing) ([]Client, error) {
	q, err := lists.Clients(l)
	if err != nil {
		return nil, noList(err)
	}
	rows, err := s.tx.Query(ctx, q.SQL, q.Args...)
	if err != nil {
		return nil, unavailable("list clients", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Client, error) {
		var c Client
		err := row.Scan(&c.ID, &c.Until)
		return c, err
	})
	if err != nil {
		return nil, unavailable("list clients", err)
	}
	return page, nil
}

// members reads one page of a list of members.
func (s *snapshot) members(ctx context.Context, lists *compile.Policy, l compile.Listing) ([]Member, error) {
	q, err := lists.Members(l)
	if err != nil {
		return nil, noList(err)
	}
	rows, err := s.tx.Query(ctx, q.SQL, q.Args...)
	if err != nil {
		return nil, unavailable("list members", err)
	}
	page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Member, error) {
		var m Member
		var held []*string
		var ends []*time.Time
		var until *time.Time
		if err := row.Scan(&m.User, &held, &ends, &until); err != nil {
			return m, err
		}
		for i, basis := range held {
			if basis != nil {
				m.Bases = append(m.Bases, Basis{Name: *basis, Until: ends[i]})
			}
		}
		return m, nil
	})
	if err != nil {
		return nil, unavailable("list members", err)
	}
	return page, nil
}

// among returns those of the clients that a list of them would hold. LIMIT has
// each of them looked up by its id, whatever Postgres knows of the practice.
func (s *snapshot) among(ctx context.Context, lists *compile.Policy, l compile.Listing, ids []string) (map[string]bool, error) {
	l.Limit = 1
	q, err := lists.ClientsFilter(l)
	if err != nil {
		return nil, noList(err)
	}
	sql := "SELECT w.id FROM unnest($" + strconv.Itoa(len(q.Args)+1) + `::text[]) w(id),
		LATERAL (SELECT FROM clients c WHERE c.id = w.id COLLATE "C" AND ` + q.SQL + ` LIMIT 1) may`
	rows, err := s.tx.Query(ctx, sql, append(q.Args, ids)...)
	if err != nil {
		return nil, unavailable("list clients", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, unavailable("list clients", err)
	}
	seen := make(map[string]bool, len(found))
	for _, id := range found {
		seen[id] = true
	}
	return seen, nil
}

// entry is what a page leaves on record, as a digest: what was asked, from
// where, what was listed, and whether there is more.
type entry struct {
	Question json.RawMessage `json:"question"`
	After    position        `json:"after"`
	Results  []string        `json:"results"`
	More     bool            `json:"more"`
}

// listed is the verdict that puts a page on record.
func listed(r authz.Request, f authz.Facts, release, requestID string, e entry) (authz.Verdict, error) {
	v := authz.NewVerdict(r, release, requestID)
	if e.Results == nil {
		e.Results = []string{}
	}
	input, err := json.Marshal(e)
	if err != nil {
		return v, fmt.Errorf("record list: %w", err)
	}
	v.Facts, v.Input = f, input
	v.Exact = authz.Decision{Code: authz.CodeListed, Bases: []string{}}
	v.Shown = v.Exact
	return v, nil
}
