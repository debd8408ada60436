package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Activation says which release of the policy decides. Its zero value is what
// stands before the first one: the bundle that a program brings along decides.
type Activation struct {
	Serial    int64 // rises with each change
	Active    Release
	Candidate Release // zero: there is none
	Stage     string  // of the candidate: StagePrepare, StageShadow or StageShare
	Share     int     // percent of the practices that the candidate decides for
}

// Release names a release as it was signed.
type Release struct {
	Name     string `json:"release"`
	Content  string `json:"content"`  // digest of the bundle's files
	Revision int64  `json:"revision"` // of the signature; rises with each
}

// Stages of a candidate.
const (
	StagePrepare = "prepare" // sidecars load it
	StageShadow  = "shadow"  // and ask it beside the active release
	StageShare   = "share"   // and let it decide for a share of the practices
)

// ReadActivation reads which release decides.
func ReadActivation(ctx context.Context, q Querier) (Activation, error) {
	var (
		a                        Activation
		candidate, content, step *string
		revision                 *int64
		share                    *int
	)
	err := q.QueryRow(ctx, selectActivation).Scan(&a.Serial, &a.Active.Name, &a.Active.Content, &a.Active.Revision,
		&candidate, &content, &revision, &step, &share)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Activation{}, nil
	case err != nil:
		return Activation{}, fmt.Errorf("read activation: %w", err)
	}
	if candidate != nil {
		a.Candidate, a.Stage = Release{*candidate, *content, *revision}, *step
	}
	if share != nil {
		a.Share = *share
	}
	return a, nil
}
