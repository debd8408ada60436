package record

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// copyDecisions is COPY's binary form of decisions, in this order of columns.
const copyDecisions = `COPY decisions (chain, seq, hash, id, at, practice, subject_type, subject_id, action, resource_type, resource_id,
	client, allow, code, bases, release, body) FROM STDIN (FORMAT binary)`

const (
	decisionColumns = 17
	textOID         = 25
	postgresEpoch   = 946_684_800_000_000 // 2000-01-01 in microseconds since 1970
)

// copier writes rows as COPY reads them. All numbers are big-endian; each value
// follows its length, which is -1 for NULL.
type copier struct{ b []byte }

func (c *copier) begin() {
	c.b = append(c.b[:0], "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
}

func (c *copier) end() { c.int16(-1) }

// row writes a decision: its place in a chain, the columns to search by, and
// its body.
func (c *copier) row(chain uuid.UUID, seq uint64, link *hash, v *View, body []byte) {
	c.int16(decisionColumns)
	c.bytes(chain[:])
	c.int64(int64(seq))
	c.bytes(link[:])
	c.bytes(v.ID[:])
	c.int64(v.At - postgresEpoch)
	c.orNull(v.Practice)
	c.bytes(v.SubjectType)
	c.bytes(v.SubjectID)
	c.bytes(v.Action)
	c.bytes(v.ResourceType)
	c.bytes(v.ResourceID)
	c.orNull(v.Client())
	c.bool(v.Allow)
	c.bytes(v.Code)
	c.texts(v.Bases)
	c.bytes(v.Release)
	c.bytes(body)
}

func (c *copier) int16(n int16) { c.b = binary.BigEndian.AppendUint16(c.b, uint16(n)) }
func (c *copier) int32(n int32) { c.b = binary.BigEndian.AppendUint32(c.b, uint32(n)) }

func (c *copier) int64(n int64) {
	c.int32(8)
	c.b = binary.BigEndian.AppendUint64(c.b, uint64(n))
}

func (c *copier) bool(v bool) {
	c.int32(1)
	if v {
		c.b = append(c.b, 1)
	} else {
		c.b = append(c.b, 0)
	}
}

func (c *copier) bytes(b []byte) {
	c.int32(int32(len(b)))
	c.b = append(c.b, b...)
}

func (c *copier) orNull(b []byte) {
	if len(b) == 0 {
		c.int32(-1)
		return
	}
	c.bytes(b)
}

// texts writes a text[]: dimensions, whether it holds NULL, the type of its
// elements, and for its one dimension the length and the first index.
func (c *copier) texts(list Texts) {
	start := len(c.b)
	c.int32(0)
	if list.Len() == 0 {
		c.int32(0)
		c.int32(0)
		c.int32(textOID)
	} else {
		c.int32(1)
		c.int32(0)
		c.int32(textOID)
		c.int32(int32(list.Len()))
		c.int32(1)
		for s := range list.All() {
			c.bytes(s)
		}
	}
	binary.BigEndian.PutUint32(c.b[start:], uint32(len(c.b)-start-4))
}
