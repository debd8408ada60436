// Package pdp decides: bundle → Engine.Evaluate (pure) → PDP.Decide (facts,
// evaluate, record, answer).
//
// It promises that a denial is a value and an error means "could not decide",
// that every answer is on durable record before it is returned (promise P3),
// and that what a subject may not see does not show in a refusal (promise P8).
// Releases (releases.go) adds that what decides is replaced whole, by what was
// verified, compiled and asked its own checks; that no older release decides
// once a newer one was acknowledged; and that nothing decides while the active
// one cannot be had (promises P2, P7). It does not promise to have a release at
// once that was not prepared: decisions wait a second for it, then there is none.
// A question that is asked again on facts that have not changed follows its
// precedent (precedent.go) for as long as no time passes that the policy looked at.
// Read decide.go first: it is the heart, on one screen.
package pdp
