// Package facts is the PIP: what is known about a subject and a client, and how
// fresh it is.
//
// It promises that facts are those of one snapshot of the primary database, and
// hold everything that had been acknowledged as taken away when the question
// arrived (promise P2). Redis saves time and decides nothing (promise P6).
//
// The way of a question: Source.Facts, or of many that have arrived together,
// Source.Together → is the lease live? → memory → a sealed entry in Redis that
// nothing touched since → Postgres. Redis and Postgres are asked once for all.
// Without a live lease facts come from Postgres alone. What a read brings is
// kept only if nothing was heard about it since the read began; package feed
// says what is heard, and docs there say why a lease is enough.
package facts
