// Package halves builds the two halves of the service, the sidecar and
// control, from their configuration, and runs them. `chartgate run` has both
// in one process, cmd/sidecar and cmd/control have one each.
//
// Each half opens the database in a role of its own, so that it can do what
// its role may, whatever login it was given.
package halves

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"chartgate/internal/pdp"
	"chartgate/internal/release"
	"chartgate/internal/web"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Secrets come from the environment only: what stands on a command line is
// seen by everybody on the machine.
type Secrets struct {
	DatabaseURL  string // DATABASE_URL
	RedisURL     string // REDIS_URL
	APIKey       string // CHARTGATE_API_KEY
	NoticeSecret string // CHARTGATE_NOTICE_SECRET
	ControlKey   string // CHARTGATE_CONTROL_KEY
}

// ReadSecrets reads them from the environment. What is not set is "".
func ReadSecrets() Secrets {
	return Secrets{DatabaseURL: os.Getenv("DATABASE_URL"), RedisURL: os.Getenv("REDIS_URL"), APIKey: os.Getenv("CHARTGATE_API_KEY"),
		NoticeSecret: os.Getenv("CHARTGATE_NOTICE_SECRET"), ControlKey: os.Getenv("CHARTGATE_CONTROL_KEY")}
}

// Faults lists what is wrong with what is set.
func (s Secrets) Faults() []error {
	var faults []error
	if s.DatabaseURL != "" {
		if _, err := pgxpool.ParseConfig(s.DatabaseURL); err != nil {
			faults = append(faults, fmt.Errorf("DATABASE_URL: %w", err))
		}
	}
	if s.RedisURL != "" {
		if u, err := url.Parse(s.RedisURL); err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
			faults = append(faults, errors.New("REDIS_URL: want redis://host:6379, rediss://… or unix://…")) // it may hold a password
		}
	}
	if s.APIKey != "" {
		if _, err := web.NewStaticKey(s.APIKey, web.Caller{}); err != nil {
			faults = append(faults, fmt.Errorf("CHARTGATE_API_KEY: %w", err))
		}
	}
	return faults
}

// Tokens says which JWTs hold. Without JWKSURL none does.
type Tokens struct {
	JWKSURL    string   `name:"jwks-url" env:"CHARTGATE_JWKS_URL" placeholder:"URL" help:"Where the issuer of JWTs serves its keys. Without it no JWT is taken."`
	Issuer     string   `name:"jwt-issuer" env:"CHARTGATE_JWT_ISSUER" placeholder:"ISS" help:"The issuer (iss) that a JWT must have."`
	Audience   string   `name:"jwt-audience" env:"CHARTGATE_JWT_AUDIENCE" placeholder:"AUD" help:"The audience (aud) that a JWT must have."`
	Algorithms []string `name:"jwt-algorithms" env:"CHARTGATE_JWT_ALGORITHMS" placeholder:"ALG" help:"Signature algorithms that are taken."`
}

// Faults lists what is wrong with them.
func (t Tokens) Faults() []error {
	if t.JWKSURL == "" {
		if t.Issuer != "" || t.Audience != "" || len(t.Algorithms) > 0 {
			return []error{errors.New("--jwks-url must be set where --jwt-issuer, --jwt-audience or --jwt-algorithms is")}
		}
		return nil
	}
	if _, err := t.verifier(nil); err != nil {
		return []error{fmt.Errorf("--jwks-url, --jwt-…: %w", err)}
	}
	return nil
}

func (t Tokens) verifier(log *slog.Logger) (*web.Verifier, error) {
	return web.NewVerifier(web.JWTConfig{JWKSURL: t.JWKSURL, Issuer: t.Issuer, Audience: t.Audience, Algorithms: t.Algorithms, Log: log})
}

// Signing says what control signs releases of the policy with.
type Signing struct {
	PolicySigningKey string   `env:"CHARTGATE_POLICY_SIGNING_KEY" placeholder:"FILE" help:"The private key that releases of the policy are signed with, as 'chartgate policy keygen' makes it. Without it nothing can be approved or activated."`
	PolicyKey        []string `env:"CHARTGATE_POLICY_KEY" placeholder:"FILE" help:"Public keys (PEM) of earlier signing keys: without them a list as of a past moment refuses a release that was signed with one."`
}

// Faults lists what is wrong with it.
func (s Signing) Faults() []error {
	signer, err := s.Signer()
	if err != nil {
		return []error{err}
	}
	if _, err := s.Keys(signer); err != nil {
		return []error{err}
	}
	return nil
}

// Keys reads the keys that releases are signed with, or were: the public half of
// signer, if there is one, and the earlier ones.
func (s Signing) Keys(signer *release.Signer) (*pdp.Keys, error) {
	texts, err := readAll(s.PolicyKey)
	if err == nil && signer != nil {
		var own []byte
		if own, err = signer.Public(); err == nil {
			texts = append(texts, own)
		}
	}
	var keys *pdp.Keys
	if err == nil {
		keys, err = pdp.ReadKeys(texts...)
	}
	if err != nil {
		return nil, fmt.Errorf("--policy-key: %w", err)
	}
	return keys, nil
}

// Signer reads the key; nil where none is set.
func (s Signing) Signer() (*release.Signer, error) {
	if s.PolicySigningKey == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.PolicySigningKey)
	if err != nil {
		return nil, fmt.Errorf("--policy-signing-key: %w", err)
	}
	signer, err := release.ReadSigner(text)
	if err != nil {
		return nil, fmt.Errorf("--policy-signing-key: %s: %w", s.PolicySigningKey, err)
	}
	return signer, nil
}

// CheckAddr returns what is wrong with an address that flag gives. Port 0
// takes a free one.
func CheckAddr(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is no address: want host:port, such as 127.0.0.1:8181", flag, addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s: %q is no port: want 0 to 65535", flag, port)
	}
	return nil
}

// Listen opens the address that flag gives.
func Listen(flag, addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: choose another address, or stop what uses it", flag, err)
	}
	return listener, nil
}

// BaseURL is where a listener is reached from this machine.
func BaseURL(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// CheckPublicURL returns what is wrong with the address that callers are told
// to reach the sidecar by.
func CheckPublicURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("--public-url: %q: want an address such as https://pdp.example.com", address)
	}
	return nil
}

// Spool says where a sidecar keeps decisions until they are in Postgres.
type Spool struct {
	SpoolDir  string        `env:"CHARTGATE_SPOOL_DIR" placeholder:"FOLDER" help:"Where decisions are kept until they are in the database: a folder of this sidecar's own, on a volume that stays. Default: ${spool_dir}."`
	SpoolSync time.Duration `env:"CHARTGATE_SPOOL_SYNC" default:"100ms" placeholder:"DURATION" help:"How much of the record the loss of the whole host may cost; 0s for nothing. The death of the process costs nothing. Default: ${default}."`
}

// Faults lists what is wrong with it.
func (s Spool) Faults() []error {
	if s.SpoolSync < 0 || s.SpoolSync > time.Minute {
		return []error{fmt.Errorf("--spool-sync: %v: want 0s to 1m", s.SpoolSync)}
	}
	return nil
}

// DefaultStateDir is where data is kept unless said otherwise. For
// root it is not below /root, since Postgres runs as a user who cannot go there.
func DefaultStateDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/chartgate"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) { // relative ones are ignored (XDG base directories)
		return filepath.Join(dir, "chartgate")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "chartgate")
	}
	return filepath.Join(os.TempDir(), "chartgate")
}
