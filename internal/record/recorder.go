package record

import (
	"context"
	"fmt"
	"time"

	"chartgate/internal/authz"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maxGroup     = 1024 // decisions that one COPY may hold
	maxQueue     = 8192 // calls that may wait for their group
	writers      = 2    // groups on their way at once: one commits while the next is copied
	writeTimeout = 5 * time.Second
)

// Recorder writes decisions in groups: what arrives together becomes durable
// with one COPY. Run must be running for Record to return.
type Recorder struct {
	pool  *pgxpool.Pool
	queue chan call
}

type call struct {
	rows [][]any
	done chan error
}

// NewRecorder returns a Recorder that appends to the decisions of pool.
func NewRecorder(pool *pgxpool.Pool) *Recorder {
	return &Recorder{pool: pool, queue: make(chan call, maxQueue)}
}

// Record makes verdicts durable and then returns. Any error means that they
// may not be on record, so their answers must not leave (promise P3); it
// matches authz.ErrUnavailable.
func (r *Recorder) Record(ctx context.Context, verdicts ...authz.Verdict) error {
	c := call{rows: make([][]any, len(verdicts)), done: make(chan error, 1)}
	for i, v := range verdicts {
		values, err := row(v)
		if err != nil {
			return fmt.Errorf("%w: %w", authz.ErrUnavailable, err)
		}
		c.rows[i] = values
	}
	select {
	case r.queue <- c:
	default:
		return fmt.Errorf("%w: %d calls already wait for the record", authz.ErrUnavailable, maxQueue)
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: record decision: %w", authz.ErrUnavailable, ctx.Err())
	}
}

// Run writes until ctx ends, then writes what still waits and returns.
func (r *Recorder) Run(ctx context.Context) error {
	ended := make(chan struct{}, writers)
	for range writers {
		go func() {
			defer func() { ended <- struct{}{} }()
			r.write(ctx)
		}()
	}
	for range writers {
		<-ended
	}
	return nil
}

func (r *Recorder) write(ctx context.Context) {
	for {
		select {
		case first := <-r.queue:
			r.writeGroup(first)
		case <-ctx.Done():
			select {
			case first := <-r.queue:
				r.writeGroup(first)
			default:
				return
			}
		}
	}
}

// writeGroup copies first and whatever waits behind it. COPY is one statement:
// either all of the group is durable or nothing is.
func (r *Recorder) writeGroup(first call) {
	group, rows := []call{first}, first.rows
collect:
	for len(rows) < maxGroup {
		select {
		case c := <-r.queue:
			group, rows = append(group, c), append(rows, c.rows...)
		default:
			break collect
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	_, err := r.pool.CopyFrom(ctx, pgx.Identifier{"decisions"}, decisionColumns, pgx.CopyFromRows(rows))
	if err != nil {
		err = fmt.Errorf("%w: record decision: %w", authz.ErrUnavailable, err)
	}
	for _, c := range group {
		c.done <- err
	}
}
