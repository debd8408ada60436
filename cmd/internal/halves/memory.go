package halves

import (
	"os"
	"runtime/debug"

	"chartgate/internal/facts"
)

// heapBeside is what the heap of a sidecar may take beside the facts that it
// remembers: the policy, its compiled form, and what calls need.
const heapBeside = 48 << 20

// BoundMemory has the garbage collector keep the heap of a process that is a
// sidecar and nothing else within what its facts and its policy need, as far as
// it can; GOMEMLIMIT goes before. Decisions make little garbage, so that this
// costs next to nothing.
func BoundMemory(factBytes uint64) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if factBytes == 0 {
		factBytes = facts.DefaultMemory
	}
	debug.SetMemoryLimit(int64(factBytes) + heapBeside)
}
