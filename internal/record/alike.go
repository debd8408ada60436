package record

import (
	"bytes"
	"encoding/binary"
)

// Decisions that are made together have much in common: half of their bodies
// are the times, the settings, the release and the revision. In a group such a
// body may be written as what it takes over from the last one that was written
// whole, instead of itself:
//
//	0   alike     1 byte, which no body begins with
//	    pieces    each: 1 byte n, n bytes as they are, and if more follows,
//	              2 bytes from and 1 byte m: m bytes of the whole body, from there on
//
// It is a matter of the files alone: who reads a group gets bodies.
const (
	bodyAlike  = 0xFF
	maxAlike   = 1<<16 - 1 // a body that is longer is written whole, and no piece of it is taken over
	maxPiece   = 255
	worthwhile = 8 // bytes to take over: a piece costs four
)

// parts are where a body has what it may have in common with others: from, to.
type parts [4][2]int

// alike appends to b what makes body out of whole, or nothing where that is not
// shorter.
func alike(b, body []byte, at parts, whole []byte, wholeAt parts) []byte {
	if len(body) > maxAlike || len(whole) > maxAlike {
		return b
	}
	start, done := len(b), 0
	b = append(b, bodyAlike)
	for i, p := range at {
		from, piece := wholeAt[i][0], body[p[0]:p[1]]
		if len(piece) < worthwhile || len(piece) > maxPiece || p[0]-done > maxPiece || !bytes.Equal(piece, whole[from:wholeAt[i][1]]) {
			continue
		}
		b = appendPiece(b, body[done:p[0]], from, len(piece))
		done = p[1]
	}
	for ; len(body)-done > maxPiece; done += maxPiece {
		b = appendPiece(b, body[done:done+maxPiece], 0, 0)
	}
	b = append(append(b, byte(len(body)-done)), body[done:]...)
	if len(b)-start >= len(body) {
		return b[:start]
	}
	return b
}

func appendPiece(b, own []byte, from, size int) []byte {
	b = append(append(b, byte(len(own))), own...)
	return append(binary.LittleEndian.AppendUint16(b, uint16(from)), byte(size))
}

// appendAlike appends to b the body that record stands for, which begins with
// bodyAlike. It reports false where it is none.
func appendAlike(b, record, whole []byte) ([]byte, bool) {
	start := len(b)
	for rest := record[1:]; ; {
		if len(rest) == 0 || len(rest)-1 < int(rest[0]) {
			return b, false
		}
		n := 1 + int(rest[0])
		b, rest = append(b, rest[1:n]...), rest[n:]
		if len(rest) == 0 {
			return b, len(b)-start <= maxAlike
		}
		if len(rest) < 3 {
			return b, false
		}
		from, size := int(binary.LittleEndian.Uint16(rest)), int(rest[2])
		if from+size > len(whole) || len(b)-start > maxAlike {
			return b, false
		}
		b, rest = append(b, whole[from:from+size]...), rest[3:]
	}
}
