package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"chartgate/internal/authz"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// maxToken is the size of the largest token, in bytes.
const maxToken = 16 << 10

// DefaultAlgorithms are the signature algorithms that are taken when the
// configuration names none. None of them works with a shared secret.
var DefaultAlgorithms = []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}

// JWTConfig says which tokens hold.
type JWTConfig struct {
	JWKSURL    string
	Issuer     string        // must be the token's iss, exactly
	Audience   string        // must be among the token's aud
	Algorithms []string      // nil: DefaultAlgorithms
	Leeway     time.Duration // by which clocks may differ; 0: 30 s
	Client     *http.Client  // nil: http.DefaultClient
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Verifier checks access tokens by RFC 9068, with the keys that the issuer
// serves. Its claims are those of DESIGN 11: scope, practices (an array, or
// "*"), sub, subject_type.
type Verifier struct {
	config     JWTConfig
	algorithms []jwa.SignatureAlgorithm
	keys       *keySet
}

// NewVerifier checks the configuration. Nothing is fetched until Run, or the
// first token.
func NewVerifier(config JWTConfig) (*Verifier, error) {
	if u, err := url.Parse(config.JWKSURL); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return nil, fmt.Errorf("the address of the key set must be an https URL, not %q", config.JWKSURL)
	}
	if config.Issuer == "" || config.Audience == "" {
		return nil, errors.New("tokens need an issuer and an audience to be checked against")
	}
	if config.Algorithms == nil {
		config.Algorithms = DefaultAlgorithms
	}
	if config.Leeway == 0 {
		config.Leeway = 30 * time.Second
	}
	if config.Client == nil {
		config.Client = http.DefaultClient
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	v := &Verifier{config: config, keys: &keySet{url: config.JWKSURL, client: config.Client, log: config.Log}}
	for _, name := range config.Algorithms {
		algorithm, ok := jwa.LookupSignatureAlgorithm(name)
		if !ok || algorithm.IsSymmetric() || algorithm == jwa.NoSignature() {
			return nil, fmt.Errorf("tokens cannot be signed with %q: name algorithms with a public key, such as %s", name, strings.Join(DefaultAlgorithms, ", "))
		}
		v.algorithms = append(v.algorithms, algorithm)
	}
	return v, nil
}

// Run keeps the issuer's keys fresh until ctx ends.
func (v *Verifier) Run(ctx context.Context) error { return v.keys.Run(ctx) }

// Identify returns the caller of a token. A token that does not hold is one
// error, whatever is wrong; keys that could never be fetched are
// authz.ErrUnavailable.
func (v *Verifier) Identify(ctx context.Context, token string) (*Caller, error) {
	payload, err := v.verify(ctx, token)
	if errors.Is(err, errNoKeys) {
		return nil, fmt.Errorf("check token: %w: %w", authz.ErrUnavailable, err)
	}
	var caller *Caller
	if err == nil {
		caller, err = v.read(payload)
	}
	if err != nil {
		v.config.Log.Debug("token refused", "reason", err)
		return nil, errUnknownCaller
	}
	return caller, nil
}

// verify checks header and signature and returns the claims' text.
func (v *Verifier) verify(ctx context.Context, token string) ([]byte, error) {
	if len(token) > maxToken {
		return nil, errors.New("it is too large")
	}
	text := []byte(token)
	message, err := jws.Parse(text, jws.WithCompact())
	if err != nil {
		return nil, err
	}
	if len(message.Signatures()) != 1 {
		return nil, errors.New("it must have one signature")
	}
	header := message.Signatures()[0].ProtectedHeaders()
	algorithm, _ := header.Algorithm()
	if !slices.Contains(v.algorithms, algorithm) {
		return nil, fmt.Errorf("its algorithm %q is not among those taken", algorithm)
	}
	typ, _ := header.Type()
	if typ = strings.TrimPrefix(strings.ToLower(typ), "application/"); typ != "at+jwt" {
		return nil, fmt.Errorf("its typ is %q, not at+jwt", typ)
	}
	if header.Has("crit") {
		return nil, errors.New("it has a critical header, and none is known here")
	}
	kid, ok := header.KeyID()
	if !ok || kid == "" {
		return nil, errors.New("it names no key (kid)")
	}
	key, ok, err := v.keys.key(ctx, kid)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("its key %q is not among the issuer's", kid)
	}
	if !suits(key, algorithm) {
		return nil, fmt.Errorf("its key is not one for %s", algorithm)
	}
	return jws.Verify(text, jws.WithCompact(), jws.WithKey(algorithm, key))
}

// suits reports whether the issuer meant the key for this algorithm, as far as
// it said.
func suits(key jwk.Key, algorithm jwa.SignatureAlgorithm) bool {
	named, ok := key.Algorithm()
	return !ok || named.String() == algorithm.String()
}

// read checks the claims and makes a caller of them.
func (v *Verifier) read(payload []byte) (*Caller, error) {
	claims, err := StrictObject(payload)
	if err != nil {
		return nil, err
	}
	if issuer, _ := claims["iss"].(string); issuer != v.config.Issuer {
		return nil, fmt.Errorf("its issuer is %q", issuer)
	}
	if audience := textOrTexts(claims["aud"]); !slices.Contains(audience, v.config.Audience) {
		return nil, fmt.Errorf("its audience is %q", audience)
	}
	if err := v.checkTimes(claims); err != nil {
		return nil, err
	}
	caller := &Caller{SubjectType: authz.SubjectUser}
	if caller.Person, _ = claims["sub"].(string); !authz.ValidID(caller.Person) {
		return nil, errors.New("its sub is not an id")
	}
	client, _ := claims["client_id"].(string)
	if client == "" {
		client = caller.Person
	}
	caller.ID = "jwt:" + client
	if scope, ok := claims["scope"].(string); ok {
		caller.Scopes = strings.Fields(scope)
	}
	switch practices := claims["practices"].(type) {
	case nil: // bound to none
	case string:
		if practices != "*" {
			return nil, errors.New(`its practices must be an array of ids, or "*"`)
		}
		caller.AllPractices = true
	default:
		if caller.Practices = textOrTexts(practices); caller.Practices == nil {
			return nil, errors.New(`its practices must be an array of ids, or "*"`)
		}
	}
	switch t := claims["subject_type"]; t {
	case nil, authz.SubjectUser:
	case authz.SubjectPortal:
		caller.SubjectType = authz.SubjectPortal
	default:
		return nil, fmt.Errorf("its subject_type is %v", t)
	}
	return caller, nil
}

// checkTimes holds exp (required), nbf and iat against the clock.
func (v *Verifier) checkTimes(claims map[string]any) error {
	now := v.config.Now()
	expires, ok := seconds(claims["exp"])
	if !ok || !now.Before(expires.Add(v.config.Leeway)) {
		return errors.New("it has expired, or has no exp")
	}
	for _, name := range []string{"nbf", "iat"} {
		if claims[name] == nil {
			continue
		}
		if from, ok := seconds(claims[name]); !ok || now.Add(v.config.Leeway).Before(from) {
			return fmt.Errorf("its %s is in the future, or no number", name)
		}
	}
	return nil
}

// seconds reads a NumericDate (RFC 7519, 2): seconds since 1970, perhaps with
// a fraction, up to the year 9999.
func seconds(v any) (time.Time, bool) {
	number, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	n, err := number.Float64()
	if err != nil || n < 0 || n > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(int64(n), 0), true
}

// textOrTexts reads a string or an array of strings; nil for anything else.
func textOrTexts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		out := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil
			}
			out[i] = s
		}
		return out
	}
	return nil
}
