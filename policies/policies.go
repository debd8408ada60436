// Package policies carries the folder of policies that the default bundle is
// built from, with its cases, so that a draft can begin with it.
package policies

import "embed"

// Files is the folder as it stands here.
//
//go:embed *
var Files embed.FS
