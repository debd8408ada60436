package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Check is a question that a bundle brings along with its answer, at
// data.checks.cases: whoever loads the bundle asks it before the bundle decides
// anything, so that a policy which this build evaluates in another way than the
// one that released it never becomes active.
type Check struct {
	Input map[string]any `json:"input"` // a facts document
	Allow bool           `json:"allow"`
	Code  string         `json:"code"`
}

// ChecksFile is where Checks stand in a bundle.
const ChecksFile = "checks/data.json"

// Checks are what stands in ChecksFile.
type Checks struct {
	Cases []Check `json:"cases"`
}

// NewChecked compiles a bundle of a policy on Chartgate's facts and asks it its
// own checks. A bundle without checks must answer one empty question, with a
// denial. An error means that the bundle must not decide.
func NewChecked(ctx context.Context, b *Bundle) (*Engine, error) {
	engine, err := NewEngine(ctx, b, DecisionPath)
	if err != nil {
		return nil, err
	}
	empty, err := engine.EvaluateDocument(ctx, map[string]any{})
	switch {
	case err != nil:
		return nil, fmt.Errorf("bundle: asked nothing, it gives no answer: %w", err)
	case empty.Allow:
		return nil, errors.New("bundle: asked nothing, it allows")
	}
	text, err := json.Marshal(b.Data["checks"])
	if err != nil {
		return nil, fmt.Errorf("bundle: checks: %w", err)
	}
	var checks Checks
	if err := json.Unmarshal(text, &checks); err != nil {
		return nil, fmt.Errorf("bundle: checks: %w", err)
	}
	for i, check := range checks.Cases {
		got, err := engine.EvaluateDocument(ctx, check.Input)
		if err != nil {
			return nil, fmt.Errorf("bundle: check %d of %d: %w", i+1, len(checks.Cases), err)
		}
		if got.Allow != check.Allow || got.Code != check.Code {
			return nil, fmt.Errorf("bundle: check %d of %d fails: want allow=%v because %s, got allow=%v because %s",
				i+1, len(checks.Cases), check.Allow, check.Code, got.Allow, got.Code)
		}
	}
	return engine, nil
}
