package record

import (
	"encoding/binary"
	"iter"
)

// Bodies are decisions as they stand on record, many at a time: what one
// goroutine reads and another looks at. They are copies, and may be filled
// again once nobody looks at them.
type Bodies struct {
	b []byte // each after its length, as in a group
	n int
}

// How many decisions, or bytes, one filling takes.
const (
	fullCount = 2048
	fullBytes = 1 << 20
)

// Len is how many decisions there are.
func (b *Bodies) Len() int { return b.n }

// All yields the body of each decision, for View.Read.
func (b *Bodies) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := b.b; len(rest) >= recordHead; {
			n := recordHead + int(binary.LittleEndian.Uint32(rest))
			if !yield(rest[recordHead:n:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

func (b *Bodies) clear() { b.b, b.n = b.b[:0], 0 }

func (b *Bodies) full() bool { return b.n >= fullCount || len(b.b) >= fullBytes }

func (b *Bodies) add(body []byte) {
	b.b = binary.LittleEndian.AppendUint32(b.b, uint32(len(body)))
	b.b = append(b.b, body...)
	b.n++
}
