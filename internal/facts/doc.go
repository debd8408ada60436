// Package facts is the PIP: what is known about a subject and a client, and how
// fresh it is.
//
// It promises that facts are those of one snapshot of the primary database,
// taken after the question arrived, or are shown to be unchanged since. Redis
// saves the read and decides nothing (promise P6): an entry is sealed, bound to
// its question, and used only after Postgres said, in one statement, that
// nothing which the entry rests on was written since the entry was read.
//
// The way of a question: Source.Facts → Redis entry → still true? → else
// Postgres → entry for the next one.
package facts
