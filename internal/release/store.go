package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/record"

	"github.com/jackc/pgx/v5"
)

// Release is a draft, or what became of one, without its source and bundle.
type Release struct {
	ID         string
	State      State
	Title      string
	Author     string
	MadeAt     time.Time
	Base       string // the release that was active when it was approved
	Version    int64  // rises with each edit
	Content    string // digest of what would decide; "" while it cannot be built
	Approver   string
	ApprovedAt *time.Time
	Revision   int64 // of its last signature; 0 before the first

	Evidence       Evidence
	EvidenceText   json.RawMessage // canonical
	EvidenceDigest string
}

func (r *Release) parts() []any {
	return []any{&r.ID, &r.State, &r.Title, &r.Author, &r.MadeAt, &r.Base, &r.Version, &r.Content, &r.Approver, &r.ApprovedAt, &r.Revision}
}

// read reads a release; statement is selectRelease or lockRelease.
func read(ctx context.Context, tx pgx.Tx, statement, id string) (*Release, error) {
	var r Release
	var text []byte
	err := tx.QueryRow(ctx, statement, id).Scan(append(r.parts(), &text)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noRelease()
	}
	if err != nil {
		return nil, fmt.Errorf("read release: %w", err)
	}
	return &r, r.readEvidence(text)
}

func (r *Release) readEvidence(text []byte) (err error) {
	if r.EvidenceText, err = Canonical(text); err != nil {
		return err
	}
	if r.EvidenceDigest, err = Digest(text); err != nil {
		return err
	}
	if err := json.Unmarshal(text, &r.Evidence); err != nil {
		return fmt.Errorf("read release %s: evidence: %w", r.ID, err)
	}
	return nil
}

func noRelease() error { return &authz.Problem{Kind: authz.ErrNotFound, Type: "not-found"} }

func readSource(ctx context.Context, tx pgx.Tx, id string) (Source, error) {
	var archive []byte
	err := tx.QueryRow(ctx, selectSource, id).Scan(&archive)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noRelease()
	}
	if err != nil {
		return nil, fmt.Errorf("read source of %s: %w", id, err)
	}
	return ReadSourceArchive(archive)
}

func readBundle(ctx context.Context, tx pgx.Tx, id string) ([]byte, error) {
	var raw []byte
	if err := tx.QueryRow(ctx, selectBundle, id).Scan(&raw); err != nil {
		return nil, fmt.Errorf("read bundle of %s: %w", id, err)
	}
	return raw, nil
}

// StageAll is the last stage of a candidate: it becomes the active release.
const StageAll = "all"

// lockActivation reads which release is active; nobody can change that until tx
// ends. A serial of 0 means that none is: the shipped bundle decides.
func lockActivation(ctx context.Context, tx pgx.Tx) (feed.Activation, error) {
	if _, err := tx.Exec(ctx, lockActivationRow); err != nil {
		return feed.Activation{}, fmt.Errorf("lock activation: %w", err)
	}
	return feed.ReadActivation(ctx, tx)
}

// note puts on record what a person, or control, did to a release.
func note(ctx context.Context, tx pgx.Tx, actor string, verb Verb, before, after map[string]any) error {
	c := record.Change{Actor: actor, Action: "policy." + string(verb)}
	if before != nil {
		c.Before = before
	}
	if after != nil {
		c.After = after
	}
	return record.AppendChange(ctx, tx, c)
}

// standing is a release as records of changes show it.
func (r *Release) standing() map[string]any {
	return map[string]any{"release": r.ID, "state": r.State, "version": r.Version, "content": r.Content}
}

func exec(ctx context.Context, tx pgx.Tx, what, statement string, args ...any) error {
	if _, err := tx.Exec(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
