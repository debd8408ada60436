package sidecar

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"chartgate/internal/authz"
	"chartgate/internal/search"
	"chartgate/internal/web"

	"github.com/gofiber/fiber/v2"
)

const searchPath = "/access/v1/search/"

// found is a page of results (AuthZEN 8.2). Like a decision it holds no time, and
// no id of its own. It never says how many there are in all: whoever counts
// counts what he may not see (DOMAIN rule 113).
type found struct {
	Page    foundPage `json:"page"`
	Context any       `json:"context,omitempty"`
	Results []any     `json:"results"`
}

type foundPage struct {
	NextToken string `json:"next_token"` // "" on the last page
	Count     int    `json:"count"`
}

type foundEntity struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type foundAction struct {
	Name string `json:"name"`
}

// searchFor answers one of the three searches (AuthZEN 8).
func (s *Server) searchFor(kind search.Kind) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := requireJSON(c); err != nil {
			return err
		}
		body, err := web.StrictObject(c.BodyRaw())
		if err != nil {
			return err
		}
		q, fault := readSearch(kind, body, minRevisionOf(c))
		if fault != nil {
			return fault
		}
		caller := web.CallerOf(c)
		q.Caller = search.Caller{ID: caller.ID, Scope: scopeOf(c)}
		q.RequestID = web.RequestID(c)
		ctx, cancel := deadline(c)
		defer cancel()
		f, err := s.search.Do(ctx, q)
		if err != nil {
			return err
		}
		setSearchHeaders(c, f)
		return sendJSON(c, answerSearch(q, f))
	}
}

// readSearch reads a search. The id of what is searched for is ignored, and so
// is an action where actions are (AuthZEN 8.4 to 8.6).
func readSearch(kind search.Kind, m map[string]any, minRevision string) (search.Search, *authz.Problem) {
	q := search.Search{Kind: kind, Input: maps.Clone(m)}
	delete(q.Input, "page")
	r := reader{}
	subject := r.entity(m, "subject")
	q.Request.Subject.Type = r.text(subject, "subject", "type")
	if kind != search.Subjects {
		q.Request.Subject.ID = r.text(subject, "subject", "id")
	}
	r.object(subject, "/subject", "properties")
	if kind == search.Actions {
		delete(q.Input, "action")
	} else {
		action := r.entity(m, "action")
		q.Request.Action = r.text(action, "action", "name")
		r.object(action, "/action", "properties")
	}
	resource := r.entity(m, "resource")
	q.Request.Resource.Type = r.text(resource, "resource", "type")
	if kind != search.Resources {
		q.Request.Resource.ID = r.text(resource, "resource", "id")
	}
	q.Request.Resource.Properties = r.object(resource, "/resource", "properties")
	q.Request.Context = r.context(r.object(m, "", "context"), minRevision)
	if searched, ok := q.Input[string(kind)].(map[string]any); ok && kind != search.Actions {
		searched = maps.Clone(searched)
		delete(searched, "id")
		q.Input[string(kind)] = searched
	}
	r.page(r.object(m, "", "page"), &q)
	return q, r.fault
}

// page reads the page that is asked for (AuthZEN 8.2.1).
func (r *reader) page(m map[string]any, q *search.Search) {
	r.object(m, "/page", "properties")
	switch token := m["token"].(type) {
	case nil:
	case string:
		q.Token = token
	default:
		r.wrong("/page/token", "must be a string")
	}
	if m["limit"] == nil {
		return
	}
	number, _ := m["limit"].(json.Number)
	limit, err := strconv.Atoi(number.String())
	if err != nil || limit < 0 {
		r.wrong("/page/limit", "must be a whole number that is not negative")
		return
	}
	q.Limit = &limit
}

func answerSearch(q search.Search, f search.Found) found {
	a := found{Page: foundPage{NextToken: f.Next, Count: len(f.Results)}, Results: make([]any, len(f.Results))}
	if f.Refused != nil {
		a.Context = reasonsOf(*f.Refused)
	}
	for i, id := range f.Results {
		switch q.Kind {
		case search.Subjects:
			a.Results[i] = foundEntity{q.Request.Subject.Type, id}
		case search.Resources:
			a.Results[i] = foundEntity{q.Request.Resource.Type, id}
		default:
			a.Results[i] = foundAction{id}
		}
	}
	return a
}

// setSearchHeaders names the entries that the page left on record.
func setSearchHeaders(c *fiber.Ctx, f search.Found) {
	entries := slices.Clone(f.Entries)
	for i := range entries {
		v := &entries[i]
		v.Named, v.Facts.Revision, v.Facts.Degraded = f.Release, f.Revision, f.Degraded
	}
	setBatchHeaders(c, entries)
}
