package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// sweeper is a shell that sweeps up after this process. A test binary without
// TestMain has no last moment of its own, and one that is killed has none at all.
type sweeper struct{ lifeline *os.File }

// sweepers keeps the lifelines from being closed by the garbage collector.
var sweepers sync.Map

// sweepAtExit has the server with this pid ended and its folder removed when
// this process ends, however it ends. The server removes sign as its last act;
// its pid alone may stay on as a zombie.
func sweepAtExit(pid int, folder, sign string) (*sweeper, error) {
	// read fails when the only other end of the pipe, ours, is closed.
	const script = `if ! read -r dismissed; then
  kill -INT "$1" 2>/dev/null
  n=0; while [ -e "$3" ] && kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
fi
rm -rf "$2"`
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.Command("sh", "-c", script, "sweep", strconv.Itoa(pid), folder, sign)
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends the tests, not the sweeping
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, fmt.Errorf("start the shell that sweeps up: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it outlives this process, or is dismissed
	s := &sweeper{write}
	sweepers.Store(s, true)
	return s, nil
}

// dismiss tells it that the server has ended: only the folder is to be removed,
// since the pid may be somebody else's by now.
func (s *sweeper) dismiss() {
	fmt.Fprintln(s.lifeline, "dismissed")
	s.lifeline.Close()
	sweepers.Delete(s)
}
