// Package pdp decides: bundle → Engine.Evaluate (pure) → PDP.Decide (facts,
// evaluate, record, answer).
//
// It promises that a denial is a value and an error means "could not decide",
// that every answer is on durable record before it is returned (promise P3),
// and that what a subject may not see does not show in a refusal (promise P8).
// Read decide.go first: it is the heart, on one screen.
package pdp
