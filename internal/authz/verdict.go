package authz

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// Verdict is one decision with all that belongs to it: what was asked, on what
// it rests, what was decided and what may be answered. It is what is recorded.
type Verdict struct {
	ID        uuid.UUID
	At        time.Time
	Request   Request // cleaned: see Request.Clean
	Facts     Facts
	Exact     Decision // as decided; what is recorded
	Shown     Decision // as answered (promise P8)
	Release   string   // the policy revision that decided
	Named     string   // the policy revision that the answer names: another where naming Release would show what may not be seen (promise P8)
	RequestID string   // X-Request-ID of the asking service, "" when none

	// Precedent is what the verdict follows, or has set; nil where it is on its own.
	Precedent *Precedent

	// Of a user's own bundle: the input, as JSON, of which the record keeps a
	// digest, and the context of its decision. Of a list (CodeListed): what was
	// asked and what was listed.
	Input   []byte
	Context map[string]any
}

// NewVerdict begins a verdict on r: it denies until somebody decides. Ids of
// later verdicts sort later.
func NewVerdict(r Request, release, requestID string) (v Verdict) {
	v.Begin(r, requestID)
	v.Release, v.Named = release, release
	return v
}

// Begin is NewVerdict in place: v must be the zero verdict.
func (v *Verdict) Begin(r Request, requestID string) {
	a := Arrive()
	a.Begin(v, r, requestID)
}

// Arrival is when some questions arrived together.
type Arrival struct {
	at   time.Time
	next uuid.UUID
}

// Arrive returns the arrival of questions that are there now.
func Arrive() Arrival { return Arrival{time.Now(), newID()} }

func newID() uuid.UUID {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.New()
	}
	return id
}

// Begin is Verdict.Begin for one of the questions. Their ids differ in the random
// part, which counts on (RFC 9562, 6.2, method 2).
func (a *Arrival) Begin(v *Verdict, r Request, requestID string) {
	v.ID, v.At, v.Request, v.RequestID = a.next, a.at, r.Clean(), requestID
	v.Exact = Decision{Code: CodeUnavailable, Bases: []string{}}
	v.Shown = v.Exact
	const random = 1<<62 - 1
	if n := binary.BigEndian.Uint64(a.next[8:]); n&random < random {
		binary.BigEndian.PutUint64(a.next[8:], n+1)
	} else {
		a.next = newID()
	}
}

func init() {
	uuid.EnableRandPool() // ids are unique, and no secrets
}
