package roster

import (
	"context"
	"errors"
	"fmt"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options says who imports and who wants to know how far it is.
type Options struct {
	Actor    string         // user id for the change record, and granted_by of grants that name nobody
	Progress func(Progress) // may be nil; never called by two goroutines at once

	// Settle returns once no sidecar answers any more on the strength of what a
	// transaction that committed before the call took away; nil: feed.AwaitTaken.
	Settle func(context.Context) error
}

// Progress says how far an import is. Step names what is done, such as
// "read clients.csv" or "write clients".
type Progress struct {
	Step  string
	Done  int64 // of Total: bytes of a file that is read, rows that are written
	Total int64 // 0: not known
	Rows  int64 // that are through
	Over  bool  // the step is done
}

// Report counts what an import did.
type Report struct {
	Practices Counts `json:"practices"`
	Members   Counts `json:"members"`
	Clients   Counts `json:"clients"`
	Grants    Counts `json:"grants"`
	Contacts  Counts `json:"contacts"`
	Portal    Counts `json:"portal"`
}

// Counts counts the rows of one kind of file.
type Counts struct {
	Inserted  int64 `json:"inserted"`
	Changed   int64 `json:"changed"`
	Unchanged int64 `json:"unchanged"`
}

// Load imports files in one transaction. A *Rejected lists the rows that are
// wrong, and then nothing was imported. Each practice in which something
// changed gets one change record of action "import". It returns once what it
// took away is taken on every sidecar (promise P2), also where it finds nothing
// to do: it may be the repetition of one that died before it could wait.
func Load(ctx context.Context, pool *pgxpool.Pool, files []File, options Options) (Report, error) {
	if len(files) == 0 {
		return Report{}, errors.New("there is nothing to import")
	}
	if !authz.ValidID(options.Actor) {
		return Report{}, fmt.Errorf("the actor of an import must be a user id, not %q", options.Actor)
	}
	var l *loader
	err := postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
		l = newLoader(tx, files, options)
		return l.load(ctx)
	})
	if err != nil {
		return Report{}, err
	}
	settle := options.Settle
	if settle == nil {
		settle = func(ctx context.Context) error { return feed.AwaitTaken(ctx, feed.BootTime) }
	}
	if err := settle(ctx); err != nil {
		return l.report(), fmt.Errorf("imported: %w", err)
	}
	return l.report(), nil
}

// loader is one attempt at an import: one transaction.
type loader struct {
	tx          pgx.Tx
	files       []File
	actor       string
	correlation string
	progress    func(Progress)
	staged      map[string]int64                // rows, by kind
	done        map[string]map[string]*practice // by practice, by kind
	faults      faults
}

// practice counts what was written of one kind in one practice.
type practice struct {
	Inserted int64 `json:"inserted,omitempty"`
	Changed  int64 `json:"changed,omitempty"`
}

func newLoader(tx pgx.Tx, files []File, options Options) *loader {
	l := &loader{tx: tx, files: files, actor: options.Actor, progress: options.Progress, correlation: uuid.NewString(),
		staged: map[string]int64{}, done: map[string]map[string]*practice{}}
	if l.progress == nil {
		l.progress = func(Progress) {}
	}
	for _, f := range files {
		l.faults.files = append(l.faults.files, f.Name)
	}
	return l
}

// load is the whole way of an import.
func (l *loader) load(ctx context.Context) error {
	if _, err := l.tx.Exec(ctx, prepareStaging); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	whole := true
	for number, f := range l.files {
		read, err := l.stage(ctx, number, f)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		whole = whole && read
	}
	if !whole { // what a file does not get to say would be reported as missing elsewhere
		return l.faults.rejected()
	}
	if err := l.check(ctx); err != nil {
		return fmt.Errorf("import: check: %w", err)
	}
	if err := l.faults.rejected(); err != nil {
		return err
	}
	if err := l.write(ctx); err != nil {
		return fmt.Errorf("import: write: %w", err)
	}
	if err := l.record(ctx); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

// report sums up what was written.
func (l *loader) report() Report {
	var r Report
	for name, counts := range map[string]*Counts{Practices: &r.Practices, Members: &r.Members, Clients: &r.Clients, Grants: &r.Grants,
		Contacts: &r.Contacts, Portal: &r.Portal} {
		for _, kinds := range l.done {
			if p := kinds[name]; p != nil {
				counts.Inserted += p.Inserted
				counts.Changed += p.Changed
			}
		}
		counts.Unchanged = l.staged[name] - counts.Inserted - counts.Changed
	}
	return r
}
