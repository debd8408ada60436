// Package roster loads practices, members, clients and grants from CSV or
// NDJSON files: an operator's import of what another system holds.
//
// It promises that an import is all or nothing; that every bad row is reported
// with its file, line, column and why (Rejected); that the same files loaded
// again change nothing, in the facts, their history and the feed; and that its
// memory does not grow with the files. Rows that are not in the files stay.
//
// It loads facts and asks no policy: whoever may open the database may import.
// It holds to what must be true of facts (ids are unique across practices, an
// assigned practitioner and the holder of a grant are members of the client's
// practice who are not removed, grants never overlap), not to how a practice
// wants them to be given (grant_requires_reason, grantee_roles). A grant or an
// assignment of a member without the role for it is loaded and gives nothing.
// Sidecars answer while an import runs; writers wait until it ends.
//
// What a file does not say stays as it is: a column that is missing, and a
// blank cell of a column that has no blank value (a status, a flag, a scope).
// Where blank is a value of its own it is taken as said: nobody assigned, no
// e-mail, no roles, no end.
//
// The way of an import: files → staging tables by COPY → checks → facts.
package roster
