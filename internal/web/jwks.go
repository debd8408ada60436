package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	jwksRefresh  = 5 * time.Minute  // how often the keys are fetched anyway
	jwksRetry    = 10 * time.Second // how often an unknown kid, or a failure, may cause a fetch
	jwksTimeout  = 3 * time.Second
	maxJWKSBytes = 1 << 20
)

// keySet is an issuer's public keys. They outlive an outage of the issuer: the
// last set that was fetched stays in use until another one can be had.
type keySet struct {
	url    string
	client *http.Client
	log    *slog.Logger

	keys atomic.Pointer[map[string]jwk.Key] // by kid; nil until the first fetch

	mu      sync.Mutex // whoever holds it fetches, for all who wait
	triedAt time.Time
}

// Run fetches the keys now and again, so that a key the issuer withdrew is
// forgotten. It returns when ctx ends.
func (s *keySet) Run(ctx context.Context) error {
	for {
		if err := s.refresh(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot fetch the keys of the token issuer", "url", s.url, "error", err)
		}
		wait := jwksRefresh
		if s.keys.Load() == nil {
			wait = jwksRetry
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// errNoKeys says that no key set could be fetched yet: tokens cannot be
// checked, whatever they are.
var errNoKeys = errors.New("the keys of the token issuer could not be fetched yet")

// key returns the public key with this kid. An unknown one causes a fetch, but
// not more often than every jwksRetry: tokens come from strangers.
func (s *keySet) key(ctx context.Context, kid string) (jwk.Key, bool, error) {
	if keys := s.keys.Load(); keys != nil {
		if key, ok := (*keys)[kid]; ok {
			return key, true, nil
		}
	}
	if err := s.refresh(ctx, time.Now().Add(-jwksRetry)); err != nil {
		s.log.Warn("cannot fetch the keys of the token issuer", "url", s.url, "error", err)
	}
	keys := s.keys.Load()
	if keys == nil {
		return nil, false, errNoKeys
	}
	key, ok := (*keys)[kid]
	return key, ok, nil
}

// refresh fetches the keys unless that was tried after notAfter. Whoever comes
// while another fetches waits for it and is served by it.
func (s *keySet) refresh(ctx context.Context, notAfter time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.triedAt.After(notAfter) {
		return nil
	}
	s.triedAt = time.Now()
	keys, err := s.fetch(ctx)
	if err != nil {
		return err
	}
	s.keys.Store(&keys)
	return nil
}

func (s *keySet) fetch(ctx context.Context) (map[string]jwk.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	set, err := jwk.ParseReader(io.LimitReader(response.Body, maxJWKSBytes))
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	keys := map[string]jwk.Key{}
	for i := range set.Len() {
		if key, ok := set.Key(i); ok && verifies(key) {
			kid, _ := key.KeyID()
			keys[kid] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no public key for signatures")
	}
	return keys, nil
}

// verifies reports whether a key of a key set can verify a token: a public
// key, never a shared secret, that is not meant for something else.
func verifies(key jwk.Key) bool {
	switch key.KeyType() {
	case jwa.RSA(), jwa.EC(), jwa.OKP():
	default:
		return false
	}
	use, ok := key.KeyUsage()
	return !ok || use == "sig"
}
