// Package compile turns a policy into formulas, and formulas into a fast
// program and into SQL, so that checks and lists are one rule (promise P4).
//
// The way of a policy: OPA's partial evaluation with the action known
// (partial.go) leaves a few plain rules; these are run on symbols (convert.go,
// terms.go, rules.go) and give one boolean formula for each part of a decision
// (formula.go, compile.go). A program evaluates the formulas on a request and
// its facts (program.go); SQL asks them of whole tables (sql.go, lists.go).
// Decision diagrams (diagram.go) over what facts can be (theory.go) compare two
// policies exactly (differ.go) and prove properties (prove.go); a test whose
// values cannot be listed leaves them undecided (finite.go), never approximated.
//
// It promises that nothing is approximated: a rule that cannot be translated is
// an *Untranslatable, OPA answers in its stead, and lists refuse. A program is
// certified before it is used (certify.go): it and OPA agree on every point of
// the abstract fact space (space.go). It does no I/O but what OPA does.
package compile
