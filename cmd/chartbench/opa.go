package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"time"

	"chartgate/bundles"
	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
)

// buildOPA builds OPA's program from its own module, in the version that
// Chartgate embeds, and returns where it is.
func buildOPA(ctx context.Context, folder string) (string, error) {
	const module = "github.com/open-policy-agent/opa"
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == module {
				version = d.Version
			}
		}
	}
	if version == "" {
		return "", errors.New("--opa build: this program does not know which version of OPA it embeds")
	}
	fmt.Fprintf(os.Stderr, "building OPA %s\n", version)
	cmd := exec.CommandContext(ctx, "go", "install", module+"@"+version)
	cmd.Dir = folder // outside of every module
	cmd.Env = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("--opa build: %w: %s", err, bytes.TrimSpace(output))
	}
	return filepath.Join(folder, "opa"), nil
}

// startOPA starts OPA's own server on the same bundle. It takes no free port by
// itself, so one is picked for it; if another program is quicker, the next is.
func startOPA(ctx context.Context, program, folder string) (*process, error) {
	bundle := filepath.Join(folder, "bundle.tar.gz")
	if err := os.WriteFile(bundle, bundles.Default, 0o644); err != nil {
		return nil, err
	}
	var failed error
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		address := listener.Addr().String()
		listener.Close()
		p, err := start("opa", exec.Command(program, "run", "--server", "--addr", address, "--log-level", "error",
			"--skip-version-check", "--skip-verify", "--bundle", bundle))
		if err != nil {
			return nil, fmt.Errorf("--opa: %w", err)
		}
		p.address = address
		if failed = awaitReady(ctx, p, "/health?bundles", "", "", startWait); failed == nil {
			return p, nil
		}
		if err := p.stop(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("--opa: %w", failed)
}

// opaBodies are the questions as OPA needs them: with the facts in the input,
// since nobody looks them up for it.
func opaBodies(ctx context.Context, s *store, questions []question) ([][]byte, error) {
	deployment, err := feed.ReadDeployment(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, len(questions))
	for i, q := range questions {
		request := authz.Request{
			Subject: authz.Subject{Type: authz.SubjectUser, ID: q.user}, Action: "chart.open",
			Resource: authz.Resource{Type: authz.ResourceClient, ID: q.client},
		}
		known, err := facts.Load(ctx, s.pool, deployment, request)
		if err != nil {
			return nil, err
		}
		if bodies[i], err = json.Marshal(map[string]any{"input": authz.Document(request, known)}); err != nil {
			return nil, err
		}
	}
	return bodies, nil
}

// opaTarget asks OPA's server.
func opaTarget(ctx context.Context, p *process, s *store, questions []question) (*target, error) {
	bodies, err := opaBodies(ctx, s, questions)
	if err != nil {
		return nil, err
	}
	wants := make([][2][]byte, len(questions))
	for i, q := range questions {
		wants[i] = [2][]byte{fmt.Appendf(nil, `"allow":%t`, q.allow), fmt.Appendf(nil, `"code":%q`, q.code)}
	}
	return &target{name: "opa", address: p.address, path: "/v1/data/authz/decision", bodies: bodies,
		cpu: []cost{{name: "server", pid: p.pid}},
		check: func(i int, answer []byte) error {
			if !bytes.Contains(answer, wants[i][0]) || !bytes.Contains(answer, wants[i][1]) {
				return fmt.Errorf("wrong answer for %+v: %s", questions[i], answer)
			}
			return nil
		}}, nil
}

// opaVersion is what the program says of itself.
func opaVersion(ctx context.Context, program string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, "version").Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := bytes.Cut(output, []byte("\n"))
	return string(bytes.TrimSpace(bytes.TrimPrefix(line, []byte("Version:"))))
}
