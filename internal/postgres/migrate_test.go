package postgres_test

import (
	"context"
	"database/sql"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"

	"chartgate/internal/postgres"
	"chartgate/internal/postgres/pgtest"
)

// outline is what a schema consists of, one line a thing.
const outline = `
SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) AS line FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'goose_db_version'
UNION ALL SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conname NOT LIKE 'goose%'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'goose_db_version'
UNION ALL SELECT format('trigger %s %s %s', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT format('function %s', oid::regprocedure) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
UNION ALL SELECT format('privilege %s %s %s', grantee, table_name, privilege_type) FROM information_schema.table_privileges WHERE table_schema = 'public' AND grantee LIKE 'chartgate\_%'
UNION ALL SELECT format('privilege %s %s.%s %s', grantee, table_name, column_name, privilege_type) FROM information_schema.column_privileges WHERE table_schema = 'public' AND grantee LIKE 'chartgate\_%'
ORDER BY 1`

// Each migration can be taken back and put on again, one step at a time and
// all together, and leaves the same schema.
func TestMigrationsUpDownAndUpAgain(t *testing.T) {
	url := pgtest.EmptyURL(t)
	version, err := postgres.Migrate(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := postgres.SchemaVersion(); err != nil || version != want {
		t.Fatalf("migrated to version %d, the newest is %d (%v)", version, want, err)
	}
	s := store{pgtest.PoolAs(t, url, ""), t}
	first := s.texts(outline)
	provider := provider(t, url)
	steps := len(provider.ListSources())

	for range steps {
		if _, err := provider.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		down := s.texts(outline)
		if slices.Equal(down, first) {
			t.Error("taking a migration back changed nothing")
		}
		if _, err := provider.UpByOne(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(down, s.texts(outline)); diff != "" {
			t.Errorf("down, up and down is not the same as down:\n%s", diff)
		}
	}
	if left := s.texts(outline); len(left) > 0 {
		t.Errorf("after taking all back there is left: %s", strings.Join(left, "\n"))
	}
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, s.texts(outline)); diff != "" {
		t.Errorf("the schema is another one the second time:\n%s", diff)
	}
}

func provider(t *testing.T, url string) *goose.Provider {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"))
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// Two that start at once take turns, and both find the schema there.
func TestMigrateTwiceAtOnce(t *testing.T) {
	url := pgtest.EmptyURL(t)
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			if _, err := postgres.Migrate(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func TestCheckSchemaSaysWhatToDo(t *testing.T) {
	url := pgtest.EmptyURL(t)
	pool := pgtest.PoolAs(t, url, "")
	wantHint := func(when string) {
		t.Helper()
		if err := postgres.CheckSchema(t.Context(), pool); err == nil || !strings.Contains(err.Error(), "chartgate migrate") {
			t.Errorf("%s: got %v, want an error that names 'chartgate migrate'", when, err)
		}
	}
	wantHint("no schema")
	if _, err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"", postgres.RoleSidecar, postgres.RoleControl} {
		if err := postgres.CheckSchema(t.Context(), pgtest.PoolAs(t, url, role)); err != nil {
			t.Errorf("as %q: %v", role, err)
		}
	}
	if _, err := provider(t, url).Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantHint("old schema")
}

// The digest names the migrations' text: a test template of one schema is not
// taken for that of another.
func TestSchemaDigestIsStable(t *testing.T) {
	files, err := fs.Glob(os.DirFS("migrations"), "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if a, b := postgres.SchemaDigest(), postgres.SchemaDigest(); a != b || len(a) != 16 {
		t.Errorf("digests %q and %q", a, b)
	}
}

func TestOpenNamesTheRoleThatCannotBeTaken(t *testing.T) {
	url := pgtest.URL(t)
	_, err := postgres.Open(context.Background(), url, "chartgate_nobody", 1)
	if err == nil || !strings.Contains(err.Error(), "GRANT chartgate_nobody TO") {
		t.Errorf("got %v, want an error that says what to grant", err)
	}
	if _, err := postgres.Open(context.Background(), "postgres://[", "", 1); err == nil || !strings.Contains(err.Error(), "DATABASE_URL") {
		t.Errorf("got %v, want an error that names DATABASE_URL", err)
	}
}
