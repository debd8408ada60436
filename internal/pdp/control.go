package pdp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"chartgate/internal/feed"
)

// Control is the way to control over HTTP: bundles come from there, and reports
// go there. No decision ever waits for it.
type Control struct {
	base   string
	key    string
	client *http.Client

	mu      sync.Mutex
	fetched map[string]fetched // by name: what need not be sent again for a while
}

type fetched struct {
	etag string
	raw  []byte
	at   time.Time
}

// freshFor is how long control may answer that a bundle, which was refused, is
// still the same. After that it is sent whole again: it may have been damaged on
// its way.
const freshFor = 15 * time.Second

// controlLimit bounds one call to control.
const controlLimit = 10 * time.Second

// NewControl returns the way to control at base, such as
// https://control.example.com, with an API key that has scope operate. It does
// not connect. A redirect is not followed: the key is for this host only.
func NewControl(base, key string) (*Control, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("control %q: want an address such as https://control.example.com", base)
	}
	client := &http.Client{Timeout: controlLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Control{base: u.JoinPath("/").String(), key: key, client: client, fetched: map[string]fetched{}}, nil
}

// bundle fetches the signed bundle of a release: by its name, else by its
// content. What came is not verified.
func (c *Control) bundle(ctx context.Context, of feed.Release) ([]byte, error) {
	raw, err := c.fetch(ctx, of.Name)
	if errors.Is(err, errNotThere) {
		raw, err = c.fetch(ctx, of.Content)
	}
	return raw, err
}

// unreachable: the network failed. Its text may be seen by everybody, its cause,
// which has addresses in it, goes to the log.
type unreachable struct{ cause error }

func (*unreachable) Error() string { return "control cannot be reached" }

func causeOf(err error) error {
	var u *unreachable
	if errors.As(err, &u) {
		return u.cause
	}
	return nil
}

var errNotThere = errors.New("control has no such bundle")

func (c *Control) fetch(ctx context.Context, name string) ([]byte, error) {
	request, err := c.request(ctx, http.MethodGet, "bundles/"+url.PathEscape(name), nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	before := c.fetched[name]
	c.mu.Unlock()
	if before.etag != "" && time.Since(before.at) < freshFor {
		request.Header.Set("If-None-Match", before.etag)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, &unreachable{err}
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		if before.raw == nil {
			return nil, errors.New("control answers 304, and nothing came before")
		}
		return before.raw, nil
	case http.StatusNotFound:
		return nil, fmt.Errorf("%w: %s", errNotThere, name)
	default:
		return nil, fmt.Errorf("control answers %s", response.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxBundle+1))
	switch {
	case err != nil:
		return nil, &unreachable{err}
	case len(raw) > maxBundle:
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrRefused, maxBundle)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fetched) >= maxHeld {
		clear(c.fetched)
	}
	c.fetched[name] = fetched{response.Header.Get("ETag"), raw, time.Now()}
	return raw, nil
}

// report tells control what sidecar runs.
func (c *Control) report(ctx context.Context, sidecar string, report Report) error {
	body, err := json.Marshal(report)
	if err != nil {
		return err
	}
	request, err := c.request(ctx, http.MethodPut, "api/v1/policy/sidecars/"+url.PathEscape(sidecar), bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("control answers %s", response.Status)
	}
	return nil
}

func (c *Control) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	return request, nil
}
