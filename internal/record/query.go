package record

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// MaxPage is the most entries that one page holds; DefaultPage what it holds
	// when nothing is said (DESIGN 11).
	MaxPage     = 200
	DefaultPage = 50
)

// Query says which entries are wanted. Empty members ask for any.
type Query struct {
	Practices []string // those that the reader may see; nil: all
	Practice  string
	Client    string
	User      string // decisions: the subject; changes: who did it, or the member concerned
	Action    string
	Code      string // decisions: the code, or one of the bases
	Release   string // decisions only
	From, To  time.Time
	Limit     int       // 1 to MaxPage; 0: DefaultPage
	After     *Position // where the page before ended; nil: the newest
}

// Position is a place in the order of entries, newest first. The door signs it
// before it gives it out as a cursor.
type Position struct {
	At time.Time
	ID string // of a decision or a change
}

// String writes p so that ParsePosition reads it back.
func (p Position) String() string { return strconv.FormatInt(p.At.UnixMicro(), 10) + "," + p.ID }

// ParsePosition reads what Position.String wrote.
func ParsePosition(s string) (Position, error) {
	at, id, ok := strings.Cut(s, ",")
	micros, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || id == "" {
		return Position{}, &authz.Problem{Kind: authz.ErrMalformed, Type: "bad-cursor", Detail: "the cursor is not one of this list"}
	}
	return Position{moment(micros), id}, nil
}

// Read is who reads the record, and by what right: each read is on record
// itself (DOMAIN rule 129).
type Read struct {
	Actor    string
	Decision string // id of the decision that allowed it
	Reason   string
}

// Page is entries, newest first, and where the next page begins; nil when this
// was the last.
type Page[T any] struct {
	Records []T
	Next    *Position
}

