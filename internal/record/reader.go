package record

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// reader reads the groups of a part, segment by segment, in order.
type reader struct {
	folder string
	limit  func() position // up to where whole groups stand; nil: to the end of every file
	damage func(damaged)   // told of what cannot be read; reading goes on behind it

	f     *os.File
	path  string
	first uint64 // names the segment that is open
	head  segmentHead
	sized bool  // size and last hold for good: nobody writes to it, or what comes is not for this reader
	size  int64 // of the file
	last  bool  // no segment comes after it
	off   int64 // where the next group begins
	buf   []byte
	from  int64 // what of the file buf holds: from here
	after uint64
}

// damaged is a stretch of a segment that holds no whole group.
type damaged struct {
	path   string
	offset int64
	size   int64
	torn   bool // the end of the last segment: a group that was being written
	empty  bool // the same, and nothing was being written: only room for more
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// next returns the next group, or io.EOF when there is none yet. The group
// points into a buffer that the next call overwrites.
func (r *reader) next() (group, error) {
	for {
		if r.f == nil {
			if err := r.open(); err != nil {
				return group{}, err
			}
		}
		end, last, err := r.end()
		if err != nil {
			return group{}, err
		}
		g, err := r.groupBefore(end)
		switch {
		case err == nil:
			r.off += g.size()
			return g, nil
		case r.off >= end:
			if last {
				return group{}, io.EOF
			}
			r.close()
			continue
		case !errors.Is(err, errShort) && !errors.Is(err, errDamage):
			return group{}, err
		}
		if err := r.skip(end, last); err != nil {
			return group{}, err
		}
	}
}

// open opens the segment after the one that was read.
func (r *reader) open() error {
	segments, err := segmentsOf(r.folder)
	if err != nil {
		return err
	}
	for _, s := range segments {
		if s.first < r.after || (r.limit != nil && s.first > r.limit().first) {
			continue
		}
		f, err := os.Open(s.path)
		if err != nil {
			return err
		}
		r.f, r.path, r.first, r.after = f, s.path, s.first, s.first+1
		r.off, r.from, r.buf, r.sized = segmentSize, 0, r.buf[:0], false
		head := make([]byte, segmentSize)
		n, err := io.ReadFull(f, head)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return err
		}
		if r.head, err = readSegmentHead(head[:n]); err != nil {
			r.off = 0 // its groups may be whole: they are looked for
		}
		return nil
	}
	return io.EOF
}

// end is the end of what may be read of the open segment, and whether it is
// the last one.
func (r *reader) end() (int64, bool, error) {
	if r.limit != nil {
		if limit := r.limit(); limit.first == r.first {
			return limit.offset, true, nil
		}
	}
	if r.sized {
		return r.size, r.last, nil
	}
	info, err := r.f.Stat()
	if err != nil {
		return 0, false, err
	}
	r.size, r.last = info.Size(), false
	if r.limit == nil {
		segments, err := segmentsOf(r.folder)
		if err != nil {
			return 0, false, err
		}
		r.last = len(segments) == 0 || segments[len(segments)-1].first == r.first
	}
	r.sized = true
	return r.size, r.last, nil
}

// groupBefore reads the group at off, which must end before end.
func (r *reader) groupBefore(end int64) (group, error) {
	for want := int64(1 << 20); ; want *= 4 {
		b, err := r.window(end, want)
		if err != nil {
			return group{}, err
		}
		g, err := readGroup(b)
		if errors.Is(err, errShort) && int64(len(b)) >= want && r.off+int64(len(b)) < end {
			continue
		}
		return g, err
	}
}

// window returns the bytes from off on: want of them, or up to end.
func (r *reader) window(end, want int64) ([]byte, error) {
	want = min(want, end-r.off)
	if want <= 0 {
		return nil, nil
	}
	if have := r.from + int64(len(r.buf)) - r.off; r.off >= r.from && (have >= want || have >= groupSize && r.holdsGroup(have)) {
		return r.buf[r.off-r.from:], nil
	}
	if int64(cap(r.buf)) < want {
		r.buf = make([]byte, want)
	}
	r.buf = r.buf[:want]
	n, err := r.f.ReadAt(r.buf, r.off)
	r.buf, r.from = r.buf[:n], r.off
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return r.buf, nil
}

// holdsGroup reports whether the buffer holds the whole group at off.
func (r *reader) holdsGroup(have int64) bool {
	at := r.off - r.from
	return groupSize+int64(binary.LittleEndian.Uint32(r.buf[at+8:])) <= have
}

// skip goes on behind what cannot be read: to the next whole group, or to the
// end of the segment.
func (r *reader) skip(end int64, last bool) error {
	rest, err := r.window(end, end-r.off)
	if err != nil {
		return err
	}
	d := damaged{path: r.path, offset: r.off, size: end - r.off}
	if at := nextGroup(rest); at >= 0 {
		d.size = int64(at)
	} else {
		d.torn, d.empty = last, blank(rest)
	}
	r.off += d.size
	if r.damage != nil && (last || !d.empty) {
		r.damage(d)
	}
	return nil
}

// blank reports whether b is room that was never written to.
func blank(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// left is what an earlier process left in a part.
type left struct {
	records int64
	bytes   int64
}

// repair cuts off a torn tail, so that the part ends with a whole group, and
// says how much there is. What is damaged before whole groups stays: the shipper
// goes on behind it and tells of the gap.
func repair(folder string, log *slog.Logger) (left, error) {
	segments, err := segmentsOf(folder)
	if err != nil || len(segments) == 0 {
		return left{}, err
	}
	var state left
	for _, s := range segments {
		info, err := os.Stat(s.path)
		if err != nil {
			return left{}, err
		}
		state.bytes += max(0, info.Size()-segmentSize)
	}
	last := segments[len(segments)-1]
	next := last.first
	var torn *damaged
	r := &reader{folder: folder, after: last.first, damage: func(d damaged) {
		if d.torn {
			torn = &d
			return
		}
		log.Error("the record's spool is damaged", "file", d.path, "offset", d.offset, "bytes", d.size)
	}}
	defer r.close()
	for {
		g, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return left{}, err
		}
		next = g.first + numbered(g)
	}
	state.records = int64(next - segments[0].first)
	if torn != nil {
		if !torn.empty {
			log.Warn("a group that was being written when the process ended is cut off", "file", torn.path, "offset", torn.offset, "bytes", torn.size)
		}
		if err := cut(torn); err != nil {
			return left{}, err
		}
		state.bytes = max(0, state.bytes-torn.size)
	}
	return state, nil
}

// numbered is how many sequence numbers g uses.
func numbered(g group) uint64 {
	if g.kind != groupDecisions {
		return 0
	}
	return uint64(g.count)
}

// cut takes a torn tail away, and the file with it if nothing stands before it.
func cut(d *damaged) error {
	if d.offset <= segmentSize {
		if err := os.Remove(d.path); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(d.path))
	}
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(d.offset), f.Sync(), f.Close())
}

// readMark returns the last sequence number that was certainly synced, 0 when
// that is not known.
func readMark(folder string) uint64 {
	b, err := os.ReadFile(filepath.Join(folder, markName))
	if err != nil || len(b) != markSize || binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], castagnoli) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[16:])
}
