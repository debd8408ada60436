// Package sidecar is the decision point's door beside a service: AuthZEN 1.0,
// and the part of OPA's REST API that its clients use. It turns HTTP into
// authz.Request and verdicts into answers, and decides nothing.
//
// It promises that an answer is one of the PDP's, on record before it leaves;
// that failing to decide is an error of the family asked (503, OPA's 500) and
// never an answer; that facts a caller sends are not used, whatever they are
// called; and that identical requests on identical facts have identical bodies.
//
// AuthZEN's routes read strictly (web.Strict). OPA's routes are as lenient as
// OPA, whose clients rely on it, except that member names are exact there too.
package sidecar
