package release

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"chartgate/internal/authz"
	"chartgate/internal/pdp"

	"github.com/jackc/pgx/v5"
)

// maxEngines bounds the engines that are kept ready.
const maxEngines = 4

// Querier is a transaction, or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Engines are the policies by which control decides about its own changes:
// always the one that is active in the transaction of the change. What cannot be
// loaded is an error, never another policy (promise P1).
type Engines struct {
	shipped *pdp.Engine

	mu     sync.Mutex
	loaded map[string]*pdp.Engine // by content
}

// NewEngines returns engines beside the shipped one, which decides while no
// release is active.
func NewEngines(shipped *pdp.Engine) *Engines {
	return &Engines{shipped: shipped, loaded: map[string]*pdp.Engine{}}
}

// In returns the policy that is active where q reads. With hold, q is a
// transaction that may write, and the policy stays active until that ends.
func (e *Engines) In(ctx context.Context, q Querier, hold bool) (*pdp.Engine, error) {
	var release, content string
	statement := selectDecides
	if hold {
		statement = holdDecides
	}
	err := q.QueryRow(ctx, statement).Scan(&release, &content)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return e.shipped, nil
	case err != nil:
		return nil, fmt.Errorf("%w: which policy is active: %w", authz.ErrUnavailable, err)
	case content == e.shipped.Revision():
		return e.shipped, nil
	}
	e.mu.Lock()
	engine, ok := e.loaded[content]
	e.mu.Unlock()
	if ok {
		return engine, nil
	}
	if engine, err = load(ctx, q, release, content); err != nil {
		return nil, fmt.Errorf("%w: policy %s of release %s: %w", authz.ErrUnavailable, content, release, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.loaded) >= maxEngines {
		clear(e.loaded)
	}
	e.loaded[content] = engine
	return engine, nil
}

// load compiles a release's bundle, which must be what it is said to be.
func load(ctx context.Context, q Querier, release, content string) (*pdp.Engine, error) {
	var raw []byte
	if err := q.QueryRow(ctx, selectBundle, release).Scan(&raw); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return loadBundle(ctx, raw, content)
}

func loadBundle(ctx context.Context, raw []byte, content string) (*pdp.Engine, error) {
	files, err := contentOf(raw)
	if err != nil {
		return nil, err
	}
	if files != content {
		return nil, fmt.Errorf("the bundle's files are %s", files)
	}
	b, err := pdp.ReadArchive(raw)
	if err != nil {
		return nil, err
	}
	return pdp.NewChecked(ctx, b)
}
