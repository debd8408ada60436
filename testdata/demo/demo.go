// Package demo holds the demo practices as files that `chartgate import`
// reads, embedded so that `chartgate run` needs nothing beside its binary. It
// is loaded by the same code as any other roster, and names nobody real.
//
// The go command leaves folders named testdata out of "./...": vet it by name.
// internal/roster tests what is in the files.
package demo

import "embed"

// Files holds practices.csv, members.csv, clients.csv and grants.csv.
//
//go:embed *.csv
var Files embed.FS
