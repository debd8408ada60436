package halves

import (
	"os"
	"runtime/debug"

	"chartgate/internal/facts"
)

const (
	// heapBeside is what the heap of a sidecar may take beside the facts that it
	// remembers: the policy, its compiled form, and what calls need.
	heapBeside = 48 << 20
	// garbage is how much of it there may be before it is collected, in percent of
	// what is in use. Little is in use, so that the bound above comes first.
	garbage = 400
)

// BoundMemory has the garbage collector keep the heap of a process that is a
// sidecar and nothing else within what its facts and its policy need, as far as
// it can, and collect no sooner than that asks for. GOMEMLIMIT and GOGC go before.
func BoundMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(facts.DefaultMemory + facts.WholeMemory + heapBeside)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}
