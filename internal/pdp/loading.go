package pdp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"chartgate/internal/feed"
)

// loaded is a release that was verified, compiled and asked its own checks.
type loaded struct {
	engine  *Engine
	content string
	seals   map[int64][]byte // by revision of a signature over this content: the bundle that was verified
}

// maxHeld bounds the policies that are kept ready beside the shipped one, so
// that going back and forth costs no compilation.
const maxHeld = 4

// engine returns the engine of a release that is loaded; nil if it is not, or
// if there is none to load. The lock is held.
func (r *Releases) engine(of feed.Release) *Engine {
	if of == (feed.Release{}) {
		return nil
	}
	if of.Content == r.shipped.Revision() {
		return r.shipped
	}
	for i, l := range r.held {
		if _, sealed := l.seals[of.Revision]; sealed && l.content == of.Content {
			r.held = append(slices.Delete(r.held, i, i+1), l)
			return l.engine
		}
	}
	return nil
}

// flight is one attempt to load a release.
type flight struct {
	done chan struct{}
	at   time.Time // when it ended
	err  error
	last string // how the attempt before it failed
}

// loadLimit bounds one attempt, which no caller's context ends.
const loadLimit = 15 * time.Second

// await returns when the release is loaded. Where that takes longer than ctx, the
// attempt goes on without the caller.
func (r *Releases) await(ctx context.Context, release feed.Release) error {
	if release.Revision == 0 {
		return nil // before the first activation
	}
	r.mu.Lock()
	if r.engine(release) != nil {
		r.mu.Unlock()
		return nil
	}
	f := r.flights[release]
	if f == nil || !f.at.IsZero() && time.Since(f.at) >= retryEvery {
		for other, old := range r.flights { // failures that nobody asks about
			if !old.at.IsZero() && time.Since(old.at) > loadLimit {
				delete(r.flights, other)
			}
		}
		last := ""
		if f != nil {
			last = f.err.Error()
		}
		f = &flight{done: make(chan struct{}), last: last}
		r.flights[release] = f
		go r.fly(context.WithoutCancel(ctx), release, f)
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("release %s is being loaded", release.Name)
	}
}

func (r *Releases) fly(ctx context.Context, release feed.Release, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	err := r.load(ctx, release)
	if err != nil {
		err = fmt.Errorf("release %s, revision %d: %w", release.Name, release.Revision, err)
		if err.Error() != f.last {
			r.o.Log.ErrorContext(ctx, "a release of the policy cannot be loaded", "release", release.Name, "content", release.Content, "error", err, "cause", causeOf(err))
		}
	}
	r.mu.Lock()
	f.err, f.at = err, time.Now()
	if err == nil {
		delete(r.flights, release)
	}
	r.mu.Unlock()
	close(f.done)
	r.wake()
}

// load finds a release: on disk, else at control.
func (r *Releases) load(ctx context.Context, release feed.Release) error {
	if raw, err := r.kept(release); err == nil {
		if err = r.hold(ctx, release, raw); err == nil {
			return nil
		}
		r.o.Log.ErrorContext(ctx, "the bundle on disk is not taken", "release", release.Name, "error", err)
	}
	if r.o.Control == nil {
		return errors.New("it is not on disk, and there is no control to fetch it from: set --control-url")
	}
	raw, err := r.o.Control.bundle(ctx, release)
	if err == nil {
		err = r.hold(ctx, release, raw)
	}
	return err
}

// hold verifies a bundle, compiles it where no other signature over the same
// content was held, and keeps the engine. Nothing but the release that was asked
// for is taken, however well it is signed.
func (r *Releases) hold(ctx context.Context, release feed.Release, raw []byte) (err error) {
	defer func() {
		if err != nil {
			r.counts.Refused.Add(1)
		}
	}()
	b, seal, err := ReadSigned(raw, r.o.Keys, r.o.Deployment)
	if err != nil {
		return err
	}
	if seal.Release != release.Name || seal.Content != release.Content || seal.Revision != release.Revision {
		return fmt.Errorf("%w: it is release %s, revision %d, %s; asked for was release %s, revision %d, %s", ErrRefused,
			seal.Release, seal.Revision, seal.Content, release.Name, release.Revision, release.Content)
	}
	engine := r.ofContent(release.Content)
	if engine == nil {
		if engine, err = NewChecked(ctx, b); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		engine.counts, engine.shadow = r.shipped.counts, r.o.Shadow
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.held {
		if l.content == release.Content {
			l.seals[release.Revision] = raw
			r.forget()
			return nil
		}
	}
	r.held = append(r.held, &loaded{engine: engine, content: release.Content, seals: map[int64][]byte{release.Revision: raw}})
	r.forget()
	return nil
}

func (r *Releases) ofContent(content string) *Engine {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.held {
		if l.content == content {
			return l.engine
		}
	}
	return nil
}

// forget drops the policies that were not used for longest, and old signatures,
// but none that decides or is about to. The lock is held.
func (r *Releases) forget() {
	set := r.current.Load().activation
	used := []feed.Release{set.Active, set.Candidate, r.latest.Active, r.latest.Candidate}
	spare := len(r.held) - maxHeld
	r.held = slices.DeleteFunc(r.held, func(l *loaded) bool {
		for revision := range l.seals {
			if len(l.seals) > 1 && !slices.ContainsFunc(used, func(u feed.Release) bool { return u.Content == l.content && u.Revision == revision }) {
				delete(l.seals, revision)
			}
		}
		if spare <= 0 || slices.ContainsFunc(used, func(u feed.Release) bool { return u.Content == l.content }) {
			return false
		}
		spare--
		return true
	})
}
