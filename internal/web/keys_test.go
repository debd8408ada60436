package web

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/jackc/pgx/v5/pgxpool"
)

func TestKeysAreMadeUsedAndRevoked(t *testing.T) {
	url := pgtest.URL(t)
	store := NewKeyStore(pgtest.PoolAs(t, url, postgres.RoleControl))
	sidecar := NewKeyStore(pgtest.PoolAs(t, url, postgres.RoleSidecar)) // what a sidecar may read is enough
	ctx := t.Context()
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	id, key, err := store.Make(ctx, NewKey{Note: "scheduling service", Scopes: []string{ScopeAsk, ScopeRecords}, Practices: []string{"practice-1", "practice-2"}, Person: "admin-1", ExpiresAt: expires})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(key, "cg_"+id+"_") {
		t.Errorf("key %q of id %q", key, id)
	}
	got, err := sidecar.Identify(ctx, key)
	want := &Caller{ID: "key:" + id, Scopes: []string{ScopeAsk, ScopeRecords}, Practices: []string{"practice-1", "practice-2"}, Person: "admin-1", SubjectType: authz.SubjectUser, Static: true}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, wrong := range []string{
		key + "a", key[:len(key)-1], "cg_" + id, "cg_" + id + "_", "cg_", "cg__", strings.ToUpper(key),
		"cg_" + strings.Repeat("a", len(id)) + key[3+len(id):], "cg_" + id + "x" + key[3+len(id):],
		key[:len(key)-1] + string('a'+(key[len(key)-1]-'a'+1)%26),
	} {
		if caller, err := sidecar.Identify(ctx, wrong); !errors.Is(err, errUnknownCaller) {
			t.Errorf("%q: %+v, %v", wrong, caller, err)
		}
	}
	listed, err := store.List(ctx)
	if err != nil || len(listed) != 1 || listed[0].ID != id || listed[0].Note != "scheduling service" || listed[0].RevokedAt != nil || !listed[0].ExpiresAt.Equal(expires) {
		t.Fatalf("%+v, %v", listed, err)
	}
	if err := store.Revoke(ctx, id); err != nil {
		t.Fatal(err)
	}
	// The sidecar's store remembered the key; after Revoke it must not.
	if caller, err := sidecar.Identify(ctx, key); !errors.Is(err, errUnknownCaller) {
		t.Errorf("after the revoke: %+v, %v", caller, err)
	}
	if listed, err = store.List(ctx); err != nil || listed[0].RevokedAt == nil {
		t.Errorf("%+v, %v", listed, err)
	}
	if err := store.Revoke(ctx, "nothing"); !errors.Is(err, authz.ErrNotFound) {
		t.Errorf("revoke of an unknown key: %v", err)
	}
}

