package facts

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Load reads the facts of a request from q: with a transaction, as that
// transaction sees them. Rows are not locked here; who decides about a change
// locks them first (DOMAIN rule 57, freshness of the actor).
func Load(ctx context.Context, q feed.Querier, d *feed.Deployment, r authz.Request) (authz.Facts, error) {
	l, err := load(ctx, q, askOf(r))
	if err != nil {
		return authz.Facts{}, fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
	}
	f := l.known.at(l.primary, l.primary, d.Token(l.snapshot))
	f.Activation = l.activation
	return f, nil
}

// loaded is what was read, at which position of the feed, and when: the
// primary's clock stood at primary between began and ended of the follower's.
type loaded struct {
	known        known
	snapshot     feed.Snapshot
	token        string // of snapshot; "" where it has not been written yet
	activation   int64  // serial; 0 where a lease vouches for the policy
	primary      time.Time
	began, ended time.Duration
}

// loadedAt is known, found to hold as of the poll of state.
func loadedAt(k known, state *feed.State) loaded {
	return loaded{known: k, snapshot: state.Snapshot, token: state.Token, primary: state.Primary, began: state.Began, ended: state.Ended}
}

// bounds returns between which two moments the primary's clock stands now.
func (l loaded) bounds(now time.Duration) (lower, upper time.Time) {
	return l.primary.Add(max(0, now-l.ended)), l.primary.Add(max(0, now-l.began))
}

func load(ctx context.Context, q feed.Querier, a ask) (loaded, error) {
	return a.scan(ctx, q.QueryRow(ctx, selectFacts, a.client, a.practice, a.user, a.login))
}

// loadAll is load for each of several flights, which the database is asked for
// in one go. Each is a statement of its own, with a snapshot of its own.
func loadAll(ctx context.Context, pool *pgxpool.Pool, list []*flight) {
	if len(list) == 1 {
		list[0].l, list[0].err = load(ctx, pool, list[0].ask)
		return
	}
	var batch pgx.Batch
	for _, f := range list {
		batch.Queue(selectFacts, f.ask.client, f.ask.practice, f.ask.user, f.ask.login)
	}
	results := pool.SendBatch(ctx, &batch)
	for _, f := range list {
		f.l, f.err = f.ask.scan(ctx, results.QueryRow())
	}
	if err := results.Close(); err != nil {
		for _, f := range list {
			f.err = cmp.Or(f.err, fmt.Errorf("read facts: %w", err))
		}
	}
}

// scan reads the row of selectFacts for a.
func (a ask) scan(ctx context.Context, row pgx.Row) (loaded, error) {
	var (
		l                              loaded
		snapshot                       string
		client, assigned, clientStatus *string
		practice, preset               *string
		member, memberStatus           *string
		owner, fullAccess, billing     *bool
		roles, scopes                  []string
		starts, ends                   []time.Time
		contact, relationship          *string
		enabled, own                   *bool
		permissions                    []string
		corrupt                        int
		replica                        bool
	)
	err := row.Scan(&l.primary, &snapshot, &replica, &l.activation,
		&client, &assigned, &clientStatus, &practice, &preset, &l.known.Overrides,
		&member, &roles, &memberStatus, &owner, &fullAccess, &billing,
		&corrupt, &scopes, &starts, &ends,
		&contact, &enabled, &own, &relationship, &permissions, &l.known.Offered, &l.known.Left)
	if err != nil {
		return loaded{}, fmt.Errorf("read facts: %w", err)
	}
	if replica {
		return loaded{}, errors.New("read facts: the database is a replica; facts are read from the primary only")
	}
	if l.snapshot, err = feed.ParseSnapshot(snapshot); err != nil {
		return loaded{}, fmt.Errorf("read facts: %w", err)
	}
	if corrupt > 0 {
		slog.ErrorContext(ctx, "a grant or a portal access names a client of another practice and is ignored", "client", a.client, "rows", corrupt)
	}
	k := &l.known
	if practice == nil {
		return l, nil
	}
	k.Practice, k.Preset = *practice, *preset
	if client != nil {
		k.Client = &authz.Client{ID: *client, Practice: *practice, Status: word(*clientStatus)}
		if assigned != nil {
			k.Client.Assigned = *assigned
		}
	}
	if member != nil {
		k.Member = &authz.Member{ID: *member, User: a.user, Practice: *practice, Roles: roles, Status: word(*memberStatus),
			Owner: *owner, FullClinicalAccess: *fullAccess, BillingEnabled: *billing}
	}
	for i := range scopes {
		k.Grants = append(k.Grants, authz.Grant{Scope: word(scopes[i]), NotBefore: starts[i].UTC(), ExpiresAt: ends[i].UTC()})
	}
	if contact != nil {
		k.Portal = &authz.Portal{Contact: *contact, Enabled: *enabled, Own: *own, Relationship: *relationship, Permissions: permissions}
	}
	if err := k.revive(); err != nil {
		return loaded{}, fmt.Errorf("read facts: practice %s: %w", *practice, err)
	}
	return l, nil
}

// word returns the one copy of a text that most facts share.
func word(s string) string {
	for _, w := range []string{authz.ClientActive, authz.ClientArchived, authz.MemberInvited, authz.MemberRemoved, authz.ScopeView, authz.ScopeCollaborate} {
		if s == w {
			return w
		}
	}
	return s
}

// settingsRead keeps settings by their text: practices have few different ones,
// and each entry of Redis and each row of Postgres brings them again.
var settingsRead = struct {
	sync.RWMutex
	by map[string]*authz.Settings
}{by: map[string]*authz.Settings{}}

const maxSettingsRead = 4096

// readSettings returns the settings of a preset and what overrides it. They are
// shared, and never change.
func readSettings(preset string, overrides []byte) (*authz.Settings, error) {
	text := preset + "\x00" + string(overrides)
	settingsRead.RLock()
	s := settingsRead.by[text]
	settingsRead.RUnlock()
	if s != nil {
		return s, nil
	}
	var values map[string]any
	if len(overrides) > 0 {
		if err := json.Unmarshal(overrides, &values); err != nil {
			return nil, err
		}
	}
	s, err := authz.NewSettings(preset, values)
	if err != nil {
		return nil, err
	}
	settingsRead.Lock()
	defer settingsRead.Unlock()
	if len(settingsRead.by) >= maxSettingsRead {
		clear(settingsRead.by)
	}
	settingsRead.by[text] = s
	return s, nil
}
