package release

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/compile"

	"github.com/jackc/pgx/v5"
)

// blast is one comparison of two sides over the population of a snapshot.
type blast struct {
	tx            pgx.Tx
	before, after BlastSide
	options       BlastOptions
	now           time.Time
	actions       []string
	report        *BlastReport
	found         map[string][]found // by settings and kinds of members: what was found there before
}

// begin reads the clock of the snapshot and settles the actions.
func (b *blast) begin(ctx context.Context) error {
	var isolation string
	if err := b.tx.QueryRow(ctx, selectSnapshot).Scan(&b.now, &isolation); err != nil {
		return err
	}
	if isolation != "repeatable read" && isolation != "serializable" {
		return errors.New("the transaction must be REPEATABLE READ: the population has to be of one moment")
	}
	b.now = b.now.UTC()
	b.report.At = b.now
	if b.actions = b.options.Actions; b.actions == nil {
		for _, name := range OpeningActions {
			old, young := b.before.Policy.Actions[name], b.after.Policy.Actions[name]
			switch {
			case old == nil && young == nil:
			case old == nil || young == nil:
				// Formulas say nothing of an action that a policy does not name.
				return fmt.Errorf("only one of the policies knows %s: name the actions to compare without it; 'policy replay' shows what becomes of it", name)
			default:
				b.actions = append(b.actions, name)
			}
		}
	}
	b.report.Actions = b.actions
	return nil
}

// population is a practice with its settings.
type population struct {
	id            string
	before, after *authz.Settings
}

func (b *blast) practices(ctx context.Context, last string) ([]population, error) {
	rows, err := b.tx.Query(ctx, selectPractices, last, b.options.Practices, practicesAtOnce)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (population, error) {
		var p population
		var preset string
		var overrides []byte
		if err := row.Scan(&p.id, &preset, &overrides); err != nil {
			return p, err
		}
		own, err := settingsOf(preset, overrides)
		if err != nil {
			return p, fmt.Errorf("practice %s: %w", p.id, err)
		}
		p.before, p.after = cmp.Or(b.before.Settings, own), cmp.Or(b.after.Settings, own)
		return p, nil
	})
}

func settingsOf(preset string, overrides []byte) (*authz.Settings, error) {
	var values map[string]any
	if err := json.Unmarshal(overrides, &values); err != nil {
		return nil, err
	}
	return authz.NewSettings(preset, values)
}

func (b *blast) kinds(ctx context.Context, practice string) ([]authz.Member, error) {
	rows, err := b.tx.Query(ctx, selectKinds, practice)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m authz.Member, err error) {
		var n int64
		err = row.Scan(&m.Roles, &m.Status, &m.Owner, &m.FullClinicalAccess, &m.BillingEnabled, &n)
		return m, err
	})
}

// found is what the formulas say of one action, before any row is read.
type found struct {
	action       string
	notes        []NoteCase // nil: not on notes, or all of them
	gained, lost compile.Pairs
}

// practice adds the rows of one practice.
func (b *blast) practice(ctx context.Context, p population) error {
	kinds, err := b.kinds(ctx, p.id)
	if err != nil {
		return err
	}
	all, err := b.look(p, kinds)
	if err != nil {
		return err
	}
	for _, f := range all {
		for _, side := range []struct {
			change string
			pairs  compile.Pairs
		}{{"gained", f.gained}, {"lost", f.lost}} {
			row := BlastRow{Practice: p.id, Action: f.action, Notes: f.notes, Change: side.change, First: []Pair{}}
			if row.BlastCount, err = b.count(ctx, side.pairs.In(p.id)); err != nil {
				return err
			}
			if row.Pairs == 0 {
				continue
			}
			if b.options.Pairs > 0 {
				if row.First, err = b.page(ctx, side.pairs.In(p.id), Pair{}, b.options.Pairs); err != nil {
					return err
				}
			}
			if len(b.report.Rows) >= maxRows {
				return fmt.Errorf("there are more than %d changes: look at fewer practices or actions at a time", maxRows)
			}
			b.report.Rows = append(b.report.Rows, row)
		}
	}
	return nil
}

