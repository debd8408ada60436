package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Key names what a change touched; see migration 2.
type Key struct{ Kind, A, B string }

// Kinds of keys.
const (
	KindAll      = "all"
	KindClient   = "client"   // A = client
	KindMember   = "member"   // A = practice, B = user
	KindGrant    = "grant"    // A = client, B = user
	KindSettings = "settings" // A = practice
	KindPortal   = "portal"   // A = client, B = portal login
	KindRelease  = "release"  // the activation of a policy
)

// Touch is one row of the feed: transaction Xid wrote something under Key.
type Touch struct {
	Key Key
	Xid uint64
}

// News is what one poll heard.
type News struct {
	Number  uint64 // of the poll; rises by one
	All     bool   // everything may have changed: drop what is remembered
	Touches []Touch
	State   *State // what will be published when every listener has applied the news
}

// State is what the last complete poll established. It is immutable.
type State struct {
	Number   uint64
	Began    time.Duration // on the follower's clock, before the poll was sent
	Ended    time.Duration // on the follower's clock, after its answer came
	Primary  time.Time     // the primary's clock at a moment between the two
	Snapshot Snapshot
	Token    string // revision token of Snapshot
	Identity string // of the server: system, timeline, start, deployment
}

// Listener applies news to what it remembers. An error means that it could not:
// the poll does not count, and the lease runs out.
type Listener func(ctx context.Context, news News) error

// beginning is the position before everything.
var beginning = Snapshot{xmin: 3, xmax: 3}

// Follower follows the change feed: woken by NOTIFY, kept honest by a poll.
// Run must be running for the lease to live.
type Follower struct {
	pool       *pgxpool.Pool
	deployment *Deployment
	lease      time.Duration
	interval   time.Duration
	clock      Clock
	listeners  []Listener
	window     *window

	missed  bool // polls only: changes may have been made that the feed does not tell
	state   atomic.Pointer[State]
	started atomic.Uint64 // polls begun
	failure atomic.Pointer[string]
	wake    chan struct{}
}

// Options of a Follower; the zero value is the default.
type Options struct {
	Lease time.Duration // 0: MaxLease
	Poll  time.Duration // 0: a fifth of the lease
	Clock Clock         // nil: BootTime
}

// NewFollower returns a Follower of the feed in pool, which must lead to the
// primary. Listeners are called in order, by one poll at a time.
func NewFollower(pool *pgxpool.Pool, d *Deployment, o Options, listeners ...Listener) (*Follower, error) {
	if o.Lease == 0 {
		o.Lease = MaxLease
	}
	if o.Poll == 0 {
		o.Poll = o.Lease / 5
	}
	if o.Clock == nil {
		o.Clock = BootTime
	}
	if err := CheckLease(o.Lease, o.Poll); err != nil {
		return nil, err
	}
	return &Follower{pool: pool, deployment: d, lease: o.Lease, interval: o.Poll, clock: o.Clock, listeners: listeners,
		window: newWindow(), wake: make(chan struct{}, 1)}, nil
}

// Live returns the state of the last complete poll if its lease is live now,
// else nil. Take it first and read what is remembered after it: a poll that
// completes meanwhile only makes memory fresher than the state says.
func (f *Follower) Live() *State {
	_, s := f.Moment()
	return s
}

// Moment is Live and Now in one: the clock is read once.
func (f *Follower) Moment() (now time.Duration, live *State) {
	s := f.state.Load()
	now = f.clock()
	if s == nil || (leaseEnds && now-s.Began >= f.lease) {
		return now, nil
	}
	return now, s
}

// Now returns the present clock of the follower.
func (f *Follower) Now() time.Duration { return f.clock() }

// Lease returns how long a poll counts.
func (f *Follower) Lease() time.Duration { return f.lease }

// Started returns how many polls have begun. A poll with a higher number
// begins, and takes its snapshot, after this call.
func (f *Follower) Started() uint64 { return f.started.Load() }

// Age returns how old the lease is, and why it is not renewed ("" if it is).
// The age is -1 before the first complete poll.
func (f *Follower) Age() (time.Duration, string) {
	why := ""
	if p := f.failure.Load(); p != nil {
		why = *p
	}
	s := f.state.Load()
	if s == nil {
		return -1, why
	}
	return f.clock() - s.Began, why
}

// Bounds returns between which two moments the primary's clock stands now, as
// s knows: by the time that the follower's clock counted since the poll.
func (s *State) Bounds(now time.Duration) (lower, upper time.Time) {
	return s.Primary.Add(max(0, now-s.Ended)), s.Primary.Add(max(0, now-s.Began))
}