// Decisions returns a page of decisions, and puts the read on record in tx.
func Decisions(ctx context.Context, tx pgx.Tx, by Read, q Query) (Page[Decision], error) {
	if err := begin(ctx, tx, by, "record.read", "decisions", &q); err != nil {
		return Page[Decision]{}, err
	}
	f := q.decisionFilter()
	f.page(&q, "d.at", "d.id", "uuid")
	rows, err := tx.Query(ctx, selectDecisions+f.where()+` ORDER BY d.at DESC, d.id DESC`+f.limit(q.Limit+1), f.arguments...)
	if err != nil {
		return Page[Decision]{}, fmt.Errorf("read decisions: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanDecision)
	if err != nil {
		return Page[Decision]{}, fmt.Errorf("read decisions: %w", err)
	}
	page := cutPage(list, q.Limit, func(d Decision) Position { return Position{d.At, d.ID.String()} })
	return page, withFacts(ctx, tx, page.Records)
}

// Changes returns a page of changes, and puts the read on record in tx.
func Changes(ctx context.Context, tx pgx.Tx, by Read, q Query) (Page[ChangeEntry], error) {
	if err := begin(ctx, tx, by, "record.read", "changes", &q); err != nil {
		return Page[ChangeEntry]{}, err
	}
	f := q.changeFilter()
	f.page(&q, "c.at", "c.id", "bigint")
	rows, err := tx.Query(ctx, selectChanges+f.where()+` ORDER BY c.at DESC, c.id DESC`+f.limit(q.Limit+1), f.arguments...)
	if err != nil {
		return Page[ChangeEntry]{}, fmt.Errorf("read changes: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanChange)
	if err != nil {
		return Page[ChangeEntry]{}, fmt.Errorf("read changes: %w", err)
	}
	return cutPage(list, q.Limit, func(c ChangeEntry) Position { return Position{c.At, strconv.FormatInt(c.ID, 10)} }), nil
}

func cutPage[T any](list []T, limit int, at func(T) Position) Page[T] {
	page := Page[T]{Records: list}
	if len(list) > limit {
		page.Records = list[:limit]
		next := at(page.Records[limit-1])
		page.Next = &next
	}
	return page
}

// begin checks q, and puts on record that somebody reads: what he asked for,
// before he sees it.
func begin(ctx context.Context, tx pgx.Tx, by Read, action, what string, q *Query) error {
	if q.Limit == 0 {
		q.Limit = DefaultPage
	}
	if q.Limit < 1 || q.Limit > MaxPage {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: fmt.Sprintf("limit must be from 1 to %d", MaxPage),
			Fields: []authz.Field{{Pointer: "/limit", Detail: "out of range"}}}
	}
	asked := map[string]any{"of": what}
	for name, v := range map[string]string{"practice": q.Practice, "client": q.Client, "user": q.User, "action": q.Action, "code": q.Code, "release": q.Release} {
		if v != "" {
			asked[name] = v
		}
	}
	if !q.From.IsZero() {
		asked["from"] = authz.FormatTime(q.From)
	}
	if !q.To.IsZero() {
		asked["to"] = authz.FormatTime(q.To)
	}
	if q.After != nil {
		asked["after"] = q.After.String()
	}
	return AppendChange(ctx, tx, Change{Practice: q.Practice, Actor: by.Actor, Action: action, Target: q.User, Client: q.Client,
		After: asked, Reason: by.Reason, Decision: by.Decision})
}

// filter gathers conditions and their arguments. Conditions are constants of
// this file; values are always parameters.
type filter struct {
	conditions []string
	arguments  []any
}

// add adds a condition, in which ? stands for v.
func (f *filter) add(condition string, v any) {
	f.arguments = append(f.arguments, v)
	f.conditions = append(f.conditions, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(f.arguments))))
}

func (f *filter) text(condition, v string) {
	if v != "" {
		f.add(condition, v)
	}
}

func (f *filter) where() string {
	if len(f.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(f.conditions, " AND ")
}

func (f *filter) limit(n int) string {
	f.arguments = append(f.arguments, n)
	return " LIMIT $" + strconv.Itoa(len(f.arguments))
}

// page leaves what the pages before have shown.
func (f *filter) page(q *Query, at, id, kind string) {
	if q.After == nil {
		return
	}
	f.arguments = append(f.arguments, q.After.At, q.After.ID)
	n := len(f.arguments)
	f.conditions = append(f.conditions, fmt.Sprintf("(%s, %s) < ($%d, $%d::text::%s)", at, id, n-1, n, kind))
}

func (f *filter) common(q *Query, alias string) {
	if q.Practices != nil {
		f.add(alias+".practice = ANY (?::text[])", q.Practices)
	}
	f.text(alias+".practice = ?", q.Practice)
	f.text(alias+".client = ?", q.Client)
	f.text(alias+".action = ?", q.Action)
	if !q.From.IsZero() {
		f.add(alias+".at >= ?", q.From)
	}
	if !q.To.IsZero() {
		f.add(alias+".at < ?", q.To)
	}
}

func (q *Query) decisionFilter() *filter {
	f := &filter{}
	f.common(q, "d")
	f.text("d.subject_id = ?", q.User)
	f.text("(d.code = ? OR ? = ANY (d.bases))", q.Code)
	f.text("d.release = ?", q.Release)
	return f
}

func (q *Query) changeFilter() *filter {
	f := &filter{}
	f.common(q, "c")
	f.text("(c.actor = ? OR c.target = ?)", q.User)
	return f
}

// withFacts fills in the facts of decisions, whose settings are kept apart.
func withFacts(ctx context.Context, tx pgx.Tx, list []Decision) error {
	digests := map[settingsDigest]map[string]any{}
	var wanted [][]byte
	for i := range list {
		if d := list[i].view.SettingsDigest; d != nil {
			if _, ok := digests[settingsDigest(d)]; !ok {
				digests[settingsDigest(d)] = nil
				wanted = append(wanted, d)
			}
		}
	}
	rows, err := tx.Query(ctx, selectSettings, wanted)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	var digest, text []byte
	if _, err := pgx.ForEachRow(rows, []any{&digest, &text}, func() error {
		settings, err := ReadSettings(text)
		digests[settingsDigest(digest)] = settings
		return err
	}); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	for i := range list {
		if err := list[i].fill(func(d settingsDigest) map[string]any { return digests[d] }); err != nil {
			return fmt.Errorf("read decisions: %w", err)
		}
	}
	return nil
}

func scanDecision(row pgx.CollectableRow) (Decision, error) {
	var d Decision
	var chain *uuid.UUID
	var seq *int64
	var body []byte
	if err := row.Scan(&chain, &seq, &body); err != nil {
		return d, err
	}
	if err := d.read(body); err != nil {
		return d, err
	}
	if chain != nil && seq != nil {
		d.Chain, d.Seq = chain.String(), *seq
	}
	return d, nil
}
