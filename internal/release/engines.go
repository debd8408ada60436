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
	beside  *Engines // others, of which one that is loaded and certified need not be made again; may be nil

	mu     sync.Mutex
	loaded map[string]*pdp.Engine // by content
	fine   map[string]bool        // contents under which administrators can manage access
	raw    map[string]bool        // contents that nobody has tried to certify yet
	fresh  chan *pdp.Engine       // and their engines
}

// NewEngines returns engines beside the shipped one, which decides while no
// release is active.
func NewEngines(shipped *pdp.Engine) *Engines {
	return &Engines{shipped: shipped, loaded: map[string]*pdp.Engine{}, fine: map[string]bool{}, raw: map[string]bool{}, fresh: make(chan *pdp.Engine, maxEngines)}
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
	engine := e.known(content)
	if engine == nil {
		var raw []byte
		if err = q.QueryRow(ctx, selectBundle, release).Scan(&raw); err == nil {
			engine, err = e.load(ctx, raw, content)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: policy %s of release %s: %w", authz.ErrUnavailable, content, release, err)
	}
	return engine, nil
}

// known returns the engine of a content that was loaded before, else nil.
func (e *Engines) known(content string) *pdp.Engine {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loaded[content]
}

// load compiles a bundle, which must be what it is said to be and pass its own
// checks, and keeps it ready.
func (e *Engines) load(ctx context.Context, raw []byte, content string) (*pdp.Engine, error) {
	files, err := contentOf(raw)
	if err != nil {
		return nil, err
	}
	if files != content {
		return nil, fmt.Errorf("the bundle's files are %s", files)
	}
	if engine := e.known(content); engine != nil {
		return engine, nil
	}
	engine, err := e.make(ctx, raw, content)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.loaded) >= maxEngines {
		clear(e.loaded)
		clear(e.fine)
		clear(e.raw)
	}
	e.loaded[content] = engine
	if _, err := engine.Lists(); err == nil {
		return engine, nil // it is certified already
	}
	select {
	case e.fresh <- engine:
		e.raw[content] = true
	default: // it stays with OPA
	}
	return engine, nil
}

// make compiles a bundle, unless the same files were compiled before.
func (e *Engines) make(ctx context.Context, raw []byte, content string) (*pdp.Engine, error) {
	if content == e.shipped.Revision() {
		return e.shipped, nil
	}
	if e.beside != nil {
		if engine := e.beside.known(content); engine != nil {
			return engine, nil
		}
	}
	b, err := pdp.ReadArchive(raw)
	if err != nil {
		return nil, err
	}
	return pdp.NewChecked(ctx, b)
}

// certifyAll tries to certify what is loaded, until ctx ends: lists need the
// program, decisions are quicker by it.
func (e *Engines) certifyAll(ctx context.Context, certify func(context.Context, *pdp.Engine)) {
	for {
		select {
		case <-ctx.Done():
			return
		case engine := <-e.fresh:
			certify(ctx, engine)
			e.mu.Lock()
			delete(e.raw, engine.Revision())
			e.mu.Unlock()
		}
	}
}

// settled reports that no certification of this content is under way.
func (e *Engines) settled(content string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.raw[content]
}

// unmanageable is Unmanageable, which need not be asked twice of a policy that
// is fine.
func (e *Engines) unmanageable(ctx context.Context, engine *pdp.Engine) ([]string, error) {
	e.mu.Lock()
	fine := e.fine[engine.Revision()]
	e.mu.Unlock()
	if fine {
		return nil, nil
	}
	lost, err := Unmanageable(ctx, engine)
	if err == nil && len(lost) == 0 {
		e.mu.Lock()
		e.fine[engine.Revision()] = true
		e.mu.Unlock()
	}
	return lost, err
}
