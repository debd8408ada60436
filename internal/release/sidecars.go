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
	"chartgate/internal/postgres"

	"github.com/jackc/pgx/v5"
)

const (
	reportEnds  = 15 * time.Second // a sidecar that has not reported for so long is not waited for
	maxSidecars = 10000            // that are kept; after a day one that is silent is forgotten
	maxReport   = 64 << 10         // bytes
	askAgain    = 100 * time.Millisecond
)

// Report is what a sidecar says of itself, as far as control acts on it; what
// else it says is kept and shown.
type Report struct {
	Release  string         `json:"release"`
	Content  string         `json:"content"`
	Revision int64          `json:"revision"`
	Serial   int64          `json:"serial"`
	Prepared []string       `json:"prepared"` // contents that it could swap to at once
	Refused  []RefusedOne   `json:"refused"`
	Shadow   *ShadowReport  `json:"shadow"`
	Rest     map[string]any `json:"-"`
}

// RefusedOne is a release that a sidecar does not take.
type RefusedOne struct {
	Content string `json:"content"`
	Why     string `json:"why"`
}

// ShadowReport is what a sidecar saw of a candidate beside the active release.
type ShadowReport struct {
	Asked    int64    `json:"asked"`
	Differs  int64    `json:"differs"`
	Dropped  int64    `json:"dropped"`
	Examples []Differ `json:"examples"`
}

// Differ is a kind of decision that the candidate makes otherwise.
type Differ struct {
	Action string `json:"action"`
	From   string `json:"from"` // code of the active release
	To     string `json:"to"`   // code of the candidate
}

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
	var report Report
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
func (s *Service) stop(ctx context.Context, tx pgx.Tx, sidecar string, report Report) (bool, error) {
	a, err := lockActivation(ctx, tx)
	if err != nil || a.Serial != report.Serial || a.Candidate.Name == "" || a.Stage == feed.StagePrepare {
		return false, err
	}
	r, err := read(ctx, tx, selectRelease, a.Candidate.Name)
	if err != nil {
		return false, err
	}
	for _, d := range report.Shadow.Examples {
		if expected(r, a.Active.Content, d) {
			continue
		}
		why := fmt.Sprintf("sidecar %s saw %s go from %s to %s, which is not in the difference that was approved", sidecar, d.Action, d.From, d.To)
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
		case len(late) == 0:
			return nil
		case !time.Now().Before(until):
			return &authz.Problem{Kind: authz.ErrConflict, Type: "sidecars-not-ready", Extra: map[string]any{"sidecars": late},
				Detail: fmt.Sprintf("after %v not ready: %s; try again, or force it", s.o.Patience, strings.Join(late[:min(5, len(late))], ", "))}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the sidecars: %w", ctx.Err())
		case <-time.After(askAgain):
		}
	}
}

func (s *Service) notReady(ctx context.Context, content string) (late []string, refusals []map[string]string, err error) {
	sidecars, err := s.Sidecars(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, sidecar := range sidecars {
		var report Report
		if sidecar.Age > reportEnds || json.Unmarshal(sidecar.Report, &report) != nil {
			continue
		}
		if i := slices.IndexFunc(report.Refused, func(r RefusedOne) bool { return r.Content == content }); i >= 0 {
			refusals = append(refusals, map[string]string{"sidecar": sidecar.ID, "why": report.Refused[i].Why})
		} else if !slices.Contains(report.Prepared, content) && report.Content != content {
			late = append(late, sidecar.ID)
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

// expected reports whether the evidence of an approved release says that a
// decision may go this way. A roll-back goes back to what was approved before,
// by a difference that nobody has looked at: there any is expected.
func expected(r *Release, active string, d Differ) bool {
	if r.State == Retired || r.Evidence.Steps[stepDiff].Against != active {
		return true
	}
	var found struct {
		Changes []Differ `json:"changes"`
	}
	if err := json.Unmarshal(r.Evidence.Steps[stepDiff].Detail, &found); err != nil {
		return false
	}
	return slices.Contains(found.Changes, d)
}
