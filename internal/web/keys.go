package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A key reads cg_<id>_<secret>. The id is no secret: it is what lists show.
const (
	keyPrefix      = "cg_"
	keyIDBytes     = 10 // random bytes in an id
	keySecretBytes = 32 // random bytes in a secret
)

// keyTimeout is how long Postgres may take to say whether a key is valid.
const keyTimeout = 3 * time.Second

// keyLease is how long a key that was found is used without asking Postgres
// again. Revoke waits as long before it returns, so that afterwards no server
// takes the key (promise P2).
const keyLease = time.Second

// maxKnownKeys bounds the keys that are remembered, those that do not exist
// included: whoever guesses ids must not fill the memory.
const maxKnownKeys = 4096

var keyText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// KeyStore keeps the keys of services in Postgres: of a secret only its
// SHA-256, which is enough for 256 random bits.
type KeyStore struct {
	pool  *pgxpool.Pool
	clock func() time.Time

	mu    sync.Mutex
	known map[string]*knownKey // by id
}

// NewKeyStore makes a key store on a migrated database.
func NewKeyStore(pool *pgxpool.Pool) *KeyStore {
	return &KeyStore{pool: pool, clock: time.Now, known: map[string]*knownKey{}}
}

// CountBy lets s tell the age of what it remembers by clock, which only goes
// forward and, unlike Go's own, counts the time for which the machine was
// suspended: a server that remembers keys must not take one that was revoked
// meanwhile. Call it before s is used.
func (s *KeyStore) CountBy(clock func() time.Duration) *KeyStore {
	s.clock = func() time.Time { return time.Time{}.Add(clock()) }
	return s
}

// NewKey is a key that is to be made.
type NewKey struct {
	Note         string // for people: whose key it is
	Scopes       []string
	Practices    []string
	AllPractices bool
	Person       string    // the one user id it acts for; "" for a service
	ExpiresAt    time.Time // zero: never
}

// Key is a key as lists show it: without its secret.
type Key struct {
	ID           string
	Note         string
	Scopes       []string
	Practices    []string
	AllPractices bool
	Person       string
	CreatedAt    time.Time
	ExpiresAt    time.Time // authz.NoEnd when it has none
	RevokedAt    *time.Time
}

// Make stores a new key and returns its text, which cannot be had again.
func (s *KeyStore) Make(ctx context.Context, k NewKey) (id, key string, err error) {
	if err := k.validate(); err != nil {
		return "", "", err
	}
	if k.ExpiresAt.IsZero() {
		k.ExpiresAt = authz.NoEnd
	}
	var random [keyIDBytes + keySecretBytes]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	id = keyText.EncodeToString(random[:keyIDBytes])
	key = keyPrefix + id + "_" + keyText.EncodeToString(random[keyIDBytes:])
	hash := sha256.Sum256([]byte(key))
	practices := k.Practices
	if practices == nil {
		practices = []string{}
	}
	if _, err := s.pool.Exec(ctx, sqlInsertKey, id, hash[:], k.Note, k.Scopes, practices, k.AllPractices, k.Person, k.ExpiresAt); err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	return id, key, nil
}

func (k NewKey) validate() error {
	refuse := func(format string, args ...any) error {
		return &authz.Problem{Kind: authz.ErrMalformed, Type: "malformed", Detail: fmt.Sprintf(format, args...)}
	}
	if len(k.Scopes) == 0 {
		return refuse("a key needs at least one scope of %s", strings.Join(Scopes, ", "))
	}
	for _, scope := range k.Scopes {
		if !slices.Contains(Scopes, scope) {
			return refuse("there is no scope %q; there are %s", scope, strings.Join(Scopes, ", "))
		}
		if strings.HasPrefix(scope, "policy.") && !k.AllPractices {
			return refuse("the scope %s needs a key for all practices, since a policy holds for all", scope)
		}
	}
	switch {
	case k.AllPractices && len(k.Practices) > 0:
		return refuse("a key is bound to listed practices or to all, not to both")
	case !k.AllPractices && len(k.Practices) == 0:
		return refuse("a key must be bound to practices, or to all")
	case k.Person != "" && !authz.ValidID(k.Person):
		return refuse("the person of a key must be a user id")
	case !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(time.Now()):
		return refuse("the key would have expired already")
	}
	for _, practice := range k.Practices {
		if !authz.ValidID(practice) {
			return refuse("%q is not the id of a practice", practice)
		}
	}
	return nil
}

