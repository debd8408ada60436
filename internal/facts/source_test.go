package facts_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/facts"
	"chartgate/internal/feed"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// practice is a small practice: p1 with a1, b1 and clients c1 (assigned a1; b1
// holds a grant) and c2; p2 with x1 and c9.
const practice = `
INSERT INTO practices (id, preset, overrides) VALUES ('p1', 'help-centre', '{"grant_max_days": 30}'), ('p2', 'seed', '{}');
INSERT INTO users (id) VALUES ('a1'), ('b1'), ('x1');
INSERT INTO members (practice, user_id, name, roles, status) VALUES
  ('p1', 'a1', 'A', '{practitioner}', 'active'), ('p1', 'b1', 'B', '{practitioner,biller}', 'active'), ('p2', 'x1', 'X', '{administrator}', 'active');
INSERT INTO clients (id, practice, assigned, first_name, last_name) VALUES
  ('c1', 'p1', 'a1', 'Client', 'One'), ('c2', 'p1', NULL, 'Client', 'Two'), ('c9', 'p2', NULL, 'Client', 'Nine');
INSERT INTO grants (practice, client, user_id, scope, not_before, granted_by) VALUES ('p1', 'c1', 'b1', 'view', '2020-01-01Z', 'a1');`

type bench struct {
	owner  *pgxpool.Pool // writes, as psql would
	pool   *pgxpool.Pool // reads, as the sidecar does
	source *facts.Source
	redis  *redis.Client
	d      *feed.Deployment
	clock  *clock
}

// clock is a lease clock that a test moves.
type clock struct{ now atomic.Int64 }

func (c *clock) read() time.Duration     { return time.Duration(c.now.Load()) }
func (c *clock) advance(d time.Duration) { c.now.Add(int64(d)) }

// setup gives a source over a fresh database and the Redis at address.
func setup(t *testing.T, address string) bench {
	t.Helper()
	url := pgtest.URL(t)
	b := bench{owner: pgtest.PoolAs(t, url, ""), pool: pgtest.PoolAs(t, url, postgres.RoleSidecar)}
	b.exec(t, practice)
	d, err := feed.ReadDeployment(t.Context(), b.pool)
	if err != nil {
		t.Fatal(err)
	}
	b.d, b.clock = d, &clock{}
	if address != "" {
		if b.redis, err = facts.OpenRedis(address); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.redis.Close() })
	}
	b.source = b.another(t)
	b.poll(t)
	return b
}