// A key that was revoked while the machine was suspended is not taken after it,
// although Go's own clock stood still (freshness, schedule 9).
func TestASuspendEndsWhatIsRememberedOfAKey(t *testing.T) {
	pool := pgtest.Pool(t)
	var clock time.Duration
	store := NewKeyStore(pool).CountBy(func() time.Duration { return clock })
	_, key, err := store.Make(t.Context(), NewKey{Scopes: []string{ScopeAsk}, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Identify(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE api_keys SET revoked_at = now()`); err != nil {
		t.Fatal(err)
	}
	clock += keyLease - 1
	if _, err := store.Identify(t.Context(), key); err != nil || store.recall(key) == nil {
		t.Errorf("within the time for which it is remembered: %v", err)
	}
	clock++
	if caller := store.recall(key); caller != nil {
		t.Errorf("recalled after the suspend: %+v", caller)
	}
	if caller, err := store.Identify(t.Context(), key); !errors.Is(err, errUnknownCaller) {
		t.Errorf("after the suspend: %+v, %v", caller, err)
	}
}

func TestSecretsAreNotStored(t *testing.T) {
	pool := pgtest.Pool(t)
	_, key, err := NewKeyStore(pool).Make(t.Context(), NewKey{Scopes: []string{ScopeAsk}, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	secret := key[strings.LastIndex(key, "_")+1:]
	var row string
	if err := pool.QueryRow(t.Context(), `SELECT to_jsonb(k)::text FROM api_keys k`).Scan(&row); err != nil {
		t.Fatal(err)
	}
	if len(secret) < 43 || strings.Contains(row, secret) || strings.Contains(row, secret[:12]) {
		t.Errorf("the secret %q shows in %s", secret, row)
	}
}

func TestKeysExpire(t *testing.T) {
	pool := pgtest.Pool(t)
	store := NewKeyStore(pool)
	id, key, err := store.Make(t.Context(), NewKey{Scopes: []string{ScopeAsk}, AllPractices: true, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Identify(t.Context(), key); !errors.Is(err, errUnknownCaller) {
		t.Errorf("an expired key: %v", err)
	}
	// A key that is remembered ends when it ends, not when it is asked for again.
	known := store.remembered(id)
	found := *known.found.Load()
	found.hash, found.caller, found.askedAt = hashOf(t, pool, id), &Caller{}, time.Now().Add(time.Hour)
	found.expires = time.Now().Add(-time.Millisecond)
	known.found.Store(&found)
	if _, err := store.Identify(t.Context(), key); !errors.Is(err, errUnknownCaller) {
		t.Errorf("a remembered key that expired: %v", err)
	}
	found.expires = time.Now().Add(time.Hour)
	known.found.Store(&found)
	if _, err := store.Identify(t.Context(), key); err != nil {
		t.Errorf("the same with an end to come: %v", err)
	}
}

func TestKeysAreChecked(t *testing.T) {
	store := NewKeyStore(pgtest.Pool(t))
	good := NewKey{Scopes: []string{ScopeAsk}, Practices: []string{"practice-1"}}
	if _, _, err := store.Make(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*NewKey){
		"no scope":                        func(k *NewKey) { k.Scopes = nil },
		"an unknown scope":                func(k *NewKey) { k.Scopes = []string{"Ask"} },
		"no practice":                     func(k *NewKey) { k.Practices = nil },
		"listed practices and all":        func(k *NewKey) { k.AllPractices = true },
		"a practice that is no id":        func(k *NewKey) { k.Practices = []string{""} },
		"policy.draft for one practice":   func(k *NewKey) { k.Scopes = []string{ScopePolicyDraft} },
		"policy.approve for one practice": func(k *NewKey) { k.Scopes = []string{ScopePolicyApprove} },
		"a person that is no id":          func(k *NewKey) { k.Person = "a\x00" },
		"an end in the past":              func(k *NewKey) { k.ExpiresAt = time.Now().Add(-time.Minute) },
	} {
		k := good
		change(&k)
		if _, _, err := store.Make(t.Context(), k); !errors.Is(err, authz.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Rule 119 for callers: a store that cannot say who calls is no reason to let
// anybody in, and none to call a good key bad.
func TestRule119KeysThatCannotBeCheckedAre503(t *testing.T) {
	pool := pgtest.Pool(t)
	store := NewKeyStore(pool)
	_, key, err := store.Make(t.Context(), NewKey{Scopes: []string{ScopeAsk}, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	pool.Close()
	if _, err := store.Identify(t.Context(), key); !errors.Is(err, authz.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	app := newGuarded(t, &Authenticator{Keys: store})
	response, body := call(t, app, "GET", "/x", "", "Authorization", "Bearer "+key)
	if response.StatusCode != 503 || response.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestManyWhoNeedOneKeyAskOnce(t *testing.T) {
	pool := pgtest.Pool(t)
	store := NewKeyStore(pool)
	_, key, err := store.Make(t.Context(), NewKey{Scopes: []string{ScopeAsk}, AllPractices: true})
	if err != nil {
		t.Fatal(err)
	}
	before := pool.Stat().AcquireCount()
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			for range 20 {
				if _, err := store.Identify(context.Background(), key); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if asked := pool.Stat().AcquireCount() - before; asked > 100 {
		t.Errorf("Postgres was asked %d times for 1000 requests", asked)
	}
}

func TestUnknownKeysDoNotFillTheMemory(t *testing.T) {
	store := NewKeyStore(pgtest.Pool(t))
	for i := range maxKnownKeys + 10 {
		store.remembered(keyText.EncodeToString([]byte{byte(i), byte(i >> 8)}))
	}
	if n := len(store.known); n > maxKnownKeys {
		t.Errorf("%d ids are remembered", n)
	}
}

func hashOf(t *testing.T, pool *pgxpool.Pool, id string) []byte {
	t.Helper()
	var hash []byte
	if err := pool.QueryRow(t.Context(), `SELECT hash FROM api_keys WHERE id = $1`, id).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestQueriesArePreparedAgainstTheSchema(t *testing.T) {
	conn, err := pgtest.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for name, sql := range map[string]string{"insert": sqlInsertKey, "find": sqlFindKey, "list": sqlListKeys, "revoke": sqlRevokeKey} {
		if _, err := conn.Conn().Prepare(t.Context(), name, sql); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
