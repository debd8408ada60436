package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"chartgate/internal/authz"

	"github.com/google/uuid"
)

// Options say how a spool keeps its records. The zero value syncs on every
// group and takes the ordinary sizes.
type Options struct {
	// SyncInterval is how much the loss of the whole host may cost; the death of
	// the process costs nothing. 0: each group is synced before its answers leave.
	SyncInterval time.Duration
	MaxBytes     int64  // what may wait for Postgres; beyond it Record refuses. 0: 1 GiB
	SegmentBytes int64  // size of a file. 0: 32 MiB
	Orphans      string // a folder whose subfolders are spools: those that nobody writes to are shipped as well
	Log          *slog.Logger

	create     func(path string) (file, error)
	adoptAfter time.Duration // how long an orphan must have rested; 0: a minute
}

const (
	defaultMaxBytes     = 1 << 30
	defaultSegmentBytes = 32 << 20
	maxGroupBytes       = 16 << 20 // what may wait for one write
)

// Spool keeps decisions in files of this host until a Shipper has brought them
// to Postgres. It belongs to one process.
type Spool struct {
	options Options
	folder  string
	lock    *os.File
	id      uuid.UUID // of the folder
	chain   uuid.UUID // of this process's records
	part    string    // folder of this process's records
	old     []oldPart // what earlier processes left, oldest first
	stats   Stats
	wake    chan struct{}         // something was written
	short   atomic.Pointer[error] // why a group could not be written, until one could again
	syncer  sync.WaitGroup
	ended   chan struct{}

	mu     sync.Mutex
	open   *pending // the group that Record joins now
	spare  []byte   // a buffer for the next one
	failed error    // why nothing is taken any more
	closed bool     // Close was called
	tail   position // up to where whole groups stand
	rolled []file   // full segments that are to be synced and closed
	mark   *os.File

	// Writing: held by the one group that is being written.
	writing sync.Mutex
	file    file
	at      position
	next    uint64
	known   map[settingsDigest]bool // settings that stand in this segment
}

// position is a place in the files of a part.
type position struct {
	first  uint64 // names the segment
	offset int64
}

// pending is a group that is being gathered.
type pending struct {
	b        []byte // its header's place, and its records
	count    uint32
	settings []settingsText
	done     chan struct{} // made by the first that waits
	err      error
}

type settingsText struct {
	digest settingsDigest
	text   []byte
}

// OpenSpool takes folder for this process, makes it if need be, repairs what an
// earlier process left torn, and begins a chain of its own. It fails if another
// process holds the folder or if nothing can be written there.
func OpenSpool(folder string, options Options) (*Spool, error) {
	s, err := openSpool(folder, options)
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", folder, err)
	}
	return s, nil
}

// ID names the spool: it stays the same for as long as its folder does.
func (s *Spool) ID() string { return s.id.String() }

