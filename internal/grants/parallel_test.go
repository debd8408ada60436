package grants

import (
	"sync"
	"testing"

	"chartgate/internal/authz"
)

// atDecision makes the next call of actor stop between its decision and its
// change. It returns a channel that closes when it is there, and what lets it
// go on; a test that fails before that lets it go on, too.
func (b *bench) atDecision(actor string) (there <-chan struct{}, goOn func()) {
	reached, release := make(chan struct{}), make(chan struct{})
	var stop, resume sync.Once
	b.authority.Decided = func(r authz.Request) {
		if r.Subject.ID == actor {
			stop.Do(func() { close(reached); <-release })
		}
	}
	goOn = func() { resume.Do(func() { close(release) }) }
	b.t.Cleanup(goOn)
	return reached, goOn
}

// begin runs work beside the test and returns where its error will be.
func begin(work func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	return done
}

func TestRemovedAdministratorCannotCommit(t *testing.T) {
	const rawRemoval = `UPDATE members SET status = 'removed' WHERE practice = 'practice-1' AND user_id = 'admin-1'`
	give := func(b *bench) func() error {
		return func() error {
			_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "practitioner-2"})
			return err
		}
	}

	// He was allowed and stalls; whoever removes him has to wait for his commit,
	// so the removal is never acknowledged while his change can still come.
	for name, removal := range map[string]func(b *bench) error{
		"by another administrator": func(b *bench) error {
			return b.Remove(t.Context(), user("owner-1"), "practice-1", "admin-1", nil, "")
		},
		"by psql": func(b *bench) error { _, err := b.db.Exec(t.Context(), rawRemoval); return err },
	} {
		t.Run("stalled, removed "+name, func(t *testing.T) {
			b := setup(t)
			there, goOn := b.atDecision("admin-1")
			giving := begin(give(b))
			<-there
			removing := begin(func() error { return removal(b) })
			b.waitForLock()
			select {
			case err := <-removing:
				t.Errorf("removed (%v) while his change was under way", err)
			default:
			}
			goOn()
			if err := <-giving; err != nil {
				t.Errorf("he was still an administrator: %v", err)
			}
			if err := <-removing; err != nil {
				t.Errorf("removal: %v", err)
			}
		})
	}

	// His removal is under way; he waits for it, and is then decided on as one
	// who was removed.
	t.Run("removed first", func(t *testing.T) {
		b := setup(t)
		tx, err := b.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		if _, err := tx.Exec(t.Context(), rawRemoval); err != nil {
			t.Fatal(err)
		}
		giving := begin(give(b))
		b.waitForLock()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		problem(t, <-giving, "not-found")
		if n := b.count(`SELECT count(*) FROM grants`) + b.count(`SELECT count(*) FROM changes`); n != 0 {
			t.Error("he changed something after he was removed")
		}
	})
}

func TestGranteeRemovedMeanwhileGetsNothing(t *testing.T) {
	b := setup(t)
	there, goOn := b.atDecision("owner-1")
	removing := begin(func() error {
		return b.Remove(t.Context(), user("owner-1"), "practice-1", "user-both", nil, "")
	})
	<-there
	giving := begin(func() error {
		_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "user-both"})
		return err
	})
	b.waitForLock()
	goOn()
	if err := <-removing; err != nil {
		t.Fatal(err)
	}
	problem(t, <-giving, "grantee-not-eligible")
	if n := b.count(`SELECT count(*) FROM grants`); n != 0 {
		t.Error("a removed member holds a grant")
	}
}

