package compile

import (
	"fmt"
	"slices"
	"strings"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Side is a policy with the settings of a practice: what decides before, or
// after, a change of either.
type Side struct {
	Policy   *Policy
	Settings *authz.Settings
}

// Reach asks which members of a practice may do an action to which of its
// clients; of an action on the practice itself, which members may do it.
type Reach struct {
	Action     string
	Properties authz.Properties // of a note or document, but for its client and its author
	Own        bool             // a note's author is the member; else it is somebody else
	Facts      authz.Facts      // the practice and the clock; settings are the sides'
}

// Pairs are the members and clients that one side lets meet and the other does
// not: one set query, however many members the practice has.
type Pairs struct {
	reach Reach
	on    string
	parts []pairsOf
}

// pairsOf is the pairs of members of one kind, by each way to reach a client.
type pairsOf struct {
	kind authz.Member
	ways []*Formula
}

// Gained returns the pairs that after allows and before does not, for members
// of kinds: equal in everything that the facts say of them but their ids. Where
// it is Empty no query is needed: the formulas show that there are none. An
// error says that a list of the action cannot be made.
func (r Reach) Gained(before, after Side, kinds []authz.Member) (Pairs, error) {
	p := Pairs{reach: r}
	old, err := r.action(before)
	if err != nil {
		return p, err
	}
	young, err := r.action(after)
	if err != nil {
		return p, err
	}
	if old.On != young.On {
		return p, fmt.Errorf("%s is asked on %s by one policy, and on %s by the other", r.Action, old.On, young.On)
	}
	p.on = old.On
	w, _ := p.writer()
	for _, kind := range kinds {
		was, is := w.plain(r.specialised(old, before, kind)), w.plain(r.specialised(young, after, kind))
		if was.key == is.key {
			continue
		}
		common, ways := w.waysOfPairs(is)
		part := pairsOf{kind: kind}
		for _, way := range ways {
			reached := and(append([]*Formula{way}, common...)...)
			if f := w.plain(and(reached, not(was.given(reached)))); f != no {
				part.ways = append(part.ways, f)
			}
		}
		if len(part.ways) > 0 {
			p.parts = append(p.parts, part)
		}
	}
	return p, nil
}

// given is f where known holds: what stands in both need not be asked twice.
func (f *Formula) given(known *Formula) *Formula {
	holds := map[string]bool{}
	for _, k := range conjuncts(known) {
		holds[k.key] = true
	}
	var within func(*Formula) *Formula
	within = func(g *Formula) *Formula {
		switch {
		case holds[g.key]:
			return yes
		case holds[not(g).key]:
			return no
		}
		return g.over(g.each(within))
	}
	return within(f)
}

// Empty reports that there are no such pairs, whatever the tables hold.
func (p Pairs) Empty() bool { return len(p.parts) == 0 }

// In is the same pairs of another practice, whose settings and kinds of members
// are the same.
func (p Pairs) In(practice string) Pairs {
	p.reach.Facts.Practice = practice
	return p
}

// Key is equal for pairs that the same queries find.
func (p Pairs) Key() string {
	var b strings.Builder
	for _, part := range p.parts {
		fmt.Fprintf(&b, "%+v", part.kind)
		for _, f := range part.ways {
			b.WriteString("; " + f.key)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// action finds what decides, and refuses what has no members or cannot be
// written as SQL.
func (r Reach) action(s Side) (*Action, error) {
	a := s.Policy.Actions[r.Action]
	switch {
	case a == nil:
		return nil, fmt.Errorf("%s: one of the policies has no such action", r.Action)
	case a.Err != nil:
		return nil, fmt.Errorf("%s cannot be asked of all members and clients at once: %w", r.Action, a.Err)
	case strings.HasPrefix(r.Action, "portal."):
		return nil, fmt.Errorf("%s is asked by portal logins, not by members", r.Action)
	}
	return a, nil
}

// elsewhere stands for an id that is none of the member's own.
const elsewhere = "somebody-else"

// specialised is who may, of one kind of member: what is known put in.
func (r Reach) specialised(a *Action, s Side, kind authz.Member) *Formula {
	l := Listing{Request: authz.Request{Subject: authz.Subject{Type: authz.SubjectUser}, Action: r.Action,
		Resource: authz.Resource{Type: a.On, ID: elsewhere, Properties: r.Properties}}, Facts: r.Facts}
	l.Facts.Settings, l.Facts.Member, l.Facts.Client = s.Settings, &kind, nil
	f := a.Allow.specialise(func(path string) (ast.Value, string, bool) { return r.known(a.On, l, path) })
	if !r.Own {
		// Somebody else is nobody that the facts name.
		f = f.rewrite(func(t *Formula) *Formula {
			if t.Kind == KindAtom && t.Op == OpEqual && !t.B.isConst() && (t.A.Path == authorPath || t.B.Path == authorPath) {
				return no
			}
			return nil
		})
	}
	return f.specialise(func(path string) (ast.Value, string, bool) {
		return ast.String(elsewhere), "", path == authorPath
	})
}

const authorPath = propertiesPath + ".author"

// known is what is known of every pair.
func (r Reach) known(on string, l Listing, path string) (ast.Value, string, bool) {
	onClient := on == authz.ResourceClient || on == authz.ResourceNote || on == authz.ResourceDocument
	switch {
	case path == "subject.id":
		return nil, "member.user", true
	case path == "member.id" || path == "member.user":
		return nil, "", false
	case path == "member.practice" && onClient:
		return nil, "client.practice", true
	case path == "member.practice":
		return nil, "", false
	case path == "resource.id" && on == authz.ResourceClient, path == propertiesPath+".client" && onClient && on != authz.ResourceClient:
		return nil, "client.id", true
	case path == "resource.id" && on == authz.ResourcePractice:
		return nil, "member.practice", true
	case path == propertiesPath+".practice" && (on == authz.ResourceFormTemplate || on == authz.ResourceMember):
		return nil, "member.practice", true
	case path == authorPath && on == authz.ResourceNote:
		return nil, "member.user", r.Own
	case path == propertiesPath && on != authz.ResourceClient && on != authz.ResourcePractice:
		return ast.NewObject(), "", true
	case path == "client" && onClient:
		return ast.NewObject(), "", true
	case path == "client", strings.HasPrefix(path, "client."), path == "grant", strings.HasPrefix(path, "grant."):
		return nil, "", !onClient
	}
	return l.read(path)
}

// waysOfPairs splits a formula like ways, for pairs: by a grant, or by being
// the assigned practitioner, so that neither walks through all pairs.
func (w *writer) waysOfPairs(f *Formula) (common, ways []*Formula) {
	kids := conjuncts(f)
	for i, k := range kids {
		if k.Kind == KindOr && !slices.ContainsFunc(k.Kids, func(d *Formula) bool { return !w.needs(d, "grant") && !assignedToMember(d) }) {
			return slices.Concat(kids[:i], kids[i+1:]), k.Kids
		}
	}
	return nil, []*Formula{f}
}

func assignedToMember(f *Formula) bool {
	return slices.ContainsFunc(conjuncts(f), func(k *Formula) bool {
		return k.Kind == KindAtom && k.Op == OpEqual && k.A.Path == "client.assigned" && k.B.Path == "member.user"
	})
}

// writer begins the SQL of pairs of clients c and members m.
func (p Pairs) writer() (*writer, Listing) {
	l := Listing{Facts: p.reach.Facts, Limit: 1}
	w := l.clientWriter()
	w.columns["client.practice"] = column{sql: "c.practice", form: formText, filled: true}
	w.columns["member.id"] = column{sql: "m.id::text", form: formText}
	w.columns["member.user"] = column{sql: "m.user_id", form: formText, filled: true}
	w.columns["member.practice"] = column{sql: "m.practice", form: formText, filled: true}
	w.rows["grant"] = l.grantRow(w, "c.id", "m.user_id")
	return w, l
}

// Count is the query that counts: one row of pairs, members and clients.
func (p Pairs) Count() (Query, error) {
	w, l := p.writer()
	pairs, err := p.write(w, l, func(string) string { return "" })
	if err != nil {
		return Query{}, err
	}
	return w.query("SELECT coalesce(sum(n) FILTER (WHERE of_member), 0)::bigint AS pairs, count(*) FILTER (WHERE of_member) AS members, " +
		"count(*) FILTER (WHERE NOT of_member AND client <> '') AS clients FROM (SELECT count(*) AS n, client, grouping(client) = 1 AS of_member FROM (" +
		pairs + ") pairs (member, client) GROUP BY GROUPING SETS ((member), (client))) counted"), nil
}

// Page is the query of at most limit pairs, by member and client, after one of
// them: rows (member text, client text). The client is "" where the action is
// on no client.
func (p Pairs) Page(afterMember, afterClient string, limit int) (Query, error) {
	w, l := p.writer()
	end := fmt.Sprintf(" ORDER BY 1, 2 LIMIT %d", limit)
	pairs, err := p.write(w, l, func(client string) string {
		if afterMember == "" {
			return end
		}
		member, id := w.arg(afterMember, "text")+` COLLATE "C"`, w.arg(afterClient, "text")+` COLLATE "C"`
		return " AND m.user_id >= " + member + " AND (m.user_id > " + member + " OR " + client + " > " + id + ")" + end
	})
	if err != nil {
		return Query{}, err
	}
	return w.query("SELECT member, client FROM (" + pairs + ") pairs (member, client)" + end), nil
}

// write writes all pairs. Members of different kinds are different members, so
// only the ways of one kind can meet.
func (p Pairs) write(w *writer, l Listing, page func(client string) string) (string, error) {
	var all []string
	for _, part := range p.parts {
		var ways []string
		for _, f := range part.ways {
			sql, err := p.way(w, l, part.kind, f, page)
			if err != nil {
				return "", fmt.Errorf("members and clients for %s: %w", p.reach.Action, err)
			}
			ways = append(ways, "("+sql+")")
		}
		all = append(all, "("+strings.Join(ways, " UNION ")+")")
	}
	return strings.Join(all, " UNION ALL "), nil
}

// way writes the pairs that one formula holds for: from grants where it needs
// one, else from members and clients.
func (p Pairs) way(w *writer, l Listing, kind authz.Member, f *Formula, page func(client string) string) (string, error) {
	practice := w.arg(p.reach.Facts.Practice, "text") + ` COLLATE "C"`
	w.args = append(w.args, append([]string{}, kind.Roles...))
	members := "m.practice = " + practice + fmt.Sprintf(" AND m.roles = $%d::text[]", len(w.args)) + " AND m.status = " + w.arg(kind.Status, "text") +
		" AND m.owner = " + w.arg(kind.Owner, "boolean") + " AND m.full_clinical_access = " + w.arg(kind.FullClinicalAccess, "boolean") +
		" AND m.billing_enabled = " + w.arg(kind.BillingEnabled, "boolean")
	granted := w.needs(f, "grant")
	if granted {
		w.opened["grant"] = true
		defer delete(w.opened, "grant")
	}
	where, err := w.where(f, false)
	if err != nil {
		return "", err
	}
	switch {
	case p.on != authz.ResourceClient && p.on != authz.ResourceNote && p.on != authz.ResourceDocument:
		return "SELECT m.user_id::text COLLATE \"C\", ''::text COLLATE \"C\" FROM members m WHERE " + members + " AND " + where + page("''"), nil
	case !granted:
		return "SELECT m.user_id::text COLLATE \"C\", c.id::text COLLATE \"C\" FROM members m JOIN clients c ON c.practice = " + practice + " WHERE " + members + " AND " + where + page("c.id"), nil
	}
	r := w.rows["grant"]
	if w.inForce(f, l.Facts.Now) {
		r.where, _, _ = strings.Cut(r.where, " AND NOT EXISTS ")
	}
	return "SELECT m.user_id::text COLLATE \"C\", c.id::text COLLATE \"C\" FROM " + r.from + " JOIN clients c ON c.id = g.client AND c.practice = " + practice +
		" JOIN members m ON m.user_id = g.user_id WHERE " + members + " AND " + r.where + " AND " + where + page("c.id"), nil
}