func openSpool(folder string, options Options) (*Spool, error) {
	if options.SyncInterval < 0 || options.MaxBytes < 0 || options.SegmentBytes < 0 {
		return nil, errors.New("sizes and the sync interval cannot be negative")
	}
	if options.MaxBytes == 0 {
		options.MaxBytes = defaultMaxBytes
	}
	if options.SegmentBytes == 0 {
		options.SegmentBytes = defaultSegmentBytes
	}
	if options.Log == nil {
		options.Log = slog.Default()
	}
	if options.adoptAfter == 0 {
		options.adoptAfter = time.Minute
	}
	if options.create == nil {
		options.create = createFile
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(folder)
	if err != nil {
		return nil, err
	}
	s := &Spool{options: options, folder: folder, lock: lock, chain: uuid.New(), next: 1,
		wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if options.SyncInterval > 0 {
		s.syncer.Go(s.syncEvery)
	}
	return s, nil
}

// begin finds what earlier processes left and makes the first segment.
func (s *Spool) begin() error {
	var err error
	if s.id, err = spoolID(s.folder); err != nil {
		return err
	}
	if s.old, err = oldParts(s.folder, s.id, s.options.Log); err != nil {
		return err
	}
	number := 1
	for _, p := range s.old {
		s.stats.DepthRecords.Add(p.left.records)
		s.stats.DepthBytes.Add(p.left.bytes)
		number = p.number + 1
	}
	s.part = filepath.Join(s.folder, partName{number, s.chain}.String())
	if err := os.Mkdir(s.part, 0o700); err != nil {
		return err
	}
	if s.mark, err = os.OpenFile(filepath.Join(s.part, markName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := s.roll(); err != nil {
		return err
	}
	s.tail = s.at
	return errors.Join(s.file.Sync(), syncFolder(s.part), syncFolder(s.folder))
}

// oldPart is what an earlier process left.
type oldPart struct {
	partName
	folder string
	spool  uuid.UUID
	left   left
}

// oldParts repairs what stands in the folder of a spool that this process holds.
func oldParts(folder string, id uuid.UUID, log *slog.Logger) ([]oldPart, error) {
	names, err := partsOf(folder)
	if err != nil {
		return nil, err
	}
	var parts []oldPart
	for _, name := range names {
		p := oldPart{partName: name, folder: filepath.Join(folder, name.String()), spool: id}
		if p.left, err = repair(p.folder, log); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// Stats returns the spool's counters.
func (s *Spool) Stats() *Stats { return &s.stats }

// encoders hold the bodies of calls on their way.
var encoders = sync.Pool{New: func() any { return new(encoder) }}

// encoder is the records of one call.
type encoder struct {
	b        []byte // the place of a group's header, and the records
	settings []settingsText

	body, whole []byte // of the verdict at hand, and the last that was written whole
	wholeAt     parts
}

func (e *encoder) begin() {
	e.b = append(e.b[:0], make([]byte, groupSize)...)
	e.settings, e.whole = e.settings[:0], e.whole[:0]
}

func (e *encoder) add(v *authz.Verdict) error {
	var err error
	e.b, err = appendRecord(e.b, func(b []byte) ([]byte, error) { return e.record(b, v) })
	if err != nil || v.Facts.Settings == nil {
		return err
	}
	text, sum := v.Facts.Settings.JSON()
	e.settings = addSettings(e.settings, settingsText{settingsDigest(sum[:digestSize]), text})
	return nil
}

// record appends the body of v, or what makes it out of the last whole one.
func (e *encoder) record(b []byte, v *authz.Verdict) ([]byte, error) {
	var at parts
	var err error
	if e.body, at, err = appendParts(e.body[:0], v); err != nil {
		return b, err
	}
	start := len(b)
	if len(e.whole) > 0 {
		b = alike(b, e.body, at, e.whole, e.wholeAt)
	}
	if len(b) == start {
		b = append(b, e.body...)
		e.body, e.whole, e.wholeAt = e.whole, e.body, at
	}
	return b, nil
}

func addSettings(list []settingsText, s settingsText) []settingsText {
	for i := range list {
		if list[i].digest == s.digest {
			return list
		}
	}
	return append(list, s)
}

// Record makes verdicts durable and then returns: killing this process loses
// none of them. What waits for the disk together is one write. Any error means that they
// may not be on record, so their answers must not leave (promise P3); it
// matches authz.ErrUnavailable.
func (s *Spool) Record(ctx context.Context, verdicts ...authz.Verdict) error {
	if err := s.record(ctx, verdicts); err != nil {
		s.stats.Refused.Add(1)
		return fmt.Errorf("%w: record decision: %w", authz.ErrUnavailable, err)
	}
	return nil
}

func (s *Spool) record(ctx context.Context, verdicts []authz.Verdict) error {
	if len(verdicts) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e := encoders.Get().(*encoder)
	defer func() {
		if cap(e.b) <= 1<<20 {
			encoders.Put(e)
		}
	}()
	e.begin()
	for i := range verdicts {
		if err := e.add(&verdicts[i]); err != nil {
			return err
		}
	}
	if s.options.SyncInterval > 0 {
		return s.alone(e, len(verdicts))
	}
	g, leads, err := s.join(e, len(verdicts))
	if err != nil {
		return err
	}
	if leads {
		return s.lead(g)
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alone writes e as a group of its own. Where nobody waits for the disk that is
// less work than gathering one.
func (s *Spool) alone(e *encoder, count int) error {
	s.mu.Lock()
	err := s.refusal(len(e.b))
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.write(&pending{b: e.b, count: uint32(count), settings: e.settings})
}

// join adds e to the group that is gathered now. Who joins first leads: it
// writes the group, once the one before it is written.
func (s *Spool) join(e *encoder, count int) (g *pending, leads bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := e.b[groupSize:]
	if err := s.refusal(len(body)); err != nil {
		return nil, false, err
	}
	g = s.open
	if g == nil {
		g, leads = &pending{b: s.spare}, true
		s.open, s.spare = g, nil
		if g.b == nil {
			g.b = make([]byte, 0, 64<<10)
		}
		g.b = g.b[:groupSize]
	} else if g.done == nil {
		g.done = make(chan struct{})
	}
	g.b = append(g.b, body...)
	g.count += uint32(count)
	for _, text := range e.settings {
		g.settings = addSettings(g.settings, text)
	}
	return g, leads, nil
}

// refusal says why size more bytes cannot be taken. The caller holds mu.
func (s *Spool) refusal(size int) error {
	if s.failed != nil {
		return s.failed
	}
	waiting := int64(size)
	if s.open != nil {
		waiting += int64(len(s.open.b))
	}
	if waiting > maxGroupBytes {
		return errors.New("too much waits for the disk")
	}
	if depth := s.stats.DepthBytes.Load() + waiting; depth > s.options.MaxBytes {
		return fmt.Errorf("the spool holds %d bytes that are not in Postgres yet, at most %d may wait", depth, s.options.MaxBytes)
	}
	return nil
}