// Run polls until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	go f.listen(ctx)
	for ctx.Err() == nil {
		if err := f.Poll(ctx); err != nil && ctx.Err() == nil {
			f.failed(ctx, err)
		}
		timer := time.NewTimer(f.interval)
		select {
		case <-timer.C:
		case <-f.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// failed tells why the lease is not renewed, once for each reason.
func (f *Follower) failed(ctx context.Context, err error) {
	text := err.Error()
	if old := f.failure.Swap(&text); old == nil || *old != text {
		slog.WarnContext(ctx, "the change feed cannot be followed; facts come from Postgres", "error", err)
	}
}

// errOtherHistory ends a lease at once: what is remembered is of another
// history of the database than the one that answers now.
var errOtherHistory = errors.New("the database is another one, or went back")

// errUnfed is a feed that may not tell of every change. What is remembered is
// dropped once it can be followed again.
var errUnfed = errors.New("poll the feed")

// Poll asks once and applies what it hears. The state is published only after
// every listener has applied the news, and counts from before the poll began.
func (f *Follower) Poll(ctx context.Context) error {
	last := f.state.Load()
	number := f.started.Add(1)
	began := f.clock()
	ctx, cancel := context.WithTimeout(ctx, 4*f.lease)
	defer cancel()
	previous := beginning
	if last != nil {
		previous = last.Snapshot
	}
	answer, err := f.ask(ctx, previous)
	if errors.Is(err, errUnfed) {
		f.missed = true
		f.state.Store(nil)
	}
	if err != nil {
		return err
	}
	next := &State{Number: number, Began: began, Ended: f.clock(), Primary: answer.primary,
		Snapshot: answer.snapshot, Token: f.deployment.Token(answer.snapshot), Identity: answer.identity}
	news := News{Number: number, Touches: answer.touches, State: next}
	whole := !answer.tooMany // whether the touches are all that happened since the last poll
	switch {
	case last == nil:
		news.All, whole = true, whole && !f.missed
	case last.Identity != next.Identity, !next.Snapshot.AtLeast(last.Snapshot):
		f.state.Store(nil) // the lease ends before anything else
		news.All, whole = true, false
		err = errOtherHistory
	case last.Snapshot.xmin < answer.low, !whole:
		news.All, whole = true, false
	}
	switch {
	case !whole:
		f.window.restart(next.Snapshot.xmax, nil)
	case last == nil:
		f.window.restart(answer.low, answer.touches)
	default:
		f.window.add(next.Snapshot.xmax, answer.touches)
	}
	for _, apply := range f.listeners {
		if err := apply(ctx, news); err != nil {
			f.state.Store(nil) // half applied: only a whole flush makes it whole again
			return fmt.Errorf("apply news: %w", err)
		}
	}
	f.state.Store(next)
	f.failure.Store(nil)
	f.missed = false
	if err != nil {
		slog.WarnContext(ctx, "everything remembered was dropped", "error", err)
	}
	return nil
}

// answer is what one poll brought.
type answer struct {
	snapshot Snapshot
	primary  time.Time
	identity string
	low      uint64
	touches  []Touch
	tooMany  bool
}

func (f *Follower) ask(ctx context.Context, last Snapshot) (answer, error) {
	var (
		out                 answer
		snapshot, low       string
		recovering          bool
		triggers            int
		kinds, as, bs, xids []string
	)
	err := f.pool.QueryRow(ctx, selectNews, last.String(), last.Oldest()).
		Scan(&snapshot, &out.primary, &recovering, &out.identity, &low, &triggers, &kinds, &as, &bs, &xids)
	if err != nil {
		return answer{}, fmt.Errorf("poll the feed: %w", err)
	}
	if recovering {
		return answer{}, fmt.Errorf("%w: the database is a replica; facts are read from the primary only", errUnfed)
	}
	if triggers != feedTriggers {
		return answer{}, fmt.Errorf("%w: %d of %d triggers stand; run 'chartgate migrate', and look who disabled them", errUnfed, triggers, feedTriggers)
	}
	if out.snapshot, err = ParseSnapshot(snapshot); err != nil {
		return answer{}, fmt.Errorf("poll the feed: %w", err)
	}
	if out.low, err = strconv.ParseUint(low, 10, 64); err != nil {
		return answer{}, fmt.Errorf("poll the feed: low-water mark: %w", err)
	}
	out.tooMany = len(kinds) > maxRows
	for i := range kinds {
		xid, err := strconv.ParseUint(xids[i], 10, 64)
		if err != nil {
			return answer{}, fmt.Errorf("poll the feed: xid: %w", err)
		}
		out.touches = append(out.touches, Touch{Key: Key{kinds[i], as[i], bs[i]}, Xid: xid})
	}
	return out, nil
}

// listen wakes the poll when a change commits. It only makes things quick: what
// it misses, the next poll hears.
func (f *Follower) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := f.listenOnce(ctx); err != nil && ctx.Err() == nil {
			select {
			case <-time.After(f.interval):
			case <-ctx.Done():
			}
		}
	}
}

func (f *Follower) listenOnce(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, f.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(ctx, `LISTEN chartgate_feed`); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}