// List returns all keys, revoked and expired ones too, the oldest first.
func (s *KeyStore) List(ctx context.Context) ([]Key, error) {
	rows, err := s.pool.Query(ctx, sqlListKeys)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}

// Revoke ends a key. When it returns nil no server takes the key any more for
// a request that arrives later: it waits out the time for which a server may
// remember the key. To revoke a key again is no error.
func (s *KeyStore) Revoke(ctx context.Context, id string) error {
	tag, err := s.pool.Exec(ctx, sqlRevokeKey, id)
	if err != nil {
		return fmt.Errorf("revoke key %s: %w", id, err)
	}
	if tag.RowsAffected() == 0 {
		return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found", Detail: fmt.Sprintf("there is no key %q", id)}
	}
	select {
	case <-time.After(keyLease + keyLease/5): // clocks may run apart by as much
		return nil
	case <-ctx.Done():
		return fmt.Errorf("revoke key %s: it is revoked, but servers may still remember it for %s: %w", id, keyLease, ctx.Err())
	}
}

// knownKey is what is remembered of one id.
type knownKey struct {
	found atomic.Pointer[foundKey]

	mu       sync.Mutex // whoever holds it asks Postgres, for all who wait
	failedAt time.Time
	failure  error
}

// foundKey is what Postgres said of an id. It is never changed.
type foundKey struct {
	askedAt time.Time // when the question was put, by the store's clock
	hash    []byte    // nil: there is no such key
	caller  *Caller
	expires time.Time
}

func (s *KeyStore) fresh(f *foundKey) bool { return f != nil && s.clock().Sub(f.askedAt) < keyLease }

// Identify returns the caller of a key's text. An unknown, expired or revoked
// key, or a wrong secret, is the same error; a database that cannot be asked
// is authz.ErrUnavailable.
func (s *KeyStore) Identify(ctx context.Context, key string) (*Caller, error) {
	id, _, ok := strings.Cut(strings.TrimPrefix(key, keyPrefix), "_")
	if !ok || len(id) != keyText.EncodedLen(keyIDBytes) {
		return nil, errUnknownCaller
	}
	known := s.remembered(id)
	found := known.found.Load()
	if !s.fresh(found) {
		var err error
		if found, err = s.ask(ctx, known, strings.Clone(id)); err != nil {
			return nil, err
		}
	}
	if !found.holds(key) {
		return nil, errUnknownCaller
	}
	return found.caller, nil
}

// holds reports whether key is the one that was found, and has not expired.
func (f *foundKey) holds(key string) bool {
	hash := sha256.Sum256([]byte(key))
	return subtle.ConstantTimeCompare(hash[:], f.hash) == 1 && time.Now().Before(f.expires)
}

// recall is Identify without Postgres: nil unless the key was found lately.
func (s *KeyStore) recall(key string) *Caller {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, keyPrefix), "_")
	s.mu.Lock()
	known := s.known[id]
	s.mu.Unlock()
	if known == nil {
		return nil
	}
	if found := known.found.Load(); s.fresh(found) && found.holds(key) {
		return found.caller
	}
	return nil
}

// remembered returns the place of an id. When there are too many all are
// forgotten, which costs each of them one query.
func (s *KeyStore) remembered(id string) *knownKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.known[id]
	if !ok {
		if len(s.known) >= maxKnownKeys {
			clear(s.known)
		}
		known = &knownKey{}
		s.known[strings.Clone(id)] = known
	}
	return known
}

// ask puts the question to Postgres, once for all who need the answer now.
func (s *KeyStore) ask(ctx context.Context, k *knownKey, id string) (*foundKey, error) {
	arrived := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if found := k.found.Load(); s.fresh(found) {
		return found, nil
	}
	if k.failedAt.After(arrived) {
		return nil, k.failure
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	found := &foundKey{askedAt: s.clock(), caller: &Caller{ID: "key:" + id, Static: true, SubjectType: authz.SubjectUser}}
	err := s.pool.QueryRow(ctx, sqlFindKey, id).Scan(&found.hash, &found.caller.Scopes, &found.caller.Practices,
		&found.caller.AllPractices, &found.caller.Person, &found.expires)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		k.failedAt, k.failure = time.Now(), fmt.Errorf("check key %s: %w: %w", id, authz.ErrUnavailable, err)
		return nil, k.failure
	}
	k.found.Store(found)
	return found, nil
}
