package compile

import (
	"fmt"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Query is SQL with its parameters.
type Query struct {
	SQL  string
	Args []any
}

// Listing asks for a list: what may be done with every client (or member) of a
// practice, and by whom.
type Listing struct {
	// Request is the question as a single check would ask it. Of a list of
	// clients, its resource stands for each client in turn: its id (of a note
	// or document, its property client) is left out. Of a list of members, its
	// subject's id is left out.
	Request authz.Request
	// Facts is what all rows have in common: the clock, the practice, its
	// settings, and the member, or the client.
	Facts authz.Facts
	AsOf  time.Time // a past moment; zero: the tables as they are
	After string    // the id after which the page begins; "" for the first
	Limit int       // rows at most
}

// Clients writes the list of the clients of Facts.Practice on which Facts.Member
// may do Request.Action. Rows are (client text, until timestamptz or NULL), by
// client. It lists exactly the clients for which the single check allows.
func (p *Policy) Clients(l Listing) (Query, error) {
	a, err := p.listable(l)
	if err != nil {
		return Query{}, err
	}
	known := l.forMember(a)
	w := l.clientWriter()
	page, err := l.clientPage(w, w.plain(a.Allow.specialise(known)), l.ends(w, a, known))
	if err != nil {
		return Query{}, fmt.Errorf("list of clients for %s: %w", a.Name, err)
	}
	return w.query(page), nil
}

// ClientsFilter is Clients as a condition on rows c of clients, for others to
// put behind WHERE. It says itself of which practice they are.
func (p *Policy) ClientsFilter(l Listing) (Query, error) {
	a, err := p.listable(l)
	if err != nil {
		return Query{}, err
	}
	w := l.clientWriter()
	practice := "c.practice = " + w.arg(l.Facts.Practice, "text") + ` COLLATE "C"`
	where, err := w.condition(a.Allow.specialise(l.forMember(a)))
	if err != nil {
		return Query{}, fmt.Errorf("filter of clients for %s: %w", a.Name, err)
	}
	return w.query(practice + " AND " + where), nil
}

// Members writes the list of the members of Facts.Practice who may do
// Request.Action on Facts.Client. Rows are (user text, bases text[], ends
// timestamptz[], until timestamptz or NULL), by user: bases and ends run along
// Policy.Bases, NULL where a basis does not hold, or has no end of its own.
func (p *Policy) Members(l Listing) (Query, error) {
	a, err := p.listable(l)
	if err != nil {
		return Query{}, err
	}
	known := l.forClient()
	w := l.writer()
	for path, c := range map[string]column{
		"member.id": {sql: "m.id::text", form: formText}, "member.user": {sql: "m.user_id", form: formText, filled: true},
		"member.roles": {sql: "m.roles", form: formTexts}, "member.status": {sql: "m.status", form: formText, words: []string{authz.MemberInvited, authz.MemberActive, authz.MemberRemoved}},
		"member.owner": {sql: "m.owner", form: formBool}, "member.full_clinical_access": {sql: "m.full_clinical_access", form: formBool},
		"member.billing_enabled": {sql: "m.billing_enabled", form: formBool}, "member": {sql: "m.id", form: formObject},
	} {
		w.columns[path] = c
	}
	if l.Facts.Client != nil {
		w.rows["grant"] = l.grantRow(w, w.arg(l.Facts.Client.ID, "text"), "m.user_id")
	}
	where, err := w.condition(a.Allow.specialise(known))
	if err != nil {
		return Query{}, fmt.Errorf("list of members for %s: %w", a.Name, err)
	}
	var bases, ends []string
	for i, f := range a.Bases {
		f = w.plain(f.specialise(known))
		held, err := w.where(f, false)
		if err != nil {
			return Query{}, fmt.Errorf("list of members for %s: %w", a.Name, err)
		}
		bases = append(bases, "CASE WHEN "+held+" THEN "+w.arg(p.Bases[i], "text")+" END")
		ends = append(ends, w.endOf(f, held))
	}
	until, err := w.until(l.ends(w, a, known))
	if err != nil {
		return Query{}, fmt.Errorf("list of members for %s: %w", a.Name, err)
	}
	sql := "SELECT m.user_id, ARRAY[" + strings.Join(bases, ", ") + "]::text[] AS bases, ARRAY[" + strings.Join(ends, ", ") +
		"]::timestamptz[] AS ends, " + until + " AS until FROM " + l.table(w, "members", "m") +
		" WHERE m.practice = " + w.arg(l.Facts.Practice, "text") + ` COLLATE "C" AND ` + where + l.page(w, "m.user_id")
	return w.query(sql), nil
}

// listable finds the action, and refuses what no list can be made of.
func (p *Policy) listable(l Listing) (*Action, error) {
	a := p.Actions[l.Request.Action]
	malformed := func(detail string) error {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: detail,
			Fields: []authz.Field{{Pointer: "/action", Detail: detail}}}
	}
	switch {
	case a == nil:
		return nil, malformed(fmt.Sprintf("there is no action %q", l.Request.Action))
	case a.On != authz.ResourceClient && a.On != authz.ResourceNote && a.On != authz.ResourceDocument:
		return nil, malformed(fmt.Sprintf("%s is not asked on clients, so there is no list of it", a.Name))
	case a.Err != nil:
		return nil, fmt.Errorf("no list for %s: %w", a.Name, a.Err)
	case l.Request.Subject.Type != "" && l.Request.Subject.Type != authz.SubjectUser:
		return nil, malformed("lists are made for members of staff")
	case l.Facts.Settings == nil || l.Facts.Practice == "" || l.Limit < 1:
		return nil, fmt.Errorf("list for %s: the practice, its settings and a limit are needed", a.Name)
	}
	return a, nil
}

