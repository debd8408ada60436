package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"
	"chartgate/internal/feed"
	"chartgate/internal/pdp"
	"chartgate/internal/postgres"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	maxJobs   = 2                // steps that run at once
	stepTime  = 10 * time.Minute // for one step
	beatEvery = time.Second      // a step that runs says so
	beatEnds  = 30 * time.Second // after which one that has not is taken for dead
	maxDetail = 4 << 20          // bytes of what one step says
)

// jobs are the steps that run, of all calls together.
type jobs struct {
	ctx   context.Context
	stop  context.CancelFunc
	slots chan struct{}

	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

func newJobs() *jobs {
	j := &jobs{slots: make(chan struct{}, maxJobs)}
	j.ctx, j.stop = context.WithCancel(context.Background())
	return j
}

// Run owns the steps: when ctx ends it ends them, and waits for them. Meanwhile
// it certifies the releases that decide here, and compiles those of past moments.
func (s *Service) Run(ctx context.Context) error {
	var compiling sync.WaitGroup
	compiling.Go(func() { s.past.run(ctx, s.o.Certify) })
	defer compiling.Wait()
	if s.o.Certify != nil {
		s.engines.certifyAll(ctx, s.o.Certify)
	}
	<-ctx.Done()
	s.jobs.mu.Lock()
	s.jobs.ended = true
	s.jobs.mu.Unlock()
	s.jobs.stop()
	s.jobs.wg.Wait()
	return ctx.Err()
}

// take makes room for one more step; give it back with free.
func (j *jobs) take() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended {
		return fmt.Errorf("%w: control is stopping", authz.ErrUnavailable)
	}
	select {
	case j.slots <- struct{}{}:
		j.wg.Add(1)
		return nil
	default:
		return &authz.Problem{Kind: authz.ErrConflict, Type: "too-many-steps", Status: 429,
			Detail: fmt.Sprintf("%d steps run already: wait until one is done", maxJobs)}
	}
}

func (j *jobs) free() {
	<-j.slots
	j.wg.Done()
}

// Period is what a step that looks back looks at. Zero times leave it to the step.
type Period struct{ From, To time.Time }

// job is one step under way.
type job struct {
	*Service
	id, run     string
	step        Gate
	by          Person
	content     string
	done, total atomic.Int64
}

// Start runs a step on a draft and returns what is known of it so far; the
// channel is closed when it has ended (Step shows how). A step that runs already
// is not run twice.
func (s *Service) Start(ctx context.Context, by Person, id, name string, period Period) (Finished, <-chan struct{}, error) {
	step, err := s.step(name)
	if err != nil {
		return Finished{}, nil, err
	}
	if err := s.jobs.take(); err != nil {
		return Finished{}, nil, err
	}
	started := false
	defer func() {
		if !started {
			s.jobs.free()
		}
	}()
	j := &job{Service: s, id: id, run: uuid.NewString(), step: step, by: by}
	var begun, running Finished
	var source Source
	var active []byte
	verb := DoCheck
	if step.For == StateReviewed {
		verb = DoCompare
	}
	err = s.change(ctx, by, id, verb, nil, func(tx pgx.Tx, was *Release, t Transition) error {
		running = was.Evidence.Steps[name]
		if running.alive() {
			return nil
		}
		running = Finished{}
		var err error
		var against string
		if active, against, err = s.active(ctx, tx); err != nil {
			return err
		}
		if source, err = readSource(ctx, tx, id); err != nil {
			return err
		}
		now := time.Now().UTC().Truncate(time.Microsecond)
		j.content = was.Content
		begun = Finished{Outcome: Running, Content: was.Content, By: by.ID, StartedAt: now, Run: j.run, BeatAt: &now}
		if step.For == StateReviewed {
			begun.Against = against
		}
		was.Evidence.Steps[name] = begun
		return saveEvidence(ctx, tx, was, t.To)
	})
	switch {
	case err != nil:
		return Finished{}, nil, err
	case running.Outcome == Running:
		return running, make(chan struct{}), nil
	}
	started = true
	ended := make(chan struct{})
	go func() {
		defer s.jobs.free()
		defer close(ended)
		j.work(source, active, period)
	}()
	return begun, ended, nil
}

// alive reports whether a step runs somewhere.
func (f Finished) alive() bool {
	return f.Outcome == Running && f.BeatAt != nil && time.Since(*f.BeatAt) < beatEnds
}

func (s *Service) step(name string) (Gate, error) {
	for _, step := range s.o.Steps {
		if step.Name == name {
			return step, nil
		}
	}
	return Gate{}, noRelease()
}

// active is the bundle of the release that decides, and its content.
func (s *Service) active(ctx context.Context, tx pgx.Tx) ([]byte, string, error) {
	a, err := feed.ReadActivation(ctx, tx)
	if err != nil || a.Serial == 0 || a.Active.Content == s.shipped.Revision {
		return s.o.Shipped.Bundle, s.shipped.Revision, err
	}
	raw, err := readBundle(ctx, tx, a.Active.Name)
	return raw, a.Active.Content, err
}

