package compile

import (
	"os"
	"runtime/debug"
)

// What is asked here makes much garbage and keeps little: collected less often,
// the tests take a quarter less time. GOGC goes before.
func init() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
