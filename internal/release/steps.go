package release

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Gate is one step that looks at a draft. Every one of Gates must pass before a
// draft can be approved.
type Gate struct {
	Name  string
	For   State // Verified: it judges the draft alone; Reviewed: it compares it with the active release
	About string
	Run   func(ctx context.Context, e Examination) (Found, error)
}

// Examination is what a step looks at.
type Examination struct {
	Folder   fs.FS         // the source
	Bundle   *pdp.Bundle   // built of it
	Engine   *pdp.Engine   // of Bundle
	Active   *pdp.Bundle   // what it is compared with
	Pool     *pgxpool.Pool // in the role of control
	From, To time.Time     // the period, for a step that looks back
	Progress func(done, total int64)
}

// Found is what a step found; an error instead means that it could not look.
type Found struct {
	Outcome Outcome
	Summary string // one sentence
	Detail  any    // of the step's own kind, as JSON
}

// passedIf is the outcome of a step that either passes or refuses.
func passedIf(ok bool) Outcome {
	if ok {
		return Passed
	}
	return Refused
}

// stepCheck looks at what cannot even be built.
const stepCheck = "check"

// stepDiff says which decisions are expected to come out otherwise.
const stepDiff = "diff"

// Gates are the steps of every draft, in the order in which they are
// best run.
var Gates = []Gate{
	{Name: stepCheck, For: StateVerified, About: "form, types and lint, and every case", Run: runCheck},
	{Name: "administrators", For: StateVerified, About: "administrators can still manage access under every setting", Run: runKeepers},
}

func runCheck(ctx context.Context, e Examination) (Found, error) {
	findings, err := Check(ctx, e.Folder)
	if err != nil {
		return Found{}, err
	}
	cases, err := ReadCases(e.Folder)
	if err != nil {
		return Found{Outcome: Refused, Summary: err.Error()}, nil
	}
	detail := struct {
		Findings []Finding `json:"findings"`
		Cases    int       `json:"cases"`
		Failed   []string  `json:"failed"`
	}{Findings: findings, Cases: len(cases)}
	for _, c := range cases {
		if r := c.run(ctx, e.Engine); !r.OK() {
			detail.Failed = append(detail.Failed, r.Fault())
		}
	}
	return Found{Outcome: passedIf(len(findings)+len(detail.Failed) == 0 && len(cases) > 0), Detail: detail,
		Summary: fmt.Sprintf("%d cases, %d failed; %d findings", len(cases), len(detail.Failed), len(findings))}, nil
}

// expects reports whether the difference that the step diff kept holds a change
// of this kind.
func expects(detail []byte, action, from, to string) bool {
	type sentence struct {
		Actions       []string
		Before, After string // codes
	}
	var found struct{ Access, Wording []sentence }
	if err := json.Unmarshal(detail, &found); err != nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(found.Access, found.Wording), func(s sentence) bool {
		return slices.Contains(s.Actions, action) && s.Before == from && s.After == to
	})
}