// another is one more sidecar on the same stores. It has not polled yet.
func (b bench) another(t *testing.T) *facts.Source {
	t.Helper()
	o := facts.Options{Feed: feed.Options{Clock: b.clock.read}}
	if b.redis != nil {
		o.Redis = b.redis
	}
	s, err := facts.NewSource(b.pool, b.pool, b.d, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// poll lets the sidecar hear of what was committed. Polls are made by hand, so
// that no schedule of a test depends on timing.
func (b bench) poll(t *testing.T) {
	t.Helper()
	if err := b.source.Follower().Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (b bench) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := b.owner.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (b bench) ask(t *testing.T, user, client string) authz.Facts {
	t.Helper()
	f, err := b.source.Facts(t.Context(), chartOpen(user, client))
	if err != nil {
		t.Fatal(err)
	}
	b.source.Wait()
	return f
}

func chartOpen(user, client string) authz.Request {
	return authz.Request{Subject: authz.Subject{Type: "user", ID: user}, Action: "chart.open",
		Resource: authz.Resource{Type: "client", ID: client}}
}

// servers are the Redis servers that every test of this file runs on.
func servers(t *testing.T) map[string]string {
	return map[string]string{"miniredis": "redis://" + miniredis.RunT(t).Addr(), "redis-server": pgtest.Redis(t)}
}

func TestFactsOfOneDecision(t *testing.T) {
	b := setup(t, "")
	f := b.ask(t, "b1", "c1")
	if f.Practice != "p1" || f.Client == nil || f.Client.Assigned != "a1" || f.Client.Status != "active" {
		t.Errorf("client: %+v", f.Client)
	}
	if m := f.Member; m == nil || m.User != "b1" || m.ID == "" || !reflect.DeepEqual(m.Roles, []string{"practitioner", "biller"}) || !m.BillingEnabled {
		t.Errorf("member: %+v", m)
	}
	if g := f.Grant; g == nil || g.Scope != "view" || !g.ExpiresAt.Equal(authz.NoEnd) {
		t.Errorf("grant: %+v", g)
	}
	if s := f.Settings; s == nil || s.Text("admin_record_access") != "non_clinical" || s.Number("grant_max_days") != 30 {
		t.Errorf("settings: %+v", s)
	}
	for name, r := range map[string]authz.Request{
		"no such client":      chartOpen("a1", "c7"),
		"no such practice":    {Subject: authz.Subject{Type: "user", ID: "a1"}, Resource: authz.Resource{Type: "practice", ID: "p7"}},
		"an id that is none":  chartOpen("a1", "\x00"),
		"a resource of ours?": {Subject: authz.Subject{Type: "user", ID: "a1"}, Resource: authz.Resource{Type: "account", ID: "c1"}},
	} {
		f, err := b.source.Facts(t.Context(), r)
		if err != nil || f.Client != nil || f.Member != nil || f.Settings != nil || f.Practice != "" || f.Now.IsZero() {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	if f := b.ask(t, "x1", "c1"); f.Member != nil || f.Client == nil {
		t.Errorf("a stranger has a membership in the client's practice: %+v", f.Member)
	}
	portal := chartOpen("a1", "c1")
	portal.Subject.Type = authz.SubjectPortal
	if f, err := b.source.Facts(t.Context(), portal); err != nil || f.Member != nil {
		t.Errorf("a portal login got a membership: %+v, %v", f.Member, err)
	}
}

func TestRedisIsHitAndARevokeByRawSQLIsHeard(t *testing.T) {
	for name, address := range servers(t) {
		t.Run(name, func(t *testing.T) {
			b := setup(t, address)
			b.ask(t, "b1", "c1") // Redis holds an entry now
			b.source = b.another(t)
			b.poll(t)
			if f := b.ask(t, "b1", "c1"); f.Grant == nil || b.source.Counts().Redis.Load() != 1 {
				t.Fatalf("a new sidecar was not answered from Redis (%d hits)", b.source.Counts().Redis.Load())
			}
			if f := b.ask(t, "b1", "c1"); f.Grant == nil || b.source.Counts().Memory.Load() != 1 {
				t.Fatalf("the second question was not answered from memory (%d hits)", b.source.Counts().Memory.Load())
			}
			stale := uint64(0)
			for _, write := range []struct {
				sql   string
				check func(authz.Facts) bool
			}{
				{`DELETE FROM grants WHERE user_id = 'b1'`, func(f authz.Facts) bool { return f.Grant == nil }},
				{`UPDATE clients SET assigned = 'b1' WHERE id = 'c1'`, func(f authz.Facts) bool { return f.Client.Assigned == "b1" }},
				{`UPDATE members SET roles = '{scheduler}' WHERE user_id = 'b1'`, func(f authz.Facts) bool { return f.Member.Roles[0] == "scheduler" }},
				{`UPDATE practices SET preset = 'seed' WHERE id = 'p1'`, func(f authz.Facts) bool { return f.Settings.Text("admin_record_access") == "full" }},
				{`UPDATE members SET status = 'removed' WHERE user_id = 'b1'`, func(f authz.Facts) bool { return f.Member.Status == "removed" && f.Client.Assigned == "" }},
				{`TRUNCATE grants`, func(f authz.Facts) bool { return f.Grant == nil }},
				{`DELETE FROM clients WHERE id = 'c1'`, func(f authz.Facts) bool { return f.Client == nil && f.Practice == "" }},
				{`INSERT INTO clients (id, practice, first_name, last_name) VALUES ('c1', 'p2', 'Client', 'One')`, func(f authz.Facts) bool { return f.Practice == "p2" && f.Member == nil }},
			} {
				b.ask(t, "b1", "c1") // memory and Redis hold what was true before
				b.exec(t, write.sql)
				b.poll(t)
				if f := b.ask(t, "b1", "c1"); !write.check(f) {
					t.Errorf("after %q, from memory: %+v %+v %+v", write.sql, f.Client, f.Member, f.Grant)
				}
				stale += b.source.Counts().Stale.Load()
				b.source = b.another(t)
				b.poll(t)
				if f := b.ask(t, "b1", "c1"); !write.check(f) {
					t.Errorf("after %q, by a new sidecar: %+v %+v %+v", write.sql, f.Client, f.Member, f.Grant)
				}
			}
			if stale == 0 {
				t.Error("no entry was ever found stale")
			}
		})
	}
}

func TestAWriteThatCommitsAfterALaterOneIsSeen(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	early, err := b.owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Rollback(t.Context())
	if _, err := early.Exec(t.Context(), `DELETE FROM grants WHERE user_id = 'b1'`); err != nil {
		t.Fatal(err)
	}
	b.exec(t, `UPDATE practices SET preset = 'seed' WHERE id = 'p1'`) // a later transaction commits first
	if f := b.ask(t, "b1", "c1"); f.Grant == nil {
		t.Fatal("an uncommitted revoke was seen")
	}
	b.poll(t) // hears of the later one, and sees no more of the early one
	if err := early.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.poll(t)
	if f := b.ask(t, "b1", "c1"); f.Grant != nil {
		t.Error("the revoke that committed late was not seen")
	}
}

func TestRedisRubbishIsIgnored(t *testing.T) {
	for name, address := range servers(t) {
		t.Run(name, func(t *testing.T) {
			b := setup(t, address)
			ctx := t.Context()
			want := b.ask(t, "b1", "c1")
			b.ask(t, "b1", "c2")
			keys, err := b.redis.Keys(ctx, "*").Result()
			if err != nil || len(keys) != 2 {
				t.Fatalf("keys %q, %v", keys, err)
			}
			good := map[string]string{}
			for _, key := range keys {
				good[key] = b.redis.Get(ctx, key).Val()
			}
			swapped := good[keys[1]]
			for _, key := range keys {
				for what, value := range map[string]string{
					"nothing": "", "text": "rubbish", "cut": good[key][:len(good[key])/2], "longer": good[key] + "x",
					"flipped": flip(good[key]), "another key's": swapped, "json": `{"practice":"p1"}`,
				} {
					if what == "another key's" && good[key] == swapped {
						continue
					}
					if err := b.redis.Set(ctx, key, value, 0).Err(); err != nil {
						t.Fatal(err)
					}
					b.source = b.another(t)
					b.poll(t)
					got := b.ask(t, "b1", "c1")
					if got.Grant == nil || got.Client.ID != want.Client.ID {
						t.Errorf("%s: %+v", what, got)
					}
					b.ask(t, "b1", "c2")
					if b.source.Counts().Rubbish.Load() == 0 {
						t.Errorf("%s was taken", what)
					}
				}
			}
			// An entry that comes back after its facts were taken away.
			b.exec(t, `DELETE FROM grants`)
			b.source = b.another(t)
			b.poll(t)
			for key, value := range good {
				b.redis.Set(ctx, key, value, 0)
			}
			if f := b.ask(t, "b1", "c1"); f.Grant != nil {
				t.Error("a resurrected entry brought a revoked grant back")
			}
			b.redis.FlushAll(ctx)
			b.source = b.another(t)
			b.poll(t)
			if f := b.ask(t, "b1", "c1"); f.Grant != nil || f.Client == nil {
				t.Errorf("after a flush: %+v", f)
			}
		})
	}
}

func flip(s string) string {
	raw := []byte(s)
	raw[len(raw)-2] ^= 1
	return string(raw)
}

func TestRedisDownOrSlow(t *testing.T) {
	server := miniredis.RunT(t)
	b := setup(t, "redis://"+server.Addr())
	b.ask(t, "b1", "c1")
	server.Close()
	b.source = b.another(t)
	b.poll(t)
	if f := b.ask(t, "b1", "c1"); f.Grant == nil {
		t.Errorf("with Redis down: %+v", f)
	}

	// A Redis that accepts and never answers.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	silent, err := facts.OpenRedis("redis://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b.redis = silent
	source := b.another(t)
	if err := source.Follower().Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for range 20 { // all of them within the limit: only the first waits for Redis
		if f, err := source.Facts(ctx, chartOpen("b1", "c1")); err != nil || f.Grant == nil {
			t.Fatalf("with a silent Redis: %+v, %v", f, err)
		}
	}
}

// A change is heard whoever wrote it.
func TestARevokeByPsqlIsHeard(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not installed: ", err)
	}
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	if f := b.ask(t, "b1", "c1"); f.Grant == nil {
		t.Fatal("there is nothing to revoke")
	}
	revoke := exec.CommandContext(t.Context(), psql, "--no-psqlrc", "--set", "ON_ERROR_STOP=1",
		"--dbname", b.owner.Config().ConnString(), "--command", `DELETE FROM grants WHERE user_id = 'b1'`)
	if said, err := revoke.CombinedOutput(); err != nil || !strings.Contains(string(said), "DELETE 1") {
		t.Fatalf("%s: %v", said, err)
	}
	b.poll(t)
	if f := b.ask(t, "b1", "c1"); f.Grant != nil || f.Member == nil {
		t.Errorf("what psql revoked is still a fact: %+v", f.Grant)
	}
}

func TestPostgresDownIsUnavailable(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	b.ask(t, "b1", "c1") // memory and Redis hold an entry, and must not be believed without a lease
	b.pool.Close()
	b.clock.advance(feed.MaxLease)
	f, err := b.source.Facts(t.Context(), chartOpen("b1", "c1"))
	if !errors.Is(err, authz.ErrUnavailable) || f.Client != nil {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestSettingsThatCannotBeReadAreUnavailable(t *testing.T) {
	b := setup(t, "")
	for _, set := range []string{`preset = 'nonsense'`, `preset = 'seed', overrides = '{"admin_record_access": "everything"}'`} {
		b.exec(t, `UPDATE practices SET `+set+` WHERE id = 'p1'`)
		b.poll(t)
		if f, err := b.source.Facts(t.Context(), chartOpen("a1", "c1")); !errors.Is(err, authz.ErrUnavailable) {
			t.Errorf("%s: %+v, %v", set, f, err)
		}
	}
}

func TestGrantOfTheMoment(t *testing.T) {
	b := setup(t, "")
	b.exec(t, `DELETE FROM grants`)
	now := time.Now()
	insert := func(scope string, from, to time.Duration) {
		b.exec(t, `INSERT INTO grants (practice, client, user_id, scope, not_before, expires_at, granted_by) VALUES ('p1', 'c1', 'b1', $1, $2, $3, 'a1')`,
			scope, now.Add(from), now.Add(to))
	}
	const turn = feed.MaxLease / 2
	insert("view", -time.Hour, turn)
	insert("collaborate", turn, time.Hour)
	b.poll(t)
	if f := b.ask(t, "b1", "c1"); f.Grant == nil || f.Grant.Scope != "view" {
		t.Fatalf("the grant in force: %+v", f.Grant)
	}
	b.clock.advance(turn + feed.MaxLease/3) // within the lease: memory answers, and its time goes on
	f := b.ask(t, "b1", "c1")
	if f.Grant == nil || f.Grant.Scope != "collaborate" || b.source.Counts().Memory.Load() != 1 {
		t.Errorf("a remembered grant outlived its end: %+v (%d from memory)", f.Grant, b.source.Counts().Memory.Load())
	}
	if f.Now.After(f.Latest) || f.Now.Before(now.Add(turn)) {
		t.Errorf("now is between %v and %v", f.Now, f.Latest)
	}
}

func TestRule107_CorruptGrantIsIgnored(t *testing.T) {
	b := setup(t, "")
	b.exec(t, `DELETE FROM grants; ALTER TABLE grants DROP CONSTRAINT grants_practice_client_fkey, DROP CONSTRAINT grants_practice_user_id_fkey;
		INSERT INTO grants (practice, client, user_id, granted_by) VALUES ('p2', 'c1', 'b1', 'a1')`)
	b.poll(t)
	if f := b.ask(t, "b1", "c1"); f.Grant != nil || f.Member == nil {
		t.Errorf("a grant of another practice became a fact: %+v", f.Grant)
	}
}

func TestMinRevision(t *testing.T) {
	b := setup(t, "redis://"+miniredis.RunT(t).Addr())
	r := chartOpen("b1", "c1")
	f := b.ask(t, "b1", "c1")
	r.Context.MinRevision = f.Revision
	if _, err := b.source.Facts(t.Context(), r); err != nil {
		t.Errorf("a token that was given out: %v", err)
	}
	// A token that is newer than the last poll, asked about at once: nothing has
	// to be known for the second, and it is no answer all the same until then.
	b.exec(t, `UPDATE clients SET assigned = 'b1' WHERE id = 'c1'`)
	token, err := b.d.Revision(t.Context(), b.owner)
	if err != nil {
		t.Fatal(err)
	}
	r.Context.MinRevision = token
	if f, err := b.source.Facts(t.Context(), r); err != nil || f.Client.Assigned != "b1" {
		t.Errorf("facts older than the token, or %v", err)
	}
	if f, err := b.source.Facts(t.Context(), authz.Request{Context: r.Context}); err != nil || f.Revision == "" {
		t.Errorf("of nothing, at a token that is newer than the last poll: %v", err)
	}
	future := feed.Snapshot{}
	var text string
	if err := b.owner.QueryRow(t.Context(), `SELECT pg_current_snapshot()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var xmin, xmax uint64
	if _, err := fmt.Sscanf(text, "%d:%d:", &xmin, &xmax); err != nil {
		t.Fatal(err)
	}
	future, err = feed.ParseSnapshot(fmt.Sprintf("%d:%d:", xmax+1000, xmax+1000))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"x", "", "AAAA", f.Revision[:len(f.Revision)-2], b.d.Token(future)} {
		r.Context.MinRevision = bad
		_, err := b.source.Facts(t.Context(), r)
		var p *authz.Problem
		if bad != "" && (!errors.As(err, &p) || p.Kind != authz.ErrMalformed) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}
