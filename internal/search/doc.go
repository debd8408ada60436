// Package search answers with lists: what a member may do something to, who may
// do something to a client, and AuthZEN's searches for subjects, resources and
// actions.
//
// It promises that a list is exactly the single checks (promise P4): it holds
// whatever they allow and nothing else, page by page, or it is an error. Lists
// of clients and of members are SQL, made of the policy's own formulas by
// package compile; where the policy is not compiled there is no such list. All
// else is enumerated and evaluated, one by one. The facts and the clock of a
// page are those of one snapshot of the primary database.
//
// What may not be seen does not show (promise P8): it is not in a page, not
// counted, and no cursor ends at it. A cursor is sealed, and is good for one
// question of one caller alone.
//
// Each page is on record (promise P3) as one entry for each practice it is
// about, code "listed": who asked what, the facts that all rows have in common,
// the release, and a digest of the question and of what was listed. An entry for
// each row would say no more, since rows follow from facts, release and moment,
// and would make a page of a thousand clients a thousand decisions.
//
// It does not say who may ask: Authority does, and the caller's scope.
package search
