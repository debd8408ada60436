package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// issuer is a token issuer on the loopback, whose key set can change and fail.
type issuer struct {
	server *httptest.Server

	mu      sync.Mutex
	set     jwk.Set
	down    bool
	fetches int
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{set: jwk.NewSet()}
	i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetches++
		if i.down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		json.NewEncoder(w).Encode(i.set)
	}))
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) with(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// publish puts the public half of a key into the set.
func (i *issuer) publish(t *testing.T, key jwk.Key) {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	i.with(func() {
		if err := i.set.AddKey(public); err != nil {
			t.Fatal(err)
		}
	})
}

func keyOf(t *testing.T, raw any, kid string, more ...any) jwk.Key {
	t.Helper()
	key, err := jwk.Import(raw)
	if err != nil {
		t.Fatal(err)
	}
	pairs := append([]any{jwk.KeyIDKey, kid}, more...)
	for n := 0; n < len(pairs); n += 2 {
		if err := key.Set(pairs[n].(string), pairs[n+1]); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

var ecKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

func newVerifier(t *testing.T, i *issuer) *Verifier {
	t.Helper()
	v, err := NewVerifier(JWTConfig{JWKSURL: i.server.URL, Issuer: "https://login.test", Audience: "chartgate", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims are those of a token that holds, with changes.
func claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": "https://login.test", "aud": "chartgate", "sub": "admin-1", "client_id": "console", "iat": now, "nbf": now, "exp": now + 300,
		"jti": "1", "scope": "ask administer", "practices": []string{"practice-1"}}
	maps.Copy(c, changes)
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

// sign makes a token; typ "" leaves the header out.
func sign(t *testing.T, alg jwa.SignatureAlgorithm, key any, kid, typ string, payload any, more ...any) string {
	t.Helper()
	text, isText := payload.(string)
	if !isText {
		raw, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	header := jws.NewHeaders()
	set := func(name string, v any) {
		if err := header.Set(name, v); err != nil {
			t.Fatal(err)
		}
	}
	if kid != "" {
		set(jws.KeyIDKey, kid)
	}
	if typ != "" {
		set(jws.TypeKey, typ)
	}
	for n := 0; n < len(more); n += 2 {
		set(more[n].(string), more[n+1])
	}
	token, err := jws.Sign([]byte(text), jws.WithKey(alg, key, jws.WithProtectedHeaders(header)))
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

func TestTokensThatHold(t *testing.T) {
	i := newIssuer(t)
	i.publish(t, keyOf(t, ecKey(), "k1", jwk.KeyUsageKey, "sig", jwk.AlgorithmKey, jwa.ES256()))
	v := newVerifier(t, i)
	now := time.Now().Unix()
	for name, tc := range map[string]struct {
		changes map[string]any
		typ     string
		want    Caller
	}{
		"a user":            {nil, "at+jwt", Caller{ID: "jwt:console", Scopes: []string{"ask", "administer"}, Practices: []string{"practice-1"}, Person: "admin-1", SubjectType: authz.SubjectUser}},
		"the long type":     {nil, "application/AT+JWT", Caller{ID: "jwt:console", Scopes: []string{"ask", "administer"}, Practices: []string{"practice-1"}, Person: "admin-1", SubjectType: authz.SubjectUser}},
		"a portal login":    {map[string]any{"subject_type": "portal_user", "sub": "portal-1", "scope": "portal"}, "at+jwt", Caller{ID: "jwt:console", Scopes: []string{"portal"}, Practices: []string{"practice-1"}, Person: "portal-1", SubjectType: authz.SubjectPortal}},
		"all practices":     {map[string]any{"practices": "*", "client_id": nil}, "at+jwt", Caller{ID: "jwt:admin-1", Scopes: []string{"ask", "administer"}, AllPractices: true, Person: "admin-1", SubjectType: authz.SubjectUser}},
		"bound to nothing":  {map[string]any{"practices": nil, "scope": nil}, "at+jwt", Caller{ID: "jwt:console", Person: "admin-1", SubjectType: authz.SubjectUser}},
		"several audiences": {map[string]any{"aud": []string{"other", "chartgate"}}, "at+jwt", Caller{ID: "jwt:console", Scopes: []string{"ask", "administer"}, Practices: []string{"practice-1"}, Person: "admin-1", SubjectType: authz.SubjectUser}},
		"within the leeway": {map[string]any{"exp": now - 20, "nbf": now + 20, "iat": now + 20}, "at+jwt", Caller{ID: "jwt:console", Scopes: []string{"ask", "administer"}, Practices: []string{"practice-1"}, Person: "admin-1", SubjectType: authz.SubjectUser}},
	} {
		got, err := v.Identify(t.Context(), sign(t, jwa.ES256(), ecKey(), "k1", tc.typ, claims(tc.changes)))
		if err != nil || !reflect.DeepEqual(*got, tc.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTokensThatDoNotHold(t *testing.T) {
	i := newIssuer(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	secret := keyOf(t, []byte("a shared secret of thirty-two bytes"), "shared", jwk.AlgorithmKey, jwa.HS256())
	i.publish(t, keyOf(t, ecKey(), "k1"))
	i.publish(t, keyOf(t, rsaKey, "rsa-for-ps", jwk.AlgorithmKey, jwa.PS256()))
	i.publish(t, keyOf(t, rsaKey, "rsa-enc", jwk.KeyUsageKey, "enc"))
	i.with(func() { _ = i.set.AddKey(secret) })
	v := newVerifier(t, i)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := func(changes map[string]any) string {
		return sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt", claims(changes))
	}
	if _, err := v.Identify(t.Context(), good(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Identify(t.Context(), sign(t, jwa.PS256(), rsaKey, "rsa-for-ps", "at+jwt", claims(nil))); err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(ecKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	text, _ := json.Marshal(claims(nil))
	part := strings.Split(good(nil), ".")
	encode := base64.RawURLEncoding.EncodeToString
	for name, token := range map[string]string{
		"another issuer":               good(map[string]any{"iss": "https://login.test/"}),
		"no issuer":                    good(map[string]any{"iss": nil}),
		"another audience":             good(map[string]any{"aud": "chartgate2"}),
		"no audience":                  good(map[string]any{"aud": nil}),
		"an audience that is a number": good(map[string]any{"aud": 1}),
		"expired":                      good(map[string]any{"exp": now - 31}),
		"no end":                       good(map[string]any{"exp": nil}),
		"an end that is text":          good(map[string]any{"exp": "tomorrow"}),
		"an end beyond all time":       good(map[string]any{"exp": 1e300}),
		"not yet":                      good(map[string]any{"nbf": now + 60}),
		"issued in the future":         good(map[string]any{"iat": now + 60}),
		"issued at a text":             good(map[string]any{"iat": "now"}),
		"nobody":                       good(map[string]any{"sub": nil}),
		"an empty subject":             good(map[string]any{"sub": ""}),
		"a subject that is no id":      good(map[string]any{"sub": "a\nb"}),
		"practices that are a text":    good(map[string]any{"practices": "practice-1"}),
		"practices that are numbers":   good(map[string]any{"practices": []int{1}}),
		"practices that are true":      good(map[string]any{"practices": true}),
		"an unknown subject type":      good(map[string]any{"subject_type": "admin"}),
		"an id token":                  sign(t, jwa.ES256(), ecKey(), "k1", "JWT", claims(nil)),
		"no type":                      sign(t, jwa.ES256(), ecKey(), "k1", "", claims(nil)),
		"no kid":                       sign(t, jwa.ES256(), ecKey(), "", "at+jwt", claims(nil)),
		"an unknown kid":               sign(t, jwa.ES256(), ecKey(), "k2", "at+jwt", claims(nil)),
		"another key's signature":      sign(t, jwa.ES256(), other, "k1", "at+jwt", claims(nil)),
		"an algorithm not taken":       sign(t, jwa.RS512(), rsaKey, "rsa-for-ps", "at+jwt", claims(nil)),
		"an algorithm not the key's":   sign(t, jwa.RS256(), rsaKey, "rsa-for-ps", "at+jwt", claims(nil)),
		"a key for encryption":         sign(t, jwa.RS256(), rsaKey, "rsa-enc", "at+jwt", claims(nil)),
		"a shared secret":              sign(t, jwa.HS256(), secret, "shared", "at+jwt", claims(nil)),
		"the public key as a secret":   sign(t, jwa.HS256(), public, "k1", "at+jwt", claims(nil)),
		"a critical header":            sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt", claims(nil), "crit", []string{"exp"}, "exp", 1),
		"no signature":                 part[0] + "." + part[1] + ".",
		"algorithm none":               encode([]byte(`{"alg":"none","kid":"k1","typ":"at+jwt"}`)) + "." + part[1] + ".",
		"algorithm none, signed":       encode([]byte(`{"alg":"none","kid":"k1","typ":"at+jwt"}`)) + "." + part[1] + "." + part[2],
		"changed claims":               part[0] + "." + encode([]byte(strings.Replace(string(text), "admin-1", "admin-2", 1))) + "." + part[2],
		"claims twice":                 sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt", strings.Replace(string(text), `"sub":`, `"sub":"admin-2","sub":`, 1)),
		"claims that are no object":    sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt", `["admin-1"]`),
		"rubbish":                      "a.b.c",
		"far too large":                good(map[string]any{"padding": strings.Repeat("x", maxToken)}),
	} {
		if caller, err := v.Identify(t.Context(), token); !errors.Is(err, errUnknownCaller) {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
	}
}

func TestAnUnknownKidFetchesTheKeysAtABoundedRate(t *testing.T) {
	i := newIssuer(t)
	i.publish(t, keyOf(t, ecKey(), "k1"))
	v := newVerifier(t, i)
	ask := func(kid string) error {
		_, err := v.Identify(t.Context(), sign(t, jwa.ES256(), ecKey(), kid, "at+jwt", claims(nil)))
		return err
	}
	if err := ask("k1"); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := ask("k2"); !errors.Is(err, errUnknownCaller) {
			t.Fatal(err)
		}
	}
	if n := i.fetched(); n != 1 {
		t.Errorf("%d fetches in a moment", n)
	}
	i.publish(t, keyOf(t, ecKey(), "k2"))
	v.keys.mu.Lock()
	v.keys.triedAt = time.Now().Add(-2 * jwksRetry) // time passes
	v.keys.mu.Unlock()
	if err := ask("k2"); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if n := i.fetched(); n != 2 {
		t.Errorf("%d fetches", n)
	}
}

func TestKeysOutliveAnOutageOfTheIssuer(t *testing.T) {
	i := newIssuer(t)
	i.down = true
	v := newVerifier(t, i)
	token := sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt", claims(nil))
	if _, err := v.Identify(t.Context(), token); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("before the keys were ever fetched: %v", err)
	}
	i.with(func() { i.down = false })
	i.publish(t, keyOf(t, ecKey(), "k1"))
	if err := v.keys.refresh(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	i.with(func() { i.down = true })
	if err := v.keys.refresh(t.Context(), time.Now()); err == nil {
		t.Fatal("the issuer is not down")
	}
	if _, err := v.Identify(t.Context(), token); err != nil {
		t.Errorf("in the outage: %v", err)
	}
	// An empty key set is a fault of the issuer, not the end of all keys.
	i.with(func() { i.down, i.set = false, jwk.NewSet() })
	if err := v.keys.refresh(t.Context(), time.Now()); err == nil {
		t.Error("an empty set was taken")
	}
	if _, err := v.Identify(t.Context(), token); err != nil {
		t.Errorf("after an empty set: %v", err)
	}
	// A key that the issuer withdrew is forgotten.
	i.publish(t, keyOf(t, ecKey(), "k2"))
	if err := v.keys.refresh(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Identify(t.Context(), token); !errors.Is(err, errUnknownCaller) {
		t.Errorf("with a withdrawn key: %v", err)
	}
}

func TestRunFetchesTheKeysAndEnds(t *testing.T) {
	i := newIssuer(t)
	i.publish(t, keyOf(t, ecKey(), "k1"))
	v := newVerifier(t, i)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- v.Run(ctx) }()
	for v.keys.keys.Load() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestVerifierConfigurations(t *testing.T) {
	good := JWTConfig{JWKSURL: "https://login.test/keys", Issuer: "i", Audience: "a"}
	if _, err := NewVerifier(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*JWTConfig){
		"no URL":          func(c *JWTConfig) { c.JWKSURL = "" },
		"a file":          func(c *JWTConfig) { c.JWKSURL = "file:///etc/passwd" },
		"no issuer":       func(c *JWTConfig) { c.Issuer = "" },
		"no audience":     func(c *JWTConfig) { c.Audience = "" },
		"none":            func(c *JWTConfig) { c.Algorithms = []string{"none"} },
		"a shared secret": func(c *JWTConfig) { c.Algorithms = []string{"RS256", "HS256"} },
		"not one at all":  func(c *JWTConfig) { c.Algorithms = []string{"RS257"} },
	} {
		c := good
		change(&c)
		if _, err := NewVerifier(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestTheActorOfATokenIsItsSubject(t *testing.T) {
	i := newIssuer(t)
	i.publish(t, keyOf(t, ecKey(), "k1"))
	app := newGuarded(t, &Authenticator{JWT: newVerifier(t, i)})
	for _, named := range []string{"", "admin-2"} {
		response, body := call(t, app, "GET", "/x", "", "Authorization", "Bearer "+sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt", claims(nil)), HeaderActor, named)
		if response.StatusCode != 200 || whoOf(t, body).Actor != (authz.Subject{Type: authz.SubjectUser, ID: "admin-1"}) {
			t.Errorf("header %q: %d %s", named, response.StatusCode, body)
		}
	}
	response, body := call(t, app, "GET", "/x", "", "Authorization", "Bearer "+sign(t, jwa.ES256(), ecKey(), "k1", "at+jwt",
		claims(map[string]any{"sub": "portal-1", "subject_type": "portal_user"})))
	if response.StatusCode != 200 || whoOf(t, body).Actor != (authz.Subject{Type: authz.SubjectPortal, ID: "portal-1"}) {
		t.Errorf("a portal login: %d %s", response.StatusCode, body)
	}
}
