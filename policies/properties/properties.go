// Package properties carries the properties that no policy may change, so that
// the product proves its own copy of them of every release, whatever stands in
// the folder that the release came from.
package properties

import _ "embed"

// Core is core.rego: package properties.core, in Rego.
//
//go:embed core.rego
var Core []byte