func TestRule35_OfTwoWhoSaveTheSameVersionOneWins(t *testing.T) {
	b := setup(t)
	b.give("client-1", Terms{User: "user-both"})
	seen, err := b.Access(t.Context(), admin, "practice-1", "client-1")
	if err != nil {
		t.Fatal(err)
	}
	save := func(actor, user1 string) func() error {
		return func() error {
			_, err := b.SaveAccess(t.Context(), user(actor), "practice-1", "client-1", []Terms{{User: user1}}, func(v int64) bool { return v == seen.Version })
			return err
		}
	}
	there, goOn := b.atDecision("admin-1")
	first := begin(save("admin-1", "practitioner-2"))
	<-there
	second := begin(save("owner-1", "practitioner-full"))
	b.waitForLock()
	goOn()
	if err := <-first; err != nil {
		t.Errorf("first: %v", err)
	}
	if p := problem(t, <-second, "changed-meanwhile"); p.Status != 412 {
		t.Errorf("second: %+v", p)
	}
	b.opens("practitioner-2", "client-1", "client_grant")
	b.opens("practitioner-full", "client-1", "full_clinical_access")
	b.opens("user-both", "client-1")
	b.unchanged(func() { problem(t, save("admin-1", "user-both")(), "changed-meanwhile") })
}

func TestTheSameGrantByTwoAtOnceIsOne(t *testing.T) {
	b := setup(t)
	const callers = 6
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		ids     = map[string]int{}
		created int
	)
	for i := range callers {
		wg.Go(func() {
			actor := []string{"admin-1", "owner-1"}[i%2]
			g, isNew, err := b.Give(t.Context(), user(actor), "practice-1", "client-1", Terms{User: "practitioner-2"})
			if err != nil {
				t.Errorf("give: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[g.ID]++
			if isNew {
				created++
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || created != 1 || b.count(`SELECT count(*) FROM changes`) != 1 {
		t.Errorf("ids %v, created %d, want one", ids, created)
	}
}

func TestTwoAdministratorsCannotRemoveEachOther(t *testing.T) {
	b := setup(t)
	b.exec(`UPDATE members SET owner = false WHERE user_id = 'owner-1'`)
	there, goOn := b.atDecision("admin-1")
	first := begin(func() error { return b.Remove(t.Context(), admin, "practice-1", "owner-1", nil, "") })
	<-there
	second := begin(func() error {
		_, err := b.ChangeMember(t.Context(), user("owner-1"), "practice-1", "admin-1", MemberChange{Roles: []string{}})
		return err
	})
	b.waitForLock()
	goOn()
	if err := <-first; err != nil {
		t.Errorf("first: %v", err)
	}
	problem(t, <-second, "not-found")
	if n := b.count(`SELECT count(*) FROM members WHERE practice = 'practice-1' AND status = 'active' AND 'administrator' = ANY (roles)`); n != 1 {
		t.Errorf("%d administrators are left", n)
	}
}

// The assigned practitioner is looked up before the rows are locked; here he
// becomes another one in between.
func TestReassignedMeanwhile(t *testing.T) {
	b := setup(t)
	b.settings("seed", map[string]any{"on_reassign_previous": map[string]any{"grant_days": int64(7)}})
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `UPDATE clients SET assigned = 'practitioner-full' WHERE id = 'client-1'`); err != nil {
		t.Fatal(err)
	}
	assigning := begin(func() error { return b.Assign(t.Context(), admin, "practice-1", "client-1", "practitioner-2", "") })
	b.waitForLock()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-assigning; err != nil {
		t.Fatal(err)
	}
	b.opens("practitioner-full", "client-1", "client_grant", "full_clinical_access")
	b.opens("practitioner-1", "client-1")
	b.opens("practitioner-2", "client-1", "assigned")
}

// A grant that is written past the lock, by psql, is found by the constraint.
func TestOverlapWrittenPastTheLockIsAConflict(t *testing.T) {
	b := setup(t)
	tx, err := b.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	// Without foreign keys there is no lock on the client.
	if _, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica`); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO grants (practice, client, user_id, granted_by, scope)
		VALUES ('practice-1', 'client-1', 'practitioner-2', 'admin-1', 'view')`); err != nil {
		t.Fatal(err)
	}
	giving := begin(func() error {
		_, _, err := b.Give(t.Context(), admin, "practice-1", "client-1", Terms{User: "practitioner-2"})
		return err
	})
	b.waitForLock()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	problem(t, <-giving, "changed-meanwhile")
	if n := b.count(`SELECT count(*) FROM grants WHERE scope = 'view'`); n != 1 {
		t.Errorf("%d grants stand as they were", n)
	}
}
