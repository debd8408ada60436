package release

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

const (
	reportEnds  = 15 * time.Second // a sidecar that has not reported for so long is not waited for
	maxSidecars = 10000            // that are kept; after a day one that is silent is forgotten
	maxReport   = 64 << 10         // bytes
	askAgain    = 100 * time.Millisecond
)

// Sidecar is what one last said of itself.
type Sidecar struct {
	ID     string
	At     time.Time
	Age    time.Duration
	Report json.RawMessage
}

// Report keeps what a sidecar says of itself. Where it saw the candidate decide
// in a way that nobody has approved, the candidate is taken back.
func (s *Service) Report(ctx context.Context, id string, text []byte) error {
	var report pdp.Report
	if len(text) > maxReport {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "too-large", Status: 413, Detail: fmt.Sprintf("a report may have %d bytes", maxReport)}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: "the report is not as it must be: " + err.Error()}
	}
	stopped := false
	err := postgres.InTx(ctx, s.o.Pool, func(tx pgx.Tx) error {
		stopped = false
		if err := exec(ctx, tx, "report", forgetSidecars); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRow(ctx, countSidecars, id).Scan(&others); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		if others >= maxSidecars {
			return conflict("too-many-sidecars", fmt.Sprintf("%d sidecars have reported within a day", others))
		}
		if err := exec(ctx, tx, "report", upsertSidecar, id, text); err != nil {
			return err
		}
		if report.Shadow == nil || len(report.Shadow.Examples) == 0 {
			return nil
		}
		var err error
		stopped, err = s.stop(ctx, tx, id, report)
		return err
	})
	if err != nil || !stopped {
		return err
	}
	return s.o.Settle(ctx)
}

// stop takes the candidate back where a sidecar saw it decide otherwise than
// was approved.
func (s *Service) stop(ctx context.Context, tx pgx.Tx, sidecar string, report pdp.Report) (bool, error) {
	a, err := lockActivation(ctx, tx)
	if err != nil || report.Shadow.Candidate != a.Candidate.Content || report.Content != a.Active.Content || a.Stage == feed.StagePrepare {
		return false, err
	}
	r, err := read(ctx, tx, selectRelease, a.Candidate.Name)
	if err != nil {
		return false, err
	}
	for _, d := range report.Shadow.Examples {
		if foreseen(r, a.Active.Content, d) {
			continue
		}
		why := fmt.Sprintf("sidecar %s saw %s go from %q to %q in %d decisions, such as %s, which is not in the difference that was approved",
			sidecar, d.Action, d.From, d.To, d.Count, strings.Join(d.Decisions, ", "))
		s.o.Log.Error("a candidate was taken back", "release", r.ID, "why", why)
		return true, withdraw(ctx, tx, shippedBy, &a, why)
	}
	return false, nil
}

// awaitReady returns once every live sidecar could swap to content at once. Its
// problem names those that cannot.
func (s *Service) awaitReady(ctx context.Context, content string) error {
	until := time.Now().Add(s.o.Patience)
	for {
		late, refusals, err := s.notReady(ctx, content)
		switch {
		case err != nil:
			return err
		case len(refusals) > 0:
			return &authz.Problem{Kind: authz.ErrConflict, Type: "sidecars-refuse", Extra: map[string]any{"sidecars": refusals},
				Detail: fmt.Sprintf("%d sidecars refuse the release: %s", len(refusals), refusals[0]["why"])}
		case len(late) == 0 && (s.o.Certify == nil || s.engines.settled(content) || !time.Now().Before(until)):
			return nil // control's own lists wait for their program, and no longer than sidecars are waited for
		case !time.Now().Before(until):
			return &authz.Problem{Kind: authz.ErrConflict, Type: "sidecars-not-ready", Extra: map[string]any{"sidecars": late},
				Detail: fmt.Sprintf("%d sidecars do not have the release ready after %v, such as %s: try again, or force it", len(late), s.o.Patience, late[0]["sidecar"])}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the sidecars: %w", ctx.Err())
		case <-time.After(askAgain):
		}
	}
}

func (s *Service) notReady(ctx context.Context, content string) (late, refusals []map[string]string, err error) {
	sidecars, err := s.Sidecars(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, sidecar := range sidecars {
		var report pdp.Report
		if sidecar.Age > reportEnds || json.Unmarshal(sidecar.Report, &report) != nil {
			continue
		}
		if i := slices.IndexFunc(report.Refused, func(r pdp.Refusal) bool { return r.Content == content }); i >= 0 {
			refusals = append(refusals, map[string]string{"sidecar": sidecar.ID, "why": report.Refused[i].Why})
		} else if !slices.Contains(report.Prepared, content) {
			late = append(late, map[string]string{"sidecar": sidecar.ID})
		}
	}
	return late, refusals, nil
}

// Sidecars lists what each sidecar last said of itself, by id.
func (s *Service) Sidecars(ctx context.Context) ([]Sidecar, error) {
	rows, err := s.o.Pool.Query(ctx, selectSidecars, maxSidecars)
	if err != nil {
		return nil, fmt.Errorf("list sidecars: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Sidecar, error) {
		var one Sidecar
		var age float64
		err := row.Scan(&one.ID, &one.At, &age, &one.Report)
		one.Age = time.Duration(age * float64(time.Second))
		return one, err
	})
	if err != nil {
		return nil, fmt.Errorf("list sidecars: %w", err)
	}
	return list, nil
}

// foreseen reports whether the evidence of an approved release says that a
// decision may go this way. A roll-back goes back to what was approved before,
// by a difference that nobody has looked at: there any is expected.
func foreseen(r *Release, active string, d pdp.Difference) bool {
	found := r.Evidence.Steps[stepDiff]
	if r.State == StateRetired || found.Against != active {
		return true
	}
	return d.To != "" && d.From != "" && expects(found.Detail, d.Action, d.From, d.To)
}
