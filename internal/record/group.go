package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"

	"github.com/google/uuid"
)

// A segment is a file of records: a header and groups. What a group holds
// became durable together. Numbers are little-endian.
//
//	segment header, 64 bytes
//	0   "CGRECORD"
//	8   version     2 bytes, then 6 of zero
//	16  spool       16 bytes, whose folder it was written in
//	32  chain       16 bytes, zero in an export
//	48  first       8 bytes, the sequence number of the first decision
//	56  checksum    4 bytes, CRC-32C of what is before; then 4 of zero
//
//	group header, 32 bytes
//	0   "CGgr"
//	4   kind        1 byte, then 3 of zero
//	8   length      4 bytes, of what follows the header
//	12  count       4 bytes, of records in it
//	16  first       8 bytes, the sequence number of the first of them
//	24  checksum    4 bytes, CRC-32C of the header before it and of what follows; then 4 of zero
//
// Each record in a group is a length of four bytes and a body, or what makes one
// out of the last whole one before it (alike.go). The records of a group of
// settings are their digest and their JSON; they have no numbers of their own,
// and stand before the first decision of their segment that rests on them. A
// group of kind end is the last of its chain: it was closed in order.
const (
	segmentVersion  = 1
	segmentSize     = 64
	groupSize       = 32
	recordHead      = 4
	maxGroupPayload = 64 << 20
)

// Kinds of groups.
const (
	groupDecisions = 1
	groupSettings  = 2
	groupEnd       = 3
)

var (
	segmentMagic = []byte("CGRECORD")
	groupMagic   = []byte("CGgr")
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// segmentHead says what a segment belongs to.
type segmentHead struct {
	spool, chain uuid.UUID
	first        uint64
}

func (h segmentHead) append(b []byte) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = append(b, segmentVersion, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, h.spool[:]...)
	b = append(b, h.chain[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, 0, 0, 0, 0)
}

func readSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < segmentSize || !bytes.Equal(b[:8], segmentMagic) {
		return segmentHead{}, errors.New("not a file of Chartgate's record")
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != segmentVersion {
		return segmentHead{}, fmt.Errorf("a record of version %d; this build knows %d", v, segmentVersion)
	}
	if binary.LittleEndian.Uint32(b[56:]) != crc32.Checksum(b[:56], castagnoli) {
		return segmentHead{}, errors.New("the header of a record file is damaged")
	}
	return segmentHead{uuid.UUID(b[16:32]), uuid.UUID(b[32:48]), binary.LittleEndian.Uint64(b[48:])}, nil
}

// group is one group as it was read; payload points into the buffer it was
// read from.
type group struct {
	kind    byte
	count   uint32
	first   uint64
	payload []byte
}

// size is the length of the group in its file.
func (g group) size() int64 { return groupSize + int64(len(g.payload)) }

// sealGroup fills in the header of the group that b is: 32 bytes kept free,
// then its records.
func sealGroup(b []byte, kind byte, count uint32, first uint64) {
	copy(b, groupMagic)
	b[4], b[5], b[6], b[7] = kind, 0, 0, 0
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-groupSize))
	binary.LittleEndian.PutUint32(b[12:], count)
	binary.LittleEndian.PutUint64(b[16:], first)
	binary.LittleEndian.PutUint32(b[24:], groupSum(b))
	binary.LittleEndian.PutUint32(b[28:], 0)
}

func groupSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:24], castagnoli), castagnoli, b[groupSize:])
}

var (
	errShort  = errors.New("the group is cut off")
	errDamage = errors.New("the group is damaged")
)

// readGroup reads the group at the start of b. errShort means that b ends
// within it, if it is one; errDamage that it is none.
func readGroup(b []byte) (group, error) {
	if len(b) < groupSize {
		return group{}, errShort
	}
	length := binary.LittleEndian.Uint32(b[8:])
	if !bytes.Equal(b[:4], groupMagic) || length > maxGroupPayload {
		return group{}, errDamage
	}
	if len(b) < groupSize+int(length) {
		return group{}, errShort
	}
	whole := b[:groupSize+int(length)]
	if binary.LittleEndian.Uint32(b[24:]) != groupSum(whole) {
		return group{}, errDamage
	}
	return group{b[4], binary.LittleEndian.Uint32(b[12:]), binary.LittleEndian.Uint64(b[16:]), whole[groupSize:]}, nil
}

// nextGroup finds the next whole group in b after its start, or -1.
func nextGroup(b []byte) int {
	for at := 1; at < len(b); {
		i := bytes.Index(b[at:], groupMagic)
		if i < 0 {
			return -1
		}
		at += i
		if _, err := readGroup(b[at:]); err == nil {
			return at
		}
		at++
	}
	return -1
}

// records yields the records of a group with their sequence numbers; each holds
// until the next one. A group whose checksum holds and whose records do not fill
// it yields fewer.
func (g group) records() iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		var unread unread
		unread.begin(g)
		for seq := g.first; unread.left > 0; seq++ {
			if record, ok := unread.next(); !ok || !yield(seq, record) {
				return
			}
		}
	}
}

// unread is what of a group was not read yet.
type unread struct {
	b     []byte
	left  uint32
	alike bool   // its records may be made out of others
	whole []byte // the last that was not
	made  []byte // the last that was
}

func (u *unread) begin(g group) {
	*u = unread{b: g.payload, left: g.count, alike: g.kind == groupDecisions, made: u.made}
}

// next returns the next record, which holds until the call after. It reports
// false where there is none, though there should be.
func (u *unread) next() (record []byte, ok bool) {
	if len(u.b) < recordHead {
		return nil, false
	}
	n := int(binary.LittleEndian.Uint32(u.b))
	if n > len(u.b)-recordHead {
		return nil, false
	}
	record = u.b[recordHead : recordHead+n : recordHead+n]
	if u.alike && n > 0 && record[0] == bodyAlike {
		if u.made, ok = appendAlike(u.made[:0], record, u.whole); !ok {
			return nil, false
		}
		record = u.made
	} else {
		u.whole = record
	}
	u.b, u.left = u.b[recordHead+n:], u.left-1
	return record, true
}

// appendRecord appends a record: keep four bytes, let write append the body.
func appendRecord(b []byte, write func([]byte) ([]byte, error)) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b, err := write(b)
	if err != nil {
		return b[:start], err
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-recordHead))
	return b, nil
}
