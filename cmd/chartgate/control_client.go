package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// controlFlags say where control is. The key comes from the environment only:
// what stands on a command line is seen by everybody on the machine.
type controlFlags struct {
	ControlURL string `env:"CHARTGATE_CONTROL_URL" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Where control answers. Its key is CHARTGATE_CONTROL_KEY: one that was made for you, with the scope policy.draft or policy.approve. Default: ${default}."`
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// controlTime is how long control may take: it waits for the sidecars.
const controlTime = time.Minute

// call asks control and reads its answer into into, unless that is nil. A
// problem is an error that says what it says.
func (f controlFlags) call(ctx context.Context, method, path string, body, into any, headers ...string) (http.Header, error) {
	key := os.Getenv("CHARTGATE_CONTROL_KEY")
	if key == "" {
		return nil, errors.New("CHARTGATE_CONTROL_KEY is not set: it holds a key that 'chartgate key make --person' made for you")
	}
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	var payload io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("ask control: %w", err)
		}
		payload = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(f.ControlURL, "/")+path, payload)
	if err != nil {
		return nil, fmt.Errorf("--control-url: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	// A redirect is not followed: the key is for this host only.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask control: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask control: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("control answers %s: %s", response.Status, problemOf(text))
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			return nil, fmt.Errorf("control's answer: %w", err)
		}
	}
	return response.Header, nil
}

// problemOf is what a problem says, and to which sidecars it applies.
func problemOf(text []byte) string {
	var problem struct {
		Detail   string `json:"detail"`
		Sidecars []struct {
			Sidecar string `json:"sidecar"`
			Why     string `json:"why"`
		} `json:"sidecars"`
	}
	if json.Unmarshal(text, &problem) != nil || problem.Detail == "" {
		return strings.ToValidUTF8(string(text[:min(200, len(text))]), "?")
	}
	for _, s := range problem.Sidecars {
		problem.Detail += "\n  " + strings.TrimSuffix(s.Sidecar+": "+s.Why, ": ")
	}
	return problem.Detail
}
