// Package authz holds the words that all of Chartgate speaks: what is asked
// (Request), what is known (Facts), what is answered (Decision), and the five
// errors that say why nothing could be answered or changed.
//
// It imports nothing of ours, reads no clock and does no I/O, so that every
// other room may use it. The zero Decision denies.
package authz
