package control

import (
	"context"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"
	"chartgate/internal/search"
	"chartgate/internal/web"
)

// listedClient is a client in a list of clients; an answer without end has no
// until.
type listedClient struct {
	Client string `json:"client"`
	Until  string `json:"until,omitempty"`
}

// listedMember is a member in a list of members.
type listedMember struct {
	User  string        `json:"user"`
	Bases []listedBasis `json:"bases"`
}

type listedBasis struct {
	Basis string `json:"basis"`
	Until string `json:"until,omitempty"`
}

func listMemberClients(v *visit) error {
	return listPage(v, "user", v.lists.MemberClients, "clients", func(c search.Client) listedClient {
		return listedClient{Client: c.ID, Until: untilText(c.Until)}
	})
}

func listClientMembers(v *visit) error {
	return listPage(v, "client", v.lists.ClientMembers, "members", func(m search.Member) listedMember {
		bases := make([]listedBasis, len(m.Bases))
		for i, b := range m.Bases {
			bases[i] = listedBasis{Basis: b.Name, Until: untilText(b.Until)}
		}
		return listedMember{User: m.User, Bases: bases}
	})
}

// listPage answers a page of the list about whom the route names as of: its rows
// as called, and where it goes on.
func listPage[Row, Shown any](v *visit, of string, read func(ctx context.Context, caller search.Caller, actor authz.Subject, practice, id string, q search.Question) ([]Row, string, error),
	called string, show func(Row) Shown) error {
	id, err := v.id(of)
	if err != nil {
		return err
	}
	q, err := v.listQuestion()
	if err != nil {
		return err
	}
	v.asked.reads = true
	page, next, err := read(v.ctx, v.listCaller(), v.actor, v.practice, id, q)
	if err != nil {
		return err
	}
	rows := make([]Shown, len(page))
	for i, row := range page {
		rows[i] = show(row)
	}
	body := map[string]any{called: rows}
	if next != "" {
		body["next"] = next
	}
	return v.c.JSON(body)
}

func untilText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return authz.FormatTime(*t)
}

// listCaller is whom a cursor belongs to, beside the actor.
func (v *visit) listCaller() search.Caller {
	caller := web.CallerOf(v.c)
	return search.Caller{ID: caller.ID, Scope: pdp.Scope{All: caller.AllPractices, Practices: caller.Practices}}
}

// listQuestion reads what a list is asked. The properties are those of the note
// or the document that an action such as note.read is asked about.
func (v *visit) listQuestion() (search.Question, error) {
	q := search.Question{Action: web.Copy(v.c.Query("action")), Cursor: web.Copy(v.c.Query("cursor"))}
	if q.Action == "" {
		return q, web.Malformed("action is missing", "/action", "must name what is asked, such as chart.open")
	}
	var err error
	if q.Limit, err = v.limit(); err != nil {
		return q, err
	}
	if text := v.c.Query("as_of"); text != "" {
		if q.AsOf, err = time.Parse(time.RFC3339, text); err != nil || q.AsOf.Year() < 1 || q.AsOf.Year() > 9999 {
			return q, web.Malformed("as_of is no time", "/as_of", "must be a past moment such as 2026-12-01T00:00:00Z")
		}
	}
	properties := authz.Properties{}
	for _, name := range []string{"kind", "author", "recipient"} {
		if text := web.Copy(v.c.Query(name)); text != "" {
			properties[name] = text
		}
	}
	switch v.c.Query("signed") {
	case "":
	case "true":
		properties["signed"] = true
	case "false":
		properties["signed"] = false
	default:
		return q, web.Malformed("signed is neither true nor false", "/signed", "must be true or false")
	}
	if len(properties) > 0 {
		q.Properties = authz.KeepProperties(properties)
	}
	return q, nil
}
