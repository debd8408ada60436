// Package release turns policies into a bundle, and shows that they do what
// they should: it checks what can be known of them (check.go lists the steps),
// runs their cases, explains one, begins a rule, proves their properties
// (properties.go), tells every situation in which two of them differ
// (difference.go), and builds the bundle.
//
// It promises that the same policies give the same bundle, byte for byte, and
// that a case goes through the engine that answers requests, not through one
// of its own. What it does not promise: it reads no facts from a database and
// signs nothing.
package release
