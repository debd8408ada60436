package record

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"chartgate/internal/authz"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// What a group gives back is the bodies that each verdict has alone, whatever
// they have in common, and whoever else wrote to the group.
func TestBodiesThatAreAlikeAreReadAsTheyWere(t *testing.T) {
	shorter := 0
	rapid.Check(t, func(t *rapid.T) {
		var want [][]byte
		group := group{kind: groupDecisions, first: 7}
		whole := 0
		for range rapid.IntRange(1, 3).Draw(t, "calls") {
			call := rapid.SliceOfN(anyVerdict, 1, 3).Draw(t, "verdicts")
			var e encoder
			e.begin()
			for range rapid.IntRange(1, 8).Draw(t, "decisions") {
				v := rapid.SampledFrom(call).Draw(t, "verdict")
				if rapid.Bool().Draw(t, "another decision") {
					v.ID = uuid.New()
				} else {
					v.ID[15]++
				}
				if rapid.Bool().Draw(t, "another moment") {
					v.At = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at"))
				}
				v.RequestID = rapid.SampledFrom([]string{"", "request-1", strings.Repeat("r", 300), strings.Repeat("s", 120)}).Draw(t, "request id")
				if rapid.Bool().Draw(t, "many bases") {
					v.Exact.Bases = strings.Split(strings.Repeat("a basis of its own ", 100)+v.RequestID, " ")[:100]
				}
				if rapid.Bool().Draw(t, "a precedent") {
					v.Precedent = &authz.Precedent{}
					if _, err := appendBody(nil, &v); err != nil {
						t.Fatal(err)
					}
				}
				body, err := appendBody(nil, &v)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.add(&v); err != nil {
					t.Fatal(err)
				}
				want = append(want, body)
				whole += recordHead + len(body)
			}
			group.payload = append(group.payload, e.b[groupSize:]...)
		}
		group.count = uint32(len(want))
		if len(group.payload) > whole {
			t.Fatalf("%d bytes, whole they have %d", len(group.payload), whole)
		} else if len(group.payload) < whole {
			shorter++
		}
		n := 0
		for seq, body := range group.records() {
			if seq != group.first+uint64(n) || !bytes.Equal(body, want[n]) {
				t.Fatalf("record %d of %d is number %d\n%x, want\n%x", n, len(want), seq, body, want[n])
			}
			n++
		}
		if n != len(want) {
			t.Fatalf("%d records of %d", n, len(want))
		}
		file := segmentHead{first: group.first}.append(nil)
		for range 2 {
			at := len(file)
			file = append(append(file, make([]byte, groupSize)...), group.payload...)
			sealGroup(file[at:], groupDecisions, group.count, group.first)
		}
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 * len(want) {
			var got, wanted View
			if err := errors.Join(r.Next(&got), wanted.Read(want[i%len(want)])); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, wanted) {
				t.Fatalf("decision %d of a file is %+v, want %+v", i, got, wanted)
			}
		}
	})
	if shorter == 0 {
		t.Error("nothing was taken over: nothing was tested")
	}
}

// A batch takes half of the room that its decisions would take whole, whether or
// not they follow precedents.
func TestABatchTakesHalfTheRoom(t *testing.T) {
	var e encoder
	e.begin()
	whole, at, id := 0, time.Now(), uuid.New()
	for i := range 100 {
		v := Sample(i)
		v.ID, v.At, v.Facts.Now, v.Facts.Latest = id, at, at, at
		v.ID[15], v.RequestID, v.Release = byte(i), "", "sha256:0123456789abcdef0123456789abcdef"
		if i%2 > 0 {
			v.Precedent = &authz.Precedent{}
		}
		body, err := appendBody(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.add(&v); err != nil {
			t.Fatal(err)
		}
		whole += recordHead + len(body)
	}
	if n := len(e.b) - groupSize; n > whole*6/10 {
		t.Errorf("%d bytes, whole they would have %d", n, whole)
	}
}

// What makes no body is told, and takes no more room than a body may.
func FuzzAlike(f *testing.F) {
	whole := []byte(strings.Repeat("a body ", 50))
	piece := [2]int{10, 40}
	f.Add(alike(nil, append([]byte("0123456789"), whole[10:]...), parts{piece}, whole, parts{piece}), whole)
	f.Add([]byte{bodyAlike, 0}, []byte{})
	f.Add([]byte{bodyAlike, 1, 'x', 0, 0, 1, 0}, []byte{})
	f.Fuzz(func(t *testing.T, record, whole []byte) {
		if len(record) == 0 {
			return
		}
		made, ok := appendAlike([]byte("before"), record, whole)
		if !bytes.HasPrefix(made, []byte("before")) || len(made) > len("before")+maxAlike+2*maxPiece || ok && len(made) > len("before")+maxAlike {
			t.Fatalf("%d bytes, %v", len(made), ok)
		}
		g := group{kind: groupDecisions, count: 2, payload: append([]byte{byte(len(record)), 0, 0, 0}, record...)}
		for range g.records() {
		}
	})
}

// A group whose first record is not whole has none to take over from; the
// records of a group of settings begin with anything; and no body has no end.
func TestNothingIsTakenOverFromNothing(t *testing.T) {
	g := group{count: 1, payload: []byte{5, 0, 0, 0, bodyAlike, 0, 0, 0, 1}}
	most := slices.Clip(append([]byte{bodyAlike}, bytes.Repeat([]byte{0, 0, 0, maxPiece}, maxAlike/maxPiece)...))
	for size, record := range map[int][]byte{maxAlike: append(most, 0), maxAlike + 1: append(most, 1, 'x'), maxAlike + maxPiece: append(most, 0, 0, 0, maxPiece, 0)} {
		if made, ok := appendAlike(nil, record, make([]byte, maxPiece)); len(made) != size || ok != (size <= maxAlike) {
			t.Errorf("a body of %d bytes, want %d: %v", len(made), size, ok)
		}
	}
	for kind, want := range map[byte]int{groupDecisions: 0, groupSettings: 1} {
		g.kind = kind
		n := 0
		for range g.records() {
			n++
		}
		if n != want {
			t.Errorf("a group of kind %d: %d records, want %d", kind, n, want)
		}
	}
}