// forMember is what is known in a list of clients.
func (l Listing) forMember(a *Action) knowledge {
	return func(path string) (ast.Value, string, bool) {
		switch {
		case path == "resource.id" && a.On == authz.ResourceClient,
			path == propertiesPath+".client" && a.On != authz.ResourceClient:
			return nil, "client.id", true
		case path == propertiesPath && a.On != authz.ResourceClient:
			return ast.NewObject(), "", true
		case path == "client":
			return ast.NewObject(), "", true
		case path == "client.practice":
			return ast.String(l.Facts.Practice), "", true
		case strings.HasPrefix(path, "client."), path == "grant", strings.HasPrefix(path, "grant."):
			return nil, "", false
		}
		return l.read(path)
	}
}

// forClient is what is known in a list of members.
func (l Listing) forClient() knowledge {
	return func(path string) (ast.Value, string, bool) {
		switch {
		case path == "subject.type":
			return ast.String(authz.SubjectUser), "", true
		case path == "subject.id":
			return nil, "member.user", true
		case path == "member":
			return ast.NewObject(), "", true
		case path == "member.practice":
			return ast.String(l.Facts.Practice), "", true
		case strings.HasPrefix(path, "member."), path == "grant", strings.HasPrefix(path, "grant."):
			return nil, "", l.Facts.Client == nil && strings.HasPrefix(path, "grant")
		case path == "portal" || strings.HasPrefix(path, "portal."):
			return nil, "", true // a member of staff has none
		}
		return l.read(path)
	}
}

// read is what the request and the common facts say of a place.
func (l Listing) read(path string) (ast.Value, string, bool) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	return read(&l.Request, &l.Facts, shape[path].place, name).asAST(), "", true
}

// clientWriter begins the SQL of a list of clients c.
func (l Listing) clientWriter() *writer {
	w := l.writer()
	w.columns["client.id"] = column{sql: "c.id", form: formText, filled: true}
	w.columns["client.assigned"] = column{sql: "c.assigned", form: formText, null: true, filled: true}
	w.columns["client.status"] = column{sql: "c.status", form: formText, words: []string{authz.ClientActive, authz.ClientArchived}}
	w.rows["grant"] = l.grantRow(w, "c.id", w.arg(l.Request.Subject.ID, "text"))
	return w
}

