package record_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
	"chartgate/internal/record"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func setup(t *testing.T) (owner *pgxpool.Pool, r *record.Recorder, sidecar *pgxpool.Pool) {
	t.Helper()
	url := pgtest.URL(t)
	sidecar = pgtest.PoolAs(t, url, postgres.RoleSidecar)
	r = record.NewRecorder(sidecar)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return pgtest.PoolAs(t, url, ""), r, sidecar
}

func verdict(i int) authz.Verdict {
	v := authz.NewVerdict(authz.Request{
		Subject: authz.Subject{Type: "user", ID: fmt.Sprintf("practitioner-%d", i)}, Action: "chart.open",
		Resource: authz.Resource{Type: "client", ID: "client-1"},
	}, "sha256:1", "call-1")
	settings, err := authz.NewSettings("seed", nil)
	if err != nil {
		panic(err)
	}
	v.Facts = authz.Facts{Now: time.Now(), Revision: "r", Practice: "practice-1", Settings: settings,
		Client: &authz.Client{ID: "client-1", Practice: "practice-1", Assigned: "practitioner-1", Status: "active"}}
	v.Exact = authz.Decision{Code: "other_practice", Bases: []string{}}
	v.Shown = authz.Decision{Code: "no_basis", Bases: []string{}}
	return v
}

func TestNoAnswerWithoutRecord(t *testing.T) {
	owner, r, _ := setup(t)
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			v := verdict(i)
			if err := r.Record(t.Context(), v); err != nil {
				t.Error(err)
				return
			}
			// Record has returned: the entry must be there, with the facts it rests on.
			var code string
			var facts []byte
			if err := owner.QueryRow(t.Context(), `SELECT code, facts FROM decisions WHERE id = $1`, v.ID).Scan(&code, &facts); err != nil {
				t.Errorf("decision %d: %v", i, err)
				return
			}
			var got map[string]any
			if err := json.Unmarshal(facts, &got); err != nil {
				t.Error(err)
			}
			want := map[string]any{}
			raw, _ := json.Marshal(authz.Document(v.Request, v.Facts))
			_ = json.Unmarshal(raw, &want)
			if diff := cmp.Diff(want, got); code != "other_practice" || diff != "" {
				t.Errorf("recorded %s: %s", code, diff)
			}
		})
	}
	wait.Wait()
}

func TestRecordThatCannotBeWrittenIsUnavailable(t *testing.T) {
	owner, r, sidecar := setup(t)
	if _, err := owner.Exec(t.Context(), `REVOKE INSERT ON decisions FROM chartgate_sidecar`); err != nil {
		t.Fatal(err)
	}
	if err := r.Record(t.Context(), verdict(1)); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("without the right to insert: %v", err)
	}
	if _, err := owner.Exec(t.Context(), `GRANT INSERT ON decisions TO chartgate_sidecar`); err != nil {
		t.Fatal(err)
	}
	if err := r.Record(t.Context(), verdict(2)); err != nil {
		t.Errorf("after it came back: %v", err)
	}
	twice := verdict(3)
	if err := r.Record(t.Context(), twice, twice); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("the same id twice: %v", err)
	}
	sidecar.Close()
	if err := r.Record(t.Context(), verdict(4)); !errors.Is(err, authz.ErrUnavailable) {
		t.Errorf("with Postgres gone: %v", err)
	}
	var n int
	if err := owner.QueryRow(t.Context(), `SELECT count(*) FROM decisions`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d on record, want 1 (%v)", n, err)
	}
}

func TestOwnBundleLeavesOnlyADigest(t *testing.T) {
	owner, r, _ := setup(t)
	v := verdict(1)
	v.Input = []byte(`{"subject":{"id":"someone@example.com"}}`)
	if err := r.Record(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	var digest, facts []byte
	if err := owner.QueryRow(t.Context(), `SELECT digest, facts FROM decisions`).Scan(&digest, &facts); err != nil {
		t.Fatal(err)
	}
	if len(digest) != 32 || facts != nil {
		t.Errorf("digest %x, facts %s", digest, facts)
	}
}

func TestChangeAndItsRecordAreOne(t *testing.T) {
	url := pgtest.URL(t)
	pool := pgtest.PoolAs(t, url, postgres.RoleControl)
	stop := errors.New("stop")
	change := record.Change{Practice: "practice-1", Actor: "admin-1", Action: "settings.manage",
		Before: map[string]any{"preset": "seed"}, After: map[string]any{"preset": "help-centre"}, Reason: "audit"}
	for _, end := range []error{stop, nil} {
		err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			if err := record.AppendChange(t.Context(), tx, change); err != nil {
				return err
			}
			v := verdict(1)
			if err := record.AppendDecision(t.Context(), tx, v); err != nil {
				return err
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		var changes, decisions int
		if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM decisions)`).Scan(&changes, &decisions); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 0, false: 1}[end != nil]; changes != want || decisions != want {
			t.Errorf("after %v: %d changes, %d decisions", end, changes, decisions)
		}
	}
	if err := postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE changes SET actor = 'admin-2'`)
		return err
	}); err == nil {
		t.Error("control may alter a change record")
	}
}
