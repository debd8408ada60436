// Package web is what all HTTP servers of Chartgate share: who calls (static
// keys, keys of the database, JWTs), strict JSON, error answers, health and
// metrics.
//
// It promises that nothing it hands on points into a buffer of the server,
// that every answer carries the caller's X-Request-ID, that an error's inner
// text goes to the log and never to the caller, and that a caller whose
// credentials cannot be checked is refused. It decides nothing about access:
// a caller's scopes say which doors he may knock at, the policy says the rest.
//
// Fiber's values live only as long as their handler (fasthttp uses the memory
// again): take what you keep through Copy, Read or Strict, which copy.
package web
