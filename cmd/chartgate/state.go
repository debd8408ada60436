package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"chartgate/internal/embedded"
	"chartgate/internal/pdp"
	"chartgate/internal/release"
)

// database is the name of ours in the private Postgres.
const database = "chartgate"

// stateFolder is the folder that everything of a run is kept in:
//
//	lock          held by the process that uses it
//	api-key       the key that was made for development
//	postgres/     the private database, and postgres.log beside it
//	policy-signing-key.pem, policy-key.pem   what releases of the policy are signed with here, and its public half
//	spool/        decisions on their way to the database
//	policy/       the last known good release of the policy
type stateFolder struct {
	path string
	lock *embedded.Locked
}

// errAlreadyRunning: another process uses the state folder.
var errAlreadyRunning = errors.New("chartgate is already running there")

// openState makes the folder where it is missing, and holds it.
func openState(path string) (*stateFolder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755 // the database's user passes through it
	}
	if err := os.MkdirAll(path, mode); err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	lock, err := embedded.Lock(path)
	if errors.Is(err, embedded.ErrInUse) {
		return nil, fmt.Errorf("--state-dir: %w: %w: stop it, or choose another folder", err, errAlreadyRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	return &stateFolder{path: path, lock: lock}, nil
}

func (s *stateFolder) close() { s.lock.Unlock() }

func postgresDir(state string) string { return filepath.Join(state, "postgres") }

// startPostgres starts the private server and returns it with the address of
// our database, which is made where it is missing.
func (s *stateFolder) startPostgres(ctx context.Context) (*embedded.Postgres, string, error) {
	server, err := embedded.StartPostgres(ctx, embedded.PostgresOptions{Dir: postgresDir(s.path)})
	if err != nil {
		return nil, "", fmt.Errorf("private Postgres (--state-dir, or set DATABASE_URL): %w", err)
	}
	if err := createDatabase(ctx, server.URL("postgres")); err != nil {
		return nil, "", errors.Join(fmt.Errorf("private Postgres: make database: %w", err), server.Stop())
	}
	return server, server.URL(database), nil
}

func createDatabase(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{database}.Sanitize())
	return err
}

// apiKey returns the key of this folder. The first time it makes one.
func (s *stateFolder) apiKey() (string, error) {
	path := filepath.Join(s.path, "api-key")
	text, err := os.ReadFile(path)
	if err == nil {
		if err := os.Chmod(path, 0o600); err != nil {
			return "", fmt.Errorf("key: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("key: %w", err)
	}
	key := "dev_" + strings.ToLower(rand.Text()+rand.Text())
	if err := writeWhole(path, []byte(key+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return key, nil
}

// writeWhole writes beside and moves, so that a kill leaves no half of a file.
func writeWhole(path string, text []byte, mode fs.FileMode) error {
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// signer returns what releases of the policy are signed with in this folder, and
// what they are verified with. The first time it makes a key.
func (s *stateFolder) signer() (*release.Signer, *pdp.Keys, error) {
	signer, err := s.signingKey()
	if err != nil {
		return nil, nil, err
	}
	public, err := signer.Public()
	if err != nil {
		return nil, nil, err
	}
	keys, err := pdp.ReadKeys(public)
	return signer, keys, err
}

func (s *stateFolder) signingKey() (*release.Signer, error) {
	path := filepath.Join(s.path, "policy-signing-key.pem")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var signer *release.Signer
		if signer, err = release.NewSigner(); err == nil {
			err = writeKeys(signer, path, filepath.Join(s.path, "policy-key.pem"))
		}
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		return signer, nil
	}
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	signer, err := release.ReadSigner(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}

// writeKeys writes both halves of a key, the private one for its owner only.
func writeKeys(signer *release.Signer, private, public string) error {
	for path, half := range map[string]func() ([]byte, error){public: signer.Public, private: signer.Private} {
		text, err := half()
		if err != nil {
			return err
		}
		if err := writeWhole(path, text, map[bool]fs.FileMode{true: 0o600, false: 0o644}[path == private]); err != nil {
			return err
		}
	}
	return nil
}
