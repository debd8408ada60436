package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"
)

// profileFolder is the environment variable that says where a server of ours
// writes its CPU profile, between one signal and the next.
const profileFolder = "CHARTBENCH_PROFILES"

// profileOnSignal starts a CPU profile at SIGUSR1, and ends it at the next.
func profileOnSignal(ctx context.Context, folder string) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)
	var f *os.File
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		if f != nil {
			pprof.StopCPUProfile()
			f.Close()
			_ = os.Rename(f.Name(), profileOf(folder, os.Getpid()))
			f = nil
			continue
		}
		var err error
		if f, err = os.Create(profileOf(folder, os.Getpid()) + ".part"); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
			f = nil
			continue
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
	}
}

func profileOf(folder string, pid int) string {
	return filepath.Join(folder, "cpu-"+strconv.Itoa(pid)+".pprof")
}

// apart is what share of a sidecar's CPU the record takes, in percent.
type apart struct {
	Ship    float64 `json:"ship_percent"`
	Chain   float64 `json:"chain_percent"`
	Spool   float64 `json:"spool_percent"`
	Profile string  `json:"-"`
}

// costApart drives the sidecar once more under a CPU profile, and reads from it
// what the record costs: shipping, the hash chain, the spool. Shares of a
// profile are no sum: the chain is made by the shipper.
func costApart(ctx context.Context, sidecar *target, connections int, duration time.Duration) (*apart, error) {
	fmt.Fprintln(os.Stderr, "profiling the sidecar")
	pid := sidecar.cpu[0].pid
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if _, err := drive(ctx, sidecar, connections, duration, false); err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	file := profileOf(sidecar.profiles, pid)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("profile: %s is not written", file)
		}
	}
	a := &apart{Profile: file}
	for focus, into := range map[string]*float64{
		`record\.\(\*(Shipper|source|copier)\)`: &a.Ship, `record\.\(\*linker\)`: &a.Chain, `record\.\(\*Spool\)`: &a.Spool,
	} {
		share, err := shareOf(ctx, file, focus)
		if err != nil {
			return nil, err
		}
		*into = share
	}
	return a, nil
}

// accounted is how pprof says what the functions in focus took together.
var accounted = regexp.MustCompile(`Showing nodes accounting for [^,]+, ([0-9.]+)% of`)

// shareOf returns how much of a profile went through functions of that name, in
// percent.
func shareOf(ctx context.Context, file, focus string) (float64, error) {
	output, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodefraction=0", "-nodecount=0", "-focus="+focus, file).Output()
	if err != nil {
		return 0, fmt.Errorf("go tool pprof: %w", err)
	}
	found := accounted.FindSubmatch(output)
	if found == nil { // nothing went through them
		return 0, nil
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