// look finds what changes for members of these kinds under these settings: the
// same for every practice that is like this one.
func (b *blast) look(p population, kinds []authz.Member) ([]found, error) {
	key := fmt.Sprintf("%s\n%s\n%+v", digest(p.before), digest(p.after), kinds)
	if all, ok := b.found[key]; ok {
		return all, nil
	}
	all := []found{}
	for _, action := range b.actions {
		a := b.after.Policy.Actions[action]
		if a == nil || a.On != authz.ResourceNote {
			f, err := b.find(p, action, nil, kinds)
			if err != nil {
				return nil, err
			}
			all = append(all, f)
			continue
		}
		alike := map[string]int{}
		for _, note := range noteCases {
			f, err := b.find(p, action, &note, kinds)
			if err != nil {
				return nil, err
			}
			key := f.gained.Key() + "\n" + f.lost.Key()
			if i, ok := alike[key]; ok {
				all[i].notes = append(all[i].notes, note)
				continue
			}
			f.notes = []NoteCase{note}
			alike[key] = len(all)
			all = append(all, f)
		}
	}
	all = slices.DeleteFunc(all, func(f found) bool { return f.gained.Empty() && f.lost.Empty() })
	for i := range all {
		if len(all[i].notes) == len(noteCases) {
			all[i].notes = nil
		}
	}
	if len(b.found) >= 1000 {
		clear(b.found)
	}
	b.found[key] = all
	return all, nil
}

func digest(s *authz.Settings) string {
	_, sum := s.JSON()
	return fmt.Sprintf("%x", sum)
}

// find compares the two sides' formulas for one action.
func (b *blast) find(p population, action string, note *NoteCase, kinds []authz.Member) (f found, err error) {
	r := compile.Reach{Action: action, Facts: authz.Facts{Now: b.now, Latest: b.now, Practice: p.id}}
	if note != nil {
		r.Own, r.Properties = note.Own, authz.Properties{"kind": note.Kind, "signed": note.Signed}
	} else if a := b.after.Policy.Actions[action]; a != nil && a.On == authz.ResourceDocument {
		r.Properties = authz.Properties{"kind": "document", "recipient": "client"}
	}
	f.action = action
	before, after := compile.Side{Policy: b.before.Policy, Settings: p.before}, compile.Side{Policy: b.after.Policy, Settings: p.after}
	if f.gained, err = r.Gained(before, after, kinds); err == nil {
		f.lost, err = r.Gained(after, before, kinds)
	}
	return f, err
}

func (b *blast) count(ctx context.Context, pairs compile.Pairs) (n BlastCount, err error) {
	if pairs.Empty() {
		return n, nil
	}
	q, err := pairs.Count()
	if err == nil {
		err = b.tx.QueryRow(ctx, q.SQL, planned(q)...).Scan(&n.Pairs, &n.Members, &n.Clients)
	}
	return n, err
}

// planned makes Postgres plan for the values at hand: after five times it would
// make one plan for any, which walks through all pairs.
func planned(q compile.Query) []any {
	return append([]any{pgx.QueryExecModeCacheDescribe}, q.Args...)
}

func (b *blast) page(ctx context.Context, pairs compile.Pairs, after Pair, limit int) ([]Pair, error) {
	if pairs.Empty() {
		return []Pair{}, nil
	}
	q, err := pairs.Page(after.Member, after.Client, min(limit, MaxPairs))
	if err != nil {
		return nil, err
	}
	rows, err := b.tx.Query(ctx, q.SQL, planned(q)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Pair, err error) {
		err = row.Scan(&p.Member, &p.Client)
		return p, err
	})
}

// sum adds the rows up.
func (b *blast) sum() {
	byAction := map[string]*BlastSum{}
	seen := map[string]bool{}
	for _, row := range b.report.Rows {
		total := &b.report.Gained
		if row.Change == "lost" {
			total = &b.report.Lost
		}
		total.Rows++
		total.Pairs += row.Pairs
		key := row.Action + " " + row.Change
		if byAction[key] == nil {
			byAction[key] = &BlastSum{Action: row.Action, Change: row.Change}
		}
		byAction[key].Pairs += row.Pairs
		if !seen[key+" "+row.Practice] {
			seen[key+" "+row.Practice] = true
			byAction[key].Practices++
		}
	}
	for _, s := range byAction {
		b.report.ByAction = append(b.report.ByAction, *s)
	}
	slices.SortFunc(b.report.ByAction, func(x, y BlastSum) int {
		return cmp.Or(strings.Compare(x.Action, y.Action), strings.Compare(x.Change, y.Change))
	})
}
