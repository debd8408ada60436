//go:build !linux

package main

import (
	"syscall"
	"time"
)

// endWithParent does nothing: this system cannot tie a child to its parent. Our
// own servers end when their input is closed.
func endWithParent() *syscall.SysProcAttr { return nil }

// cpuTime is not known on this system; 0 is shown as "-".
func cpuTime(int, bool) (time.Duration, error) { return 0, nil }

// residentMemory is not known on this system.
func residentMemory(int) (now, most uint64, err error) { return 0, 0, nil }
