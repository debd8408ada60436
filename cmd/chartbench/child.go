package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// process is a server that a scenario started. It ends with this process.
type process struct {
	name    string
	address string
	pid     int
	cmd     *exec.Cmd
	stdin   io.Closer // our own servers end when it is closed
	exited  chan struct{}
	err     error // how it ended; read after exited
}

// startWait is how long a server may take to say that it is ready.
const startWait = 60 * time.Second

// startSelf starts this program with a hidden command, as a server of its own,
// and waits until it says where it listens.
func startSelf(ctx context.Context, command string, environment ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, command)
	cmd.Env = append(os.Environ(), environment...)
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(command, cmd)
	if err != nil {
		return nil, err
	}
	said := make(chan announcement, 1)
	go func() {
		var a announcement
		line, _ := bufio.NewReader(output).ReadBytes('\n')
		if json.Unmarshal(line, &a) == nil {
			said <- a
		}
	}()
	select {
	case a := <-said:
		p.address = a.Address
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("%s ended before it was ready: %w", command, p.err)
	case <-time.After(startWait):
		return nil, errors.Join(fmt.Errorf("%s is not ready after %s", command, startWait), p.stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop())
	}
}

// start runs cmd until stop, or until this process ends.
func start(name string, cmd *exec.Cmd) (*process, error) {
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = endWithParent()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel takes the thread that starts a child for its parent: this
		// one lives until the child has ended.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// stop ends the server: its input is closed, and where that is not enough it is
// killed.
func (p *process) stop() error {
	p.stdin.Close()
	select {
	case <-p.exited:
		return nil
	case <-time.After(5 * time.Second):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	<-p.exited
	return nil
}

// announcement is the line in which a server says where it listens.
type announcement struct {
	Address string `json:"address"`
}

// announce is the other end of startSelf: it listens on a free port of the
// loopback address and says so. The context ends when the parent closes the
// input, or is gone.
func announce(ctx context.Context) (context.Context, net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whatever ends it, the parent is through with us
		cancel()
	}()
	return ctx, listener, json.NewEncoder(os.Stdout).Encode(announcement{Address: listener.Addr().String()})
}
