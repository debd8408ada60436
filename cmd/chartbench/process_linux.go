package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// endWithParent has the kernel kill a child when the thread that started it
// ends, so that not even kill -9 leaves a server behind.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// clockTick is the unit of CPU times in /proc: USER_HZ, 100 on every Linux.
const clockTick = 10 * time.Millisecond

// cpuTime returns how much CPU a process has used, and with family also its
// children that run and those that it has waited for.
func cpuTime(pid int, family bool) (time.Duration, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	total := fields.cpu
	if !family {
		return total, nil
	}
	total += fields.waited
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if f, err := stat(child); err == nil && f.parent == pid { // an error: it has ended meanwhile
			total += f.cpu
		}
	}
	return total, nil
}

type processStat struct {
	parent      int
	cpu, waited time.Duration
}

// stat reads /proc/pid/stat (proc(5)).
func stat(pid int) (processStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processStat{}, err
	}
	// The name of the program may hold blanks and parentheses.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return processStat{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	number := func(field int) int {
		n, _ := strconv.Atoi(string(fields[field-3])) // counted from 1; the first two are gone
		return n
	}
	return processStat{
		parent: number(4),
		cpu:    time.Duration(number(14)+number(15)) * clockTick,
		waited: time.Duration(number(16)+number(17)) * clockTick,
	}, nil
}

// residentMemory returns how much memory a process has resident, in bytes, now
// and at most so far.
func residentMemory(pid int) (now, most uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseUint(string(fields[1]), 10, 64) // other lines hold no number
		switch string(fields[0]) {
		case "VmRSS:":
			now = kib << 10
		case "VmHWM:":
			most = kib << 10
		}
	}
	return now, most, nil
}