func saveEvidence(ctx context.Context, tx pgx.Tx, r *Release, to State) error {
	text, err := json.Marshal(r.Evidence)
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	return exec(ctx, tx, "save evidence", updateEvidence, r.ID, text, to)
}

// work runs the step and keeps what it found.
func (j *job) work(source Source, active []byte, period Period) {
	ctx, cancel := context.WithTimeout(j.jobs.ctx, stepTime)
	defer cancel()
	beats := make(chan struct{})
	go func() { defer close(beats); j.beat(ctx, cancel) }()
	found, err := j.look(ctx, source, active, period)
	cancel()
	<-beats
	end := Finished{Outcome: found.Outcome, Summary: found.Summary}
	switch {
	case errors.Is(err, context.Canceled):
		end.Outcome, end.Summary = Failed, "it was interrupted: run it again"
	case errors.Is(err, context.DeadlineExceeded):
		end.Outcome, end.Summary = Failed, fmt.Sprintf("it took longer than %v", stepTime)
	case err != nil:
		end.Outcome, end.Summary = Failed, err.Error()
	case found.Detail != nil:
		if end.Detail, err = json.Marshal(found.Detail); err != nil || len(end.Detail) > maxDetail {
			end = Finished{Outcome: Failed, Summary: fmt.Sprintf("what it found is too much to keep: %d bytes", len(end.Detail))}
		}
	}
	finishing, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	if err := j.finish(finishing, end); err != nil {
		j.o.Log.Error("what a step found could not be kept", "release", j.id, "step", j.step.Name, "error", err)
	}
}

// look builds the draft and runs the step. What cannot be built is refused with
// the reason.
func (j *job) look(ctx context.Context, source Source, active []byte, period Period) (found Found, err error) {
	defer func() {
		if r := recover(); r != nil { // a policy that breaks a step must not end control
			found, err = Found{}, fmt.Errorf("the step broke: %v", r)
		}
	}()
	e := Examination{Pool: j.o.Pool, By: j.by.ID, Draft: j.id, From: period.From, To: period.To,
		Progress: func(done, total int64) { j.done.Store(done); j.total.Store(total) }}
	if e.Folder, err = source.Folder(); err != nil {
		return found, err
	}
	archive, content, err := source.build()
	if err == nil && content != j.content {
		err = errors.New("the draft changed meanwhile")
	}
	if err == nil {
		e.Bundle, err = pdp.ReadArchive(archive)
	}
	if err == nil {
		e.Engine, err = j.looks.load(ctx, archive, content)
	}
	if err != nil && j.step.Name != stepCheck { // which says more about it
		return Found{Outcome: Refused, Summary: err.Error()}, nil
	}
	if e.Active, err = pdp.ReadArchive(active); err != nil {
		return found, fmt.Errorf("active release: %w", err)
	}
	if e.Deciding, err = j.looks.load(ctx, active, e.Active.Revision); err != nil {
		return found, fmt.Errorf("active release: %w", err)
	}
	return j.step.Run(ctx, e)
}

// beat says every now and then that the step runs, and how far it is. It ends a
// step that is void: the draft was changed, or is gone.
func (j *job) beat(ctx context.Context, cancel func()) {
	ticks := time.NewTicker(beatEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		tag, err := j.o.Pool.Exec(ctx, updateBeat, j.id, j.step.Name, j.run, j.done.Load(), j.total.Load())
		if err == nil && tag.RowsAffected() == 0 {
			cancel()
		}
	}
}

// finish keeps what was found, unless the draft is another by now, and moves the
// draft on where that suffices.
func (j *job) finish(ctx context.Context, end Finished) error {
	return postgres.InTx(ctx, j.o.Pool, func(tx pgx.Tx) error {
		r, err := read(ctx, tx, lockRelease, j.id)
		if errors.Is(err, authz.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		begun := r.Evidence.Steps[j.step.Name]
		if begun.Run != j.run || r.Content != begun.Content {
			return nil
		}
		now := time.Now().UTC().Truncate(time.Microsecond)
		end.Content, end.Against, end.By, end.StartedAt, end.EndedAt = begun.Content, begun.Against, begun.By, begun.StartedAt, &now
		r.Evidence.Steps[j.step.Name] = end
		was, to := r.standing(), r.State
		for supported := r.Evidence.supports(r.Content, j.o.Steps); slices.Index(States, to) < slices.Index(States, supported); {
			t, err := next(to, map[State]Verb{StateDraft: DoVerify, StateVerified: DoReview}[to])
			if err != nil {
				return err
			}
			to = t.To
		}
		if err := saveEvidence(ctx, tx, r, to); err != nil {
			return err
		}
		r.State = to
		after := r.standing()
		after["outcome"], after["summary"] = end.Outcome, end.Summary
		return note(ctx, tx, j.by.ID, Verb(j.step.Name), was, after)
	})
}