// writer begins the SQL of a list.
func (l Listing) writer() *writer {
	w := &writer{columns: map[string]column{}, rows: map[string]row{}, elements: map[int]map[string]column{}, opened: map[string]bool{}}
	w.columns["grant"] = column{sql: "g.scope", form: formObject, row: "grant"}
	w.columns["grant.scope"] = column{sql: "g.scope", form: formText, row: "grant"}
	w.columns["grant.not_before"] = column{sql: "g.not_before", form: formTime, row: "grant"}
	w.columns["grant.expires_at"] = column{sql: "g.expires_at", form: formTime, row: "grant"}
	return w
}

// table names one of the tables of facts, or what it held at AsOf.
func (l Listing) table(w *writer, name, alias string) string {
	if l.AsOf.IsZero() {
		return name + " " + alias
	}
	at := w.arg(l.AsOf, "timestamptz")
	return "(SELECT * FROM " + name + "_history h WHERE h.valid_from <= " + at + " AND " + at + " < h.valid_to) " + alias
}

// grantRow is the grant of one member on one client that is a fact: of those
// that have not ended the one that begins first. They never overlap, so that is
// the one in force where there is one (DESIGN 11, Facts).
func (l Listing) grantRow(w *writer, client, user string) row {
	practice := w.arg(l.Facts.Practice, "text")
	on := func(alias string) string { return alias + ".client = " + client + ` COLLATE "C"` }
	key := func(alias string) string {
		return alias + ".user_id = " + user + ` COLLATE "C" AND ` + alias + ".practice = " + practice + ` COLLATE "C" AND ` +
			alias + ".expires_at > " + w.arg(l.latest(), "timestamptz")
	}
	return row{from: l.table(w, "grants", "g"), on: on("g"), where: key("g") + " AND NOT EXISTS (SELECT 1 FROM " + l.table(w, "grants", "earlier") +
		" WHERE " + on("earlier") + " AND " + key("earlier") + " AND earlier.not_before < g.not_before)"}
}

func (l Listing) latest() time.Time {
	if l.Facts.Latest.After(l.Facts.Now) {
		return l.Facts.Latest
	}
	return l.Facts.Now
}

// page ends a statement: rows after the cursor, in order, at most Limit.
func (l Listing) page(w *writer, id string) string {
	sql := ""
	if l.After != "" {
		sql = " AND " + id + " > " + w.arg(l.After, "text") + ` COLLATE "C"`
	}
	return sql + " ORDER BY " + id + fmt.Sprintf(" LIMIT %d", l.Limit)
}

