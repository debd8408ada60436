// Package feed says what changed, in an order that can be trusted.
//
// Triggers write a row into the table feed for every write to a fact table, in
// the writer's own transaction. A position in the feed is a whole snapshot, not
// a number: transactions commit in another order than they begin, so only a
// snapshot can say which of them it has seen.
package feed
