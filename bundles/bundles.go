// Package bundles carries the default bundle, so that a program decides without
// a file beside it. default.tar.gz is built from policies/, and signed with a
// key that nobody keeps; default.pub is its public half:
//
//	go run ./cmd/chartgate policy build
package bundles

import _ "embed"

// Default is the default bundle, in OPA's format.
//
//go:embed default.tar.gz
var Default []byte

// DefaultKey is the public key that signed Default, and nothing else.
//
//go:embed default.pub
var DefaultKey []byte