// clientPage finds one page of clients. Where each way to be allowed begins
// with an index (assigned to the member, granted to him), it is the union of one
// statement for each: none of them walks through the practice's clients.
func (l Listing) clientPage(w *writer, allow *Formula, ends []End) (string, error) {
	common, ways := w.ways(allow)
	var parts []string
	for _, way := range ways {
		sql, err := l.way(w, w.plain(and(append([]*Formula{way}, common...)...)), ends)
		if err != nil {
			return "", err
		}
		parts = append(parts, sql)
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	return "SELECT id, until FROM ((" + strings.Join(parts, ") UNION (") + ")) ways ORDER BY id" + fmt.Sprintf(" LIMIT %d", l.Limit), nil
}

// ways splits a formula into alternatives that each begin with an index, and
// what they have in common; into itself alone where one of them does not.
func (w *writer) ways(f *Formula) (common, ways []*Formula) {
	kids := conjuncts(f)
	for i, k := range kids {
		if k.Kind != KindOr {
			continue
		}
		indexed := true
		for _, d := range disjuncts(k) {
			indexed = indexed && (w.needs(d, "grant") || assignedTo(d))
		}
		if indexed {
			return append(append([]*Formula{}, kids[:i]...), kids[i+1:]...), k.Kids
		}
	}
	return nil, []*Formula{f}
}

// assignedTo reports whether f asks for the assigned practitioner by name.
func assignedTo(f *Formula) bool {
	for _, k := range conjuncts(f) {
		if k.Kind == KindAtom && k.Op == OpEqual && k.A.Path == "client.assigned" && k.B.isConst() {
			return true
		}
	}
	return false
}

// way writes one alternative: from the member's grants where it needs one.
func (l Listing) way(w *writer, f *Formula, ends []End) (string, error) {
	practice := w.arg(l.Facts.Practice, "text") + ` COLLATE "C"`
	granted := w.needs(f, "grant")
	if granted {
		w.opened["grant"] = true
		defer delete(w.opened, "grant")
	}
	where, err := w.where(f, false)
	if err != nil {
		return "", err
	}
	var here []End
	for _, end := range ends {
		if w.plain(and(f, end.Cond)) != no { // this way can end so
			here = append(here, end)
		}
	}
	until, err := w.until(here)
	if err != nil {
		return "", err
	}
	if !granted {
		return "SELECT c.id, " + until + " AS until FROM " + l.table(w, "clients", "c") + " WHERE c.practice = " + practice + " AND " + where + l.page(w, "c.id"), nil
	}
	r := w.rows["grant"]
	if l.AsOf.IsZero() && w.inForce(f, l.Facts.Now) {
		// Grants never overlap: the one in force is the fact, no other need be looked at.
		r.where, _, _ = strings.Cut(r.where, " AND NOT EXISTS ")
	}
	// LIMIT has each grant's client looked up by its id, whatever Postgres knows of the practice.
	return "SELECT c.id, " + until + " AS until FROM " + r.from + ", LATERAL (SELECT c.id, c.assigned, c.status FROM " + l.table(w, "clients", "c") + " WHERE c.id = g.client AND c.practice = " + practice +
		" LIMIT 1) c WHERE " + r.where + " AND " + where + l.page(w, "g.client"), nil
}

// inForce reports whether f asks that the grant has begun by now.
func (w *writer) inForce(f *Formula, now time.Time) bool {
	for _, k := range conjuncts(f) {
		if k.Kind == KindAtom && (k.Op == OpLessEqual || k.Op == OpLess) && k.A.Path == "grant.not_before" && k.B.isConst() {
			s, _ := k.B.Const.(ast.String)
			if t, ok := asInstant(string(s)); ok && !t.After(now) {
				return true
			}
		}
	}
	return false
}

// ends says until when the answer for a row can hold. What makes the row be
// listed need not be asked again.
func (l Listing) ends(w *writer, a *Action, known knowledge) []End {
	listed := map[string]bool{}
	for _, k := range conjuncts(a.Allow) {
		listed[k.key] = true
	}
	var out []End
	for _, end := range a.Ends {
		var left []*Formula
		for _, k := range conjuncts(end.Cond) {
			if !listed[k.key] {
				left = append(left, k)
			}
		}
		if cond := w.plain(and(left...).specialise(known)); cond != no {
			out = append(out, End{Cond: cond, At: end.At})
		}
	}
	return out
}

// until writes until when the answer for a row holds: NULL for no end.
func (w *writer) until(ends []End) (string, error) {
	var out []string
	for _, end := range ends {
		where, err := w.where(end.Cond, false)
		if err != nil {
			return "", err
		}
		at, err := w.scalar(end.At)
		if err != nil {
			return "", err
		}
		out = append(out, "CASE WHEN "+where+" THEN "+at+" END")
	}
	switch len(out) {
	case 0:
		return "NULL::timestamptz", nil
	case 1:
		return out[0], nil
	}
	return "COALESCE(" + strings.Join(out, ", ") + ")", nil
}

// scalar writes the value of a place, NULL where it has none.
func (w *writer) scalar(o Operand) (string, error) {
	c, err := w.column(o)
	if err != nil || c.row == "" || w.opened[c.row] {
		return c.sql, err
	}
	r := w.rows[c.row]
	return "(SELECT " + c.sql + " FROM " + r.from + " WHERE " + r.on + " AND " + r.where + ")", nil
}

// endOf writes when a basis ends by itself: the time that it asks to come after
// the clock's. It is NULL where there is none, or where that time means "no end".
func (w *writer) endOf(f *Formula, held string) string {
	if f == no || f.Kind == KindOr {
		return "NULL"
	}
	for _, k := range conjuncts(f) {
		if k.Kind == KindAtom && k.Op == OpLess && k.A.isConst() && k.B.Path == "grant.expires_at" {
			at, err := w.scalar(k.B)
			if err == nil {
				return "CASE WHEN " + held + " THEN NULLIF(" + at + ", " + w.arg(authz.NoEnd, "timestamptz") + ") END"
			}
		}
	}
	return "NULL"
}
