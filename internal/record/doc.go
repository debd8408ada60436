// Package record keeps the permanent record: every decision and every change.
//
// It promises (P3) that Record returns only when its decisions will survive the
// death of the process. Spool writes what arrives together into a local file
// with one write; the file is synced every Options.SyncInterval, which is what
// the loss of the whole host may cost (0: nothing). A Shipper brings it to
// Postgres in order, each decision once, and links the decisions into a chain.
// Changes, and decisions that are made in the transaction of a change, are
// written there at once, and chained by the ledger when they commit.
//
// What cannot be recorded is refused with authz.ErrUnavailable: a full disk or a
// full spool until there is room again, a failed sync for good. There is no
// setting to the contrary.
//
// Verify follows the chains and finds what was altered, removed, moved or cut
// off. It does not find a record that the owner of the database wrote anew as a
// whole; heads that were kept elsewhere do (Anchor). Files that were not shipped
// yet have checksums, which protect against accidents and not against who may
// write them.
//
// Decisions hold opaque ids and the facts they rest on; no names, no e-mails, no
// free text. format.go and group.go describe the bytes.
package record
