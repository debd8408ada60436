//go:build unix && !linux

package embedded

import "syscall"

// endWithParent does nothing: this system cannot tie a child to its parent. A
// server that a killed process left is reported by the next start.
func endWithParent(*syscall.SysProcAttr) {}
