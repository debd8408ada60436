package postgres

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // goose speaks database/sql
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema of the database at url up to date and returns its
// version. Two that run at once take turns. The login must own the database
// and may need CREATEROLE the first time.
func Migrate(ctx context.Context, url string) (int64, error) {
	db, err := sql.Open("pgx", url)
	if err != nil {
		return 0, fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return 0, err
	}
	provider, err := newProvider(db, goose.WithSessionLocker(locker))
	if err != nil {
		return 0, err
	}
	if _, err := provider.Up(ctx); err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	return provider.GetDBVersion(ctx)
}

func newProvider(db *sql.DB, options ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, options...)
}

// SchemaVersion is the version that this build needs: its newest migration.
func SchemaVersion() (int64, error) {
	sources, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, source := range sources {
		version, err := goose.NumericComponent(source)
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}

// SchemaDigest names the schema that this build's migrations make: two builds
// with the same digest have the same one.
func SchemaDigest() string {
	digest := sha256.New()
	names, _ := fs.Glob(migrations, "migrations/*.sql") // the only error is a bad pattern
	for _, name := range names {
		text, _ := migrations.ReadFile(name) // embedded: it is there
		digest.Write(text)
	}
	return hex.EncodeToString(digest.Sum(nil)[:8])
}

// CheckSchema returns an error that says what to do when the database's schema
// is older than this build needs. A newer one is accepted: migrations only add.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	want, err := SchemaVersion()
	if err != nil {
		return err
	}
	var have int64
	if err := pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&have); err != nil {
		return fmt.Errorf("the database has no schema of Chartgate: run 'chartgate migrate' first: %w", err)
	}
	if have < want {
		return fmt.Errorf("the database's schema is version %d, this build needs %d: run 'chartgate migrate' first", have, want)
	}
	return nil
}

// SetPassword lets role log in with password.
func SetPassword(ctx context.Context, url, role, password string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// ALTER ROLE takes no parameters: the server itself quotes them.
	var statement string
	if err := conn.QueryRow(ctx, `SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)`, role, password).Scan(&statement); err != nil {
		return fmt.Errorf("set password of %s: %w", role, err)
	}
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("set password of %s: %w", role, err)
	}
	return nil
}
