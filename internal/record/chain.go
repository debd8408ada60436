package record

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// hash is one link of a chain.
type hash = [sha256.Size]byte

// What a link holds.
const (
	linkDecision = 'd'
	linkChange   = 'c'
	linkGap      = 'g' // entries that were lost; the change record.gap says which
)

// linker computes the links of a chain. It allocates nothing.
type linker struct{ scratch []byte }

// next is the link of entry seq after prev: SHA-256(prev, seq, kind, content),
// with seq as eight bytes, big-endian, as Postgres sends them.
func (l *linker) next(prev hash, seq uint64, kind byte, content []byte) hash {
	b := append(l.scratch[:0], prev[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = append(b, kind)
	b = append(b, content...)
	l.scratch = b
	return sha256.Sum256(b)
}

// parent is the end of the chain that a chain goes on from.
type parent struct {
	chain uuid.UUID // zero when there is none
	last  uint64
	head  hash
}

// genesis is the head of a chain that holds nothing yet. It says which chain it
// is and where the one before it ended, so that neither can be exchanged.
// record_open computes the same in SQL.
func genesis(chain uuid.UUID, p parent) hash {
	b := []byte("chartgate record chain 1")
	b = append(b, chain[:]...)
	b = append(b, p.chain[:]...)
	b = binary.BigEndian.AppendUint64(b, p.last)
	b = append(b, p.head[:]...)
	return sha256.Sum256(b)
}
