package roster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
)

// check notes everything that is wrong with the staged rows together and with
// what is there. From here on nobody else writes facts.
func (l *loader) check(ctx context.Context) error {
	step := Progress{Step: "check", Total: int64(len(checks))}
	l.progress(step)
	presets := slices.Sorted(maps.Keys(authz.Presets))
	defaults := make([]string, len(presets))
	for i, preset := range presets {
		settings, err := authz.NewSettings(preset, nil)
		if err != nil {
			return err
		}
		defaults[i] = settings.Text("grant_default_scope")
	}
	for _, s := range []struct {
		sql       string
		arguments []any
	}{
		{freeze, nil},
		{createMembersAfter, nil},
		{createPracticesAfter, nil},
		{analyzeAfter, nil},
		{createGrantsReady, []any{presets, defaults, l.actor, authz.NoEnd}},
		{`ANALYZE roster_grants_ready`, nil},
	} {
		if _, err := l.tx.Exec(ctx, s.sql, s.arguments...); err != nil {
			return err
		}
	}
	for _, c := range checks {
		if l.staged[c.kind] > 0 {
			if _, err := l.tx.Exec(ctx, c.sql); err != nil {
				return fmt.Errorf("%s: %w", c.kind, err)
			}
		}
		step.Done++
		l.progress(step)
	}
	if err := l.gather(ctx); err != nil {
		return err
	}
	step.Over = true
	l.progress(step)
	return nil
}

// gather takes over what the checks noted.
func (l *loader) gather(ctx context.Context) error {
	rows, err := l.tx.Query(ctx, selectFaults, maxFaults)
	if err != nil {
		return err
	}
	var (
		p                    placed
		otherFile, otherLine *int
		found                int
	)
	_, err = pgx.ForEachRow(rows, []any{&p.file, &p.line, &p.column, &p.why, &otherFile, &otherLine, &found}, func() error {
		kept := p
		if otherFile != nil {
			kept.why = fmt.Sprintf("%s %s:%d", p.why, l.faults.files[*otherFile], *otherLine)
		}
		l.faults.kept = append(l.faults.kept, kept)
		return nil
	})
	l.faults.count += found
	return err
}
